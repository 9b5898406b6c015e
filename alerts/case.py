"""An incident while it goes on: what the state machine of `alerts.grouping` keeps of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from alerts.impact import Symptom
from alerts.incident import Root, State, Trigger
from alerts.severity import Severity
from detector import report
from detector.finding import Finding

MOST_WHOLE: Final = 64
"""An incident keeps so many findings whole, roots before effects; of others what it must."""


def incident_id(first: Finding) -> str:
    """Return the stable id of the incident that a finding opens."""
    return hashlib.blake2b(b"incident\0" + first.id.encode(), digest_size=8).hexdigest()


@dataclass(slots=True, kw_only=True)
class Case:
    """An open incident.

    Attributes:
        id: of the incident.
        state: see `alerts.incident.State`.
        detected: end of the window that showed it first, epoch seconds.
        grown: when a finding joined it last, epoch seconds.
        changed: when its state or its findings changed last, epoch seconds.
        symptoms: of its findings those that are kept whole, by id.
        ids: the onset of every finding, by id, in order of arrival.
        firing: ids of the findings that have not ended.
        unexplained: ids of the findings that no other explains.
        adopted: ids of the findings that became the new normal.
        latest_adopted: whether the finding that ended last did.
        calm_since: end of its latest finding, once all have ended; epoch seconds.
        flaps: how often it, or one like it a short while ago, came back.
        severity: the worst it has been.
        lasting: whether it has lasted long enough to be judged by that.
        roots: where the cause lies, the most probable first.
        trigger: what probably set it off.
        picture: the first symptom's signal before and after the onset.
        fired: whether it was confirmed, so that receivers may have been told of it.
        dirty: whether findings changed since it was judged.
    """

    id: str
    detected: float
    grown: float
    changed: float
    state: State = "pending"
    symptoms: dict[str, Symptom] = field(default_factory=dict)
    ids: dict[str, float] = field(default_factory=dict)
    firing: set[str] = field(default_factory=set)
    unexplained: set[str] = field(default_factory=set)
    adopted: set[str] = field(default_factory=set)
    latest_adopted: bool = False
    calm_since: float | None = None
    flaps: int = 0
    severity: Severity = "info"
    lasting: bool = False
    roots: tuple[Root, ...] = ()
    trigger: Trigger | None = None
    picture: str = ""
    fired: bool = False
    dirty: bool = True

    @property
    def findings(self) -> list[Finding]:
        """Return the findings that are kept whole, in order of arrival."""
        return [symptom.finding for symptom in self.symptoms.values()]

    @property
    def started(self) -> float:
        """Return the onset of the earliest finding, epoch seconds."""
        return min(self.ids.values())

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            **{name: sorted(getattr(self, name)) for name in _SETS},
            "ids": list(self.ids.items()),
            "symptoms": [
                [report.to_state(s.finding), s.rate, s.share] for s in self.symptoms.values()
            ],
            "roots": [[r.service, r.side, r.score, r.why] for r in self.roots],
            "trigger": _trigger_values(self.trigger),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_json` was made of."""
        symptoms = [
            Symptom(finding=report.from_state(finding), rate=rate, share=share)
            for finding, rate, share in data["symptoms"]
        ]
        return cls(
            **{name: data[name] for name in _PLAIN},
            firing=set(data["firing"]),
            unexplained=set(data["unexplained"]),
            adopted=set(data["adopted"]),
            ids=dict(data["ids"]),
            symptoms={symptom.finding.id: symptom for symptom in symptoms},
            roots=tuple(
                Root(service=service, side=side, score=score, why=why)
                for service, side, score, why in data["roots"]
            ),
            trigger=_trigger_of(data["trigger"]),
        )


_PLAIN: Final = (
    "id", "detected", "grown", "changed", "state", "latest_adopted", "calm_since", "flaps",
    "severity", "lasting", "picture", "fired", "dirty",
)  # fmt: skip
_SETS: Final = ("firing", "unexplained", "adopted")


def _trigger_values(trigger: Trigger | None) -> list[Any] | None:
    if trigger is None:
        return None
    return [trigger.kind, trigger.service, trigger.at, trigger.detail]


def _trigger_of(values: list[Any] | None) -> Trigger | None:
    """Return a trigger of its values in order; None for None."""
    if values is None:
        return None
    kind, service, at, detail = values
    return Trigger(kind=kind, service=service, at=at, detail=detail)
