"""The notification log in `tailrace.db`; see `alerts.notify` for what it is.

All functions run within a transaction of whoever stores incidents and messages: what was told
and the messages that tell it are there together after a crash, or none of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence

from alerts import silences
from alerts.incident import Incident
from alerts.notify import Notification, Notifier, Told
from alerts.policy import Policy, Rules


def policy(db: sqlite3.Connection, rules: Rules, *, now: float) -> Policy:
    """Return the rules with the silences that users have written by now."""
    return Policy(rules=rules, silences=tuple(silences.load(db, after=now)))


def settle(
    db: sqlite3.Connection,
    incidents: Sequence[Incident],
    policy: Policy,
    *,
    now: float,
    held: Mapping[str, str] | None = None,
) -> list[Notification]:
    """Return what is to be told now, and store that it is told; who calls stores the messages.

    Args:
        db: within a transaction.
        incidents: as for `Notifier.due`.
        policy: who is told of what.
        now: epoch seconds.
        held: as for `Notifier.due`.
    """
    due = load(db, incidents).due(incidents, policy, now, held=held)
    db.executemany(
        "INSERT INTO notifications (incident, receiver, event, told, severity, digest, sequence)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (incident, receiver) DO UPDATE SET"
        " event = excluded.event, told = excluded.told, severity = excluded.severity,"
        " digest = excluded.digest, sequence = excluded.sequence",
        [
            (
                each.incident.id,
                each.receiver,
                each.told.event,
                each.told.at,
                each.told.severity,
                each.told.digest,
                each.told.sequence,
            )
            for each in due
        ],
    )
    return due


def load(db: sqlite3.Connection, incidents: Sequence[Incident]) -> Notifier:
    """Return the log as far as it is about some incidents."""
    return Notifier(
        {
            (row["incident"], row["receiver"]): Told(
                event=row["event"],
                at=row["told"],
                severity=row["severity"],
                digest=row["digest"],
                sequence=row["sequence"],
            )
            for incident in incidents
            for row in db.execute("SELECT * FROM notifications WHERE incident = ?", (incident.id,))
        }
    )


def prune(db: sqlite3.Connection, *, before: float, still: Collection[str]) -> int:
    """Remove what was told before a moment, but of incidents that are not over; return how many.

    Args:
        db: within a transaction.
        before: epoch seconds.
        still: ids of the incidents that are not over.
    """
    return db.execute(
        "DELETE FROM notifications WHERE told < ?"
        " AND incident NOT IN (SELECT value FROM json_each(?))",
        (before, json.dumps(sorted(still))),
    ).rowcount
