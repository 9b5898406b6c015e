"""`tailrace alert test RECEIVER`: one message, now, to see that a receiver works."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from alerts import words
from alerts.incident import Incident, Root
from alerts.receivers import Message, make_receiver
from alerts.settings import ReceiverSettings
from detector.finding import Finding, finding_id
from probes.window import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """A test message that arrived.

    Attributes:
        receiver: who has it.
        message_id: its id.
        took_s: how long the attempt took.
    """

    __test__ = False  # pytest: not a class of tests

    receiver: str
    message_id: str
    took_s: float


def send_test(settings: ReceiverSettings, *, clock: Callable[[], float] = time.time) -> TestResult:
    """Send one message that is marked as a test, and wait for the answer.

    Raises:
        DeliveryError: it did not arrive; says why, and what to do.
    """
    receiver = make_receiver(settings)
    now = clock()
    message = Message(
        id=f"msg_test_{secrets.token_hex(8)}", event="firing", incident=_example(now), test=True
    )
    try:
        started_s = time.monotonic()
        receiver.send(message, now=now)
        return TestResult(
            receiver=settings.name,
            message_id=message.id,
            took_s=time.monotonic() - started_s,
        )
    finally:
        receiver.close()


def _example(now: float) -> Incident:
    pair = Pair("web", "api", 8080)
    finding = Finding(
        id=finding_id(pair, "request_latency", "up", now),
        pair=pair,
        signal="request_latency",
        direction="up",
        onset=now - 20,
        detected=now,
        before=0.0021,
        after=0.0204,
        ratio=0.0204 / 0.0021,
        unit="s",
        significance=8.0,
        cause="",
        state="firing",
        side="server",
    )
    return Incident(
        id=finding.id,
        state="firing",
        severity="warning",
        suppressed="",
        started=finding.onset,
        detected=now,
        changed=now,
        resolved=None,
        ended_as=None,
        roots=(Root(service="api", side="server", score=1.0, why="this is a test"),),
        findings=(finding.id,),
        symptoms=(finding,),
        affected=("web",),
        trigger=None,
        impact="none: this is a test, nothing is wrong",
        picture="▁▁▂▁▁▁▁▂▁▁▇█▇█",
        title=words.headline(finding),
        summary=f"this is a test, nothing is wrong. {words.what(finding)}",
    )
