"""Findings and incidents as rows of their tables, and findings back, without loss."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping

from alerts.incident import Incident
from detector.finding import Finding
from probes.window import Pair

_COLUMNS = (
    "id", "client", "server", "port", "transport", "signal", "direction", "onset", "detected",
    "before", "after", "ratio", "unit", "significance", "cause", "side", "state", "ended",
    "evidence", "created", "updated",
)  # fmt: skip
_FIXED = frozenset({"id", "created"})

UPSERT = (
    f"INSERT INTO findings ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608 - columns above
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS if column not in _FIXED)
)


def _real(value: float | None) -> float | None:
    # float: numpy's own scalars are no SQLite type. NaN would become NULL anyway: say so here
    return None if value is None or math.isnan(value) else float(value)


def to_row(finding: Finding, *, now: float) -> tuple[object, ...]:
    """Return the parameters of `UPSERT`."""
    return (
        finding.id,
        finding.pair.client,
        finding.pair.server,
        int(finding.pair.port),
        finding.pair.transport,
        finding.signal,
        finding.direction,
        float(finding.onset),
        float(finding.detected),
        _real(finding.before),
        _real(finding.after),
        _real(finding.ratio),
        finding.unit,
        _real(finding.significance),
        finding.cause,
        finding.side,
        finding.state,
        _real(finding.ended),
        json.dumps(dict(finding.evidence), default=float),
        now,
        now,
    )


def from_row(row: sqlite3.Row) -> Finding:
    """Return the finding that a row holds."""
    evidence: Mapping[str, float | str] = json.loads(row["evidence"])
    significance = row["significance"]
    return Finding(
        id=row["id"],
        pair=Pair(row["client"], row["server"], row["port"], row["transport"]),
        signal=row["signal"],
        direction=row["direction"],
        onset=row["onset"],
        detected=row["detected"],
        before=row["before"],
        after=row["after"],
        ratio=row["ratio"],
        unit=row["unit"],
        significance=math.nan if significance is None else significance,
        cause=row["cause"],
        side=row["side"],
        state=row["state"],
        ended=row["ended"],
        evidence=evidence,
    )


def save_incident(db: sqlite3.Connection, incident: Incident, *, now: float) -> None:
    """Store an incident as it is now, and that its findings are of it.

    Args:
        db: within a transaction.
        incident: it.
        now: epoch seconds.
    """
    db.execute(
        "INSERT INTO incidents (id, state, severity, suppressed, started, resolved, updated,"
        " incident) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " state = excluded.state, severity = excluded.severity, suppressed = excluded.suppressed,"
        " started = excluded.started, resolved = excluded.resolved, updated = excluded.updated,"
        " incident = excluded.incident",
        (
            incident.id,
            incident.state,
            incident.severity,
            incident.suppressed,
            incident.started,
            incident.resolved,
            now,
            json.dumps(incident.to_json(), ensure_ascii=False, allow_nan=False),
        ),
    )
    # Of those that turned out to be part of another, that one has the findings
    if not incident.part_of:
        db.execute(
            "UPDATE findings SET incident_id = ?1 WHERE id IN (SELECT value FROM json_each(?2))"
            " AND incident_id IS NOT ?1",
            (incident.id, json.dumps(incident.findings)),
        )
