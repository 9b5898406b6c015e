"""`tailrace alert test RECEIVER`: one message, now, to see that a receiver works."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from alerts.grouping import Incidents
from alerts.incident import Incident
from alerts.life import MOST_WAIT_S
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
        ValueError: the settings lack something.
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
    detected = now - MOST_WAIT_S
    onset = detected - 5
    finding = Finding(
        id=finding_id(pair, "request_latency", "up", onset),
        pair=pair,
        signal="request_latency",
        direction="up",
        onset=onset,
        detected=detected,
        before=0.0021,
        after=0.0204,
        ratio=0.0204 / 0.0021,
        unit="s",
        significance=8.0,
        cause="this is a test, nothing is wrong",
        state="firing",
        side="server",
    )
    incidents = Incidents()
    incidents.step([finding], now=detected)
    return incidents.step([], now=now)[0].incident
