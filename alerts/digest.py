"""The digest: one message that lists what the budget of false alerts held back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alerts.alert import Alert, AlertState
from alerts.severity import Severity
from detector.finding import rfc3339

SCHEMA = "tailrace.digest/1"
LISTED = 50
"""A digest names so many alerts, the most severe; the report has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One alert in a digest.

    Attributes:
        id: the alert's.
        finding: id of its first finding, what `tailrace explain` takes.
        title: the change in the fewest words.
        severity: as the alert has it.
        state: whether it fires.
        started: when it began, RFC 3339.
    """

    id: str
    finding: str
    title: str
    severity: Severity
    state: AlertState
    started: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What was held back since the digest before.

    Attributes:
        id: stable over attempts to deliver it.
        made: when, RFC 3339.
        reason: why alerts were held back, in words.
        alert_count: how many there are.
        alerts: the most severe of them, at most `LISTED`.
    """

    id: str
    made: str
    reason: str
    alert_count: int
    alerts: tuple[Entry, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the public form, as `docs/formats.md` specifies it."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "made": self.made,
            "reason": self.reason,
            "alert_count": self.alert_count,
            "alerts": [
                {name: getattr(entry, name) for name in Entry.__slots__} for entry in self.alerts
            ],
        }


def make_digest(alerts: Sequence[Alert], *, reason: str, now: float) -> Digest:
    """Return the digest of `alerts`, in their order."""
    ids = "\0".join(["digest", rfc3339(now), *(alert.id for alert in alerts)])
    return Digest(
        id=hashlib.blake2b(ids.encode(), digest_size=8).hexdigest(),
        made=rfc3339(now),
        reason=reason,
        alert_count=len(alerts),
        alerts=tuple(
            Entry(
                id=alert.id,
                finding=alert.findings[0].id,
                title=alert.title,
                severity=alert.severity,
                state=alert.state,
                started=rfc3339(alert.started),
            )
            for alert in alerts[:LISTED]
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
        alert_count=public["alert_count"],
        alerts=tuple(Entry(**entry) for entry in public["alerts"]),
    )
