"""An incident: findings that share a cause, and the unit of what people are told.

In: findings that `alerts.grouping` put together, and what is known of their cause. Out: an
`Incident`, immutable; each change of it is a new one under the same id.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from alerts.severity import Severity
from detector.finding import Finding, rfc3339
from detector.sides import Side
from probes.window import Pair

SCHEMA = "tailrace.incident/1"
SYMPTOMS_SHOWN = 50
"""An incident carries so many of its findings whole; `findings` has the ids of all."""

State = Literal["pending", "firing", "recovering", "resolved"]
"""pending: not confirmed yet. recovering: nothing of it fires, but it may come back."""
Event = Literal["firing", "updated", "resolved"]
"""What receivers are told: that it is there, that it became another (worse, wider, a root that is
surer), that it is over."""
EndedAs = Literal["resolved", "adopted", "merged"]
"""merged: it turned out to be part of an older one."""
TriggerKind = Literal["deploy", "restart", "scale_out", "scale_in", "oom_kill", "reload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """Where the cause probably lies.

    Attributes:
        service: its name.
        side: which side of the pair that changed first it is on; "network": between the two.
        score: how much speaks for it, of all roots together, in [0, 1]; they are ranked by it.
        why: what speaks for it, in words.
    """

    service: str
    side: Side
    score: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What happened to a service near the onset, and so probably set it off.

    Attributes:
        kind: what happened.
        service: to whom.
        at: when, epoch seconds.
        detail: more of it in words, e.g. "image shop:1.3 in place of shop:1.2"; may be empty.
    """

    kind: TriggerKind
    service: str
    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One incident, as it is at a time.

    Attributes:
        id: stable over its life, over restarts and over replays.
        state: see `State`.
        severity: what it means to users, see `alerts.impact`.
        suppressed: why nobody is told of it, in words; "" when people are.
        started: onset of its earliest finding, epoch seconds.
        detected: end of the window that showed it first, epoch seconds.
        changed: end of the window that made it what it is, epoch seconds.
        resolved: when it was over, epoch seconds; None before that.
        ended_as: "adopted" when a change of it became the new normal, "merged" when it is part of
            an older one; None while it is not over.
        part_of: id of that older one; "" for none.
        roots: where the cause lies, the most probable first; at least one.
        findings: ids of all its findings, in order of their onset.
        symptoms: the findings of the most probable root first; at most `SYMPTOMS_SHOWN`.
        affected: services that feel it, in order of the alphabet.
        trigger: what probably set it off; None when nothing is known.
        impact: whose requests fail or are slow, and what share of them, in words; may be empty.
        picture: the first symptom's signal before and after the onset, oldest first, one character
            a value (U+2581 to U+2588, space for none); "" when unknown.
        title: the incident in the fewest words.
        summary: what changed, from what to what, since when, how sure, which side and why, who
            else is affected, in sentences.
    """

    id: str
    state: State
    severity: Severity
    suppressed: str
    started: float
    detected: float
    changed: float
    resolved: float | None
    ended_as: EndedAs | None
    roots: tuple[Root, ...]
    findings: tuple[str, ...]
    symptoms: tuple[Finding, ...]
    affected: tuple[str, ...]
    trigger: Trigger | None
    impact: str
    picture: str
    title: str
    summary: str
    part_of: str = ""

    @property
    def root(self) -> Root:
        """Where the cause most probably lies."""
        return self.roots[0]

    def to_json(self) -> dict[str, Any]:
        """Return the public form, as `docs/formats.md` specifies it."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "state": self.state,
            "severity": self.severity,
            "suppressed": self.suppressed,
            "started": rfc3339(self.started),
            "detected": rfc3339(self.detected),
            "changed": rfc3339(self.changed),
            "resolved": None if self.resolved is None else rfc3339(self.resolved),
            "ended_as": self.ended_as,
            "part_of": self.part_of,
            "roots": [
                {"service": r.service, "side": r.side, "score": round(r.score, 4), "why": r.why}
                for r in self.roots
            ],
            "findings": list(self.findings),
            "affected": list(self.affected),
            "trigger": None if self.trigger is None else _trigger_to_json(self.trigger),
            "impact": self.impact,
            "picture": self.picture,
            "title": self.title,
            "summary": self.summary,
            "symptoms": [finding_to_json(finding) for finding in self.symptoms],
        }


def incident_from_json(public: Mapping[str, Any]) -> Incident:
    """Return the incident behind a public form.

    Raises:
        KeyError, TypeError, ValueError: `public` is not an incident.
    """
    resolved, trigger = public["resolved"], public["trigger"]
    return Incident(
        id=public["id"],
        state=public["state"],
        severity=public["severity"],
        suppressed=public["suppressed"],
        started=_epoch_s(public["started"]),
        detected=_epoch_s(public["detected"]),
        changed=_epoch_s(public["changed"]),
        resolved=None if resolved is None else _epoch_s(resolved),
        ended_as=public["ended_as"],
        part_of=public.get("part_of", ""),
        roots=tuple(Root(**root) for root in public["roots"]),
        findings=tuple(public["findings"]),
        symptoms=tuple(finding_from_json(finding) for finding in public["symptoms"]),
        affected=tuple(public["affected"]),
        trigger=None if trigger is None else Trigger(**trigger | {"at": _epoch_s(trigger["at"])}),
        impact=public["impact"],
        picture=public["picture"],
        title=public["title"],
        summary=public["summary"],
    )


def _trigger_to_json(trigger: Trigger) -> dict[str, Any]:
    return {
        "kind": trigger.kind,
        "service": trigger.service,
        "at": rfc3339(trigger.at),
        "detail": trigger.detail,
    }


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """Return a finding's public form with null where JSON has no number (NaN, infinity)."""
    return {key: _plain(value) for key, value in finding.to_json().items()}


def _plain(value: Any) -> Any:
    if not isinstance(value, Real) or isinstance(value, int):
        return value
    number = float(value)  # numpy's own scalars are not JSON's
    return number if math.isfinite(number) else None


def finding_from_json(public: Mapping[str, Any]) -> Finding:
    """Return the finding behind a public form; evidence is not part of it.

    Raises:
        KeyError, ValueError: `public` is not a finding.
    """
    ended = public["ended"]
    significance = public["significance"]
    return Finding(
        id=public["id"],
        pair=Pair(public["client"], public["server"], public["port"], public["transport"]),
        signal=public["signal"],
        direction=public["direction"],
        onset=_epoch_s(public["onset"]),
        detected=_epoch_s(public["detected"]),
        before=public["before"],
        after=public["after"],
        ratio=public["ratio"],
        unit=public["unit"],
        significance=math.inf if significance is None else significance,
        cause=public["cause"],
        side=public.get("side", ""),
        state=public["state"],
        ended=None if ended is None else _epoch_s(ended),
    )


def _epoch_s(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()
