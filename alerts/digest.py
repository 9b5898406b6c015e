"""The digest: one message that lists what the budget of false alerts held back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alerts.incident import Incident, State
from alerts.severity import Severity
from detector.finding import rfc3339

SCHEMA = "tailrace.digest/2"
LISTED = 50
"""A digest names so many incidents, the most severe; `tailrace incidents` has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One incident in a digest.

    Attributes:
        id: the incident's, what `tailrace explain` takes.
        title: the incident in the fewest words.
        severity: as the incident has it.
        state: as it was then.
        started: when it began, RFC 3339.
    """

    id: str
    title: str
    severity: Severity
    state: State
    started: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What was held back since the digest before.

    Attributes:
        id: stable over attempts to deliver it.
        made: when, RFC 3339.
        reason: why incidents were held back, in words.
        incident_count: how many there are.
        incidents: the most severe of them, at most `LISTED`.
    """

    id: str
    made: str
    reason: str
    incident_count: int
    incidents: tuple[Entry, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the public form, as `docs/formats.md` specifies it."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "made": self.made,
            "reason": self.reason,
            "incident_count": self.incident_count,
            "incidents": [
                {name: getattr(entry, name) for name in Entry.__slots__} for entry in self.incidents
            ],
        }


def make_digest(incidents: Sequence[Incident], *, reason: str, now: float) -> Digest:
    """Return the digest of `incidents`, in their order."""
    ids = "\0".join(["digest", rfc3339(now), *(incident.id for incident in incidents)])
    return Digest(
        id=hashlib.blake2b(ids.encode(), digest_size=8).hexdigest(),
        made=rfc3339(now),
        reason=reason,
        incident_count=len(incidents),
        incidents=tuple(
            Entry(
                id=incident.id,
                title=incident.title,
                severity=incident.severity,
                state=incident.state,
                started=rfc3339(incident.started),
            )
            for incident in incidents[:LISTED]
        ),
    )


def digest_from_json(public: Mapping[str, Any]) -> Digest:
    """Return the digest behind a public form.

    Raises:
        KeyError, TypeError: `public` is not a digest.
    """
    return Digest(
        id=public["id"],
        made=public["made"],
        reason=public["reason"],
        incident_count=public["incident_count"],
        incidents=tuple(Entry(**entry) for entry in public["incidents"]),
    )
