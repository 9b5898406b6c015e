"""Incidents and messages about them, for the tests of receivers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alerts.digest import Digest, Entry
from alerts.incident import Incident, Root, Trigger
from alerts.receivers import DigestMessage, Message
from probes.window import Pair
from tests.alerts.examples import T0, finding

GOLDEN = Path(__file__).parent / "golden"


def incident(**changes: Any) -> Incident:
    """Return an incident: api got slow after a deploy, and two services feel it."""
    first = finding(side="server")
    second = finding(
        onset=T0 + 4,
        pair=Pair("checkout", "api", 8080),
        signal="connect_errors",
        unit="ratio",
        before=0.0,
        after=0.062,
        ratio=None,
        cause="refused",
        side="server",
    )
    base = Incident(
        id="5f0c9d1be2a34477",
        state="firing",
        severity="warning",
        suppressed="",
        started=T0,
        detected=T0 + 15,
        changed=T0 + 15,
        resolved=None,
        ended_as=None,
        roots=(
            Root(
                service="api",
                side="server",
                score=0.87,
                why="its own time to answer explains 94 % of the rise, for every client",
            ),
            Root(service="db", side="server", score=0.13, why="api waits for it a little longer"),
        ),
        findings=(first.id, second.id),
        symptoms=(first, second),
        affected=("api", "checkout", "web"),
        trigger=Trigger(
            kind="deploy", service="api", at=T0 - 12, detail="image shop:1.3 in place of shop:1.2"
        ),
        impact="41 % of the requests of web are slow",
        picture="▁▁▂▁▁▁▂▁▁▁▂▁▁▆▇█▇██▇",
        title="api is slow: request latency up 9.7x",
        summary=(
            "request latency of web -> api:8080 rose from 2.1 ms to 20.4 ms, since 2026-01-02"
            " 03:04:05 UTC. How sure: very sure (1 in 10^8 by chance)."
        ),
    )
    return dataclasses.replace(base, **changes)


def worse(**changes: Any) -> Incident:
    """Return the same incident once it got worse."""
    third = finding(onset=T0 + 50, pair=Pair("search", "api", 8080), side="server")
    now = incident()
    what = {
        "severity": "critical",
        "changed": T0 + 75,
        "findings": (*now.findings, third.id),
        "symptoms": (*now.symptoms, third),
        "affected": ("api", "checkout", "search", "web"),
    }
    return dataclasses.replace(now, **(what | changes))


def over(**changes: Any) -> Incident:
    """Return the same incident when it is over."""
    end = {"state": "resolved", "changed": T0 + 600, "resolved": T0 + 600, "ended_as": "resolved"}
    return worse(**(end | changes))


def firing(**more: Any) -> Message:
    return Message(id="msg_1", event="firing", incident=incident(), **more)


def updated(**more: Any) -> Message:
    return Message(id="msg_2", event="updated", incident=worse(), **more)


def resolved(**more: Any) -> Message:
    return Message(id="msg_3", event="resolved", incident=over(), **more)


def adopted(**more: Any) -> Message:
    return Message(id="msg_3", event="resolved", incident=over(ended_as="adopted"), **more)


EVENTS = {"firing": firing, "updated": updated, "resolved": resolved, "adopted": adopted}


def digest(number: int = 12) -> DigestMessage:
    """Return a digest of so many incidents."""
    entries = tuple(
        Entry(
            id=f"{at:016x}",
            title=f"request latency up 9.7x: client-{at} -> api:8080",
            severity="warning",
            state="firing",
            started="2026-01-02T03:04:05.250Z",
        )
        for at in range(min(number, 50))
    )
    made = Digest(
        id="00000000000000d1",
        made="2026-01-02T03:14:05.250Z",
        reason="no token was left of false_alerts = 1/week",
        incident_count=number,
        incidents=entries,
    )
    return DigestMessage(id="msg_4", digest=made)


def texts(value: Any) -> Iterator[str]:
    """Return every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def answers(rendered: Any) -> None:
    """Check that what is told answers everything an on-call engineer asks."""
    whole = "\n".join(texts(rendered))
    for answer in (
        "request latency of web",  # what changed
        "from 2.1 ms to 20.4 ms",
        "very sure (1 in 10^8 by chance)",
        "as the server (87 % of the evidence)",
        "its own time to answer explains 94 % of the rise",
        "deploy of api, 12 s before the onset: image shop:1.3 in place of shop:1.2",
        "checkout, web",  # who else
        "41 % of the requests of web are slow",
        "tailrace explain 5f0c9d1be2a34477",
        'tailrace silence add service=api --for 2h --comment "…"',
        "▁▁▂▁▁▁▂▁▁▁▂▁▁▆▇█▇██▇",
    ):
        assert answer in whole, answer
    assert "Since" in whole or "startsAt" in str(rendered) or "timestamp" in str(rendered)
