"""Findings, incidents and settings for these tests, and a clock that moves when it is told to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alerts import blame, impact, telling
from alerts.case import Case, incident_id
from alerts.graph import ServiceGraph
from alerts.grouping import Change
from alerts.impact import Symptom
from alerts.incident import Incident
from alerts.settings import WebhookSettings
from alerts.store import Store
from detector.finding import Finding, finding_id
from probes.window import Pair

WEB_API = Pair("web", "api", 8080)
T0 = 1_767_323_045.25  # 2026-01-02T03:04:05.250Z


def finding(*, onset: float = T0, pair: Pair = WEB_API, **changes: Any) -> Finding:
    """Return a finding: request latency of web -> api:8080 rose from 2.1 ms to 20.4 ms."""
    signal = changes.get("signal", "request_latency")
    direction = changes.get("direction", "up")
    base = Finding(
        id=finding_id(pair, signal, direction, onset),
        pair=pair,
        signal="request_latency",
        direction="up",
        onset=onset,
        detected=onset + 15,
        before=0.0021,
        after=0.0204,
        ratio=0.0204 / 0.0021,
        unit="s",
        significance=8.4,
        cause="",
        state="firing",
        evidence={"samples": 412.0, "test": "exact", "log10_p": -8.4},
    )
    return dataclasses.replace(base, **changes)


def ended(of: Finding, *, state: str = "resolved", after_s: float = 300.0) -> Finding:
    """Return the same finding when it is over."""
    return dataclasses.replace(of, state=state, ended=of.onset + after_s)


def numbered(number: int, **changes: Any) -> Finding:
    """Return a finding that shares its fingerprint with no other number's."""
    base = {"pair": Pair(f"client-{number}", "api", 8080), "onset": T0 + number}
    return finding(**(base | changes))


def incident(*findings: Finding, **changes: Any) -> Incident:
    """Return the incident that findings make up; it is over when all of them are."""
    every = findings or (finding(),)
    ends = [f.ended for f in every if f.ended is not None]
    over = max(ends) if len(ends) == len(every) else None
    first = min(every, key=lambda f: f.detected)
    case = Case(
        id=incident_id(first),
        detected=first.detected,
        grown=first.detected,
        changed=first.detected if over is None else over,
        state="firing" if over is None else "resolved",
        symptoms={f.id: Symptom(finding=f, rate=10.0, share=1.0) for f in every},
        ids={f.id: f.onset for f in every},
        firing={f.id for f in every if f.ended is None},
        unexplained={f.id for f in every},
        adopted={f.id for f in every if f.state == "adopted"},
        roots=blame.rank(every, ServiceGraph(), together_s=15.0),
    )
    case.severity = impact.overall(case.symptoms.values(), lasted_s=0.0)
    ended_as = None if over is None else "adopted" if case.adopted else "resolved"
    made = telling.describe(case, resolved=over, ended_as=ended_as)
    return dataclasses.replace(made, **changes)


def told(findings: Sequence[Finding]) -> list[Change]:
    """Return findings as if each were an incident that is told at once, and told to be over."""
    incidents = [incident(each) for each in findings]
    return [Change(i, "firing" if i.resolved is None else "resolved") for i in incidents]


def commit(store: Store, findings: Sequence[Finding], **more: Any) -> list[Incident]:
    """Store findings, each as an incident of its own; return those that somebody is told of."""
    return store.commit(findings, **({"snapshot": None, "incidents": told(findings)} | more))


class Clock:
    """A clock for tests."""

    def __init__(self, now: float = T0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def webhook_settings(url: str, *, secret_file: Path | None = None, **more: Any) -> WebhookSettings:
    return WebhookSettings(name=more.pop("name", "pager"), url=url, secret_file=secret_file, **more)


def written(path: Path, secret: str) -> Path:
    """Write a secret's file."""
    path.write_text(f"{secret}\n")
    return path
