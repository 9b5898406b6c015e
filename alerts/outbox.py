"""The outbox: every message that is owed to a receiver, until it is sent or given up.

A row is pending, then "sent" or "dropped" for good. Rows of one incident go to one receiver in
order: a later one waits until the earlier one is sent or dropped.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alerts import incident as incidents
from alerts.database import Database
from alerts.digest import Digest
from alerts.errors import DeliveryError
from alerts.incident import Incident

LONGEST_DELAY_S = 3600.0
"""No attempt is put off for longer. A row that is due later than this was written before the
clock was set back, and counts as due."""

_FIRST_PENDING = (
    "FROM deliveries AS row WHERE receiver = ?1 AND state = 'pending' AND NOT EXISTS"
    " (SELECT 1 FROM deliveries AS earlier WHERE earlier.incident_id = row.incident_id"
    " AND earlier.receiver = row.receiver AND earlier.state = 'pending'"
    " AND earlier.sequence < row.sequence)"
)

_SUPERSEDED = (
    "EXISTS (SELECT 1 FROM deliveries AS earlier WHERE earlier.incident_id = row.incident_id"
    " AND earlier.receiver = row.receiver AND earlier.sequence < row.sequence)"
    " AND EXISTS (SELECT 1 FROM deliveries AS later WHERE later.incident_id = row.incident_id"
    " AND later.receiver = row.receiver AND later.state = 'pending'"
    " AND later.sequence > row.sequence)"
)
"""Between the first message about an incident, which makes the place that others need, and the
latest, which says how it is now, what has not been sent is of no use any more."""

DeliveryState = Literal["pending", "sent", "dropped"]
Event = incidents.Event | Literal["digest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message owed to one receiver.

    Attributes:
        id: the message's id, the same in every attempt.
        receiver: who gets it.
        incident_id: the incident it is about; of a digest its own id.
        event: what it tells of the incident, or "digest".
        payload: the incident's public form as it was then, or the digest's.
        created: when it was stored, epoch seconds.
        due: when it is to be attempted next, epoch seconds.
        state: "pending", "sent" or "dropped".
        attempts: how many were made.
        reason: of the latest failed attempt, "" when there was none.
        detail: a few words more about it.
        finished: when it was sent or dropped, epoch seconds.
        receipt: what the receiver gave back.
    """

    id: str
    receiver: str
    incident_id: str
    event: Event
    payload: Mapping[str, Any]
    created: float
    due: float
    state: DeliveryState
    attempts: int
    reason: str
    detail: str
    finished: float | None
    receipt: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverHealth:
    """How deliveries to one receiver go.

    Attributes:
        receiver: its name.
        pending: messages still owed to it.
        oldest_pending: when the oldest of them was stored, epoch seconds.
        sent: messages that it has, as far back as the store keeps them.
        dropped: messages given up, as far back as the store keeps them.
        last_success: epoch seconds; None when there was none.
        last_failure: epoch seconds; None when there was none.
        last_error: reason and detail when the latest attempt failed, else "".
        disabled: it answered 410 Gone since the daemon started.
    """

    receiver: str
    pending: int
    oldest_pending: float | None
    sent: int
    dropped: int
    last_success: float | None
    last_failure: float | None
    last_error: str
    disabled: bool


def message_id(about: str, event: str, receiver: str, *, number: int = 1) -> str:
    """Return the stable id of the message that tells `receiver` of an incident, or of a digest.

    Args:
        about: id of either.
        event: what it tells.
        receiver: name of who gets it.
        number: so many messages of it the receiver has then got.
    """
    text = "\0".join((about, event, receiver, str(number)))
    return f"msg_{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def enqueue(
    db: sqlite3.Connection,
    incident: Incident,
    *,
    event: incidents.Event,
    receiver: str,
    id_: str,
    now: float,
) -> None:
    """Store that `receiver` is owed a message; called within a transaction, at most once each."""
    _enqueue(db, id_, incident.id, event, incident.to_json(), receiver=receiver, now=now)


def enqueue_digest(db: sqlite3.Connection, digest: Digest, *, receiver: str, now: float) -> None:
    """Store that `receiver` is owed a digest; called within a transaction, at most once each."""
    id_ = message_id(digest.id, "digest", receiver)
    _enqueue(db, id_, digest.id, "digest", digest.to_json(), receiver=receiver, now=now)


def _enqueue(
    db: sqlite3.Connection,
    id_: str,
    about: str,
    event: Event,
    public: Mapping[str, Any],
    *,
    receiver: str,
    now: float,
) -> None:
    payload = json.dumps(public, ensure_ascii=False, allow_nan=False)
    db.execute(
        "INSERT OR IGNORE INTO deliveries (id, receiver, incident_id, event, payload, created, due,"
        " state, attempts, reason, detail, receipt)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', 0, '', '', '{}')",
        (id_, receiver, about, event, payload, now, now),
    )


class Outbox:
    """What the delivery threads ask of the database. Every method may raise `StoreError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, receivers: Sequence[str]) -> None:
        """Make receivers known, and enable those that had answered 410 Gone."""
        with self._database.transaction() as db:
            db.executemany(
                "INSERT INTO receivers (name, last_error, disabled) VALUES (?, '', 0)"
                " ON CONFLICT (name) DO UPDATE SET disabled = 0",
                [(name,) for name in receivers],
            )

    def next_due(self, receiver: str, *, now: float) -> tuple[Delivery | None, float | None]:
        """Return the message to send now, or None and when there will be one (None: not known)."""
        # Of each incident only the first pending row may go. One that is due impossibly late was
        # written before the clock was set back. What failed is due after what was never tried
        due = self._database.rows(
            f"SELECT * {_FIRST_PENDING} AND (due <= ?2 OR due > ?2 + ?3) ORDER BY due, sequence"
            " LIMIT 1",
            (receiver, now, LONGEST_DELAY_S),
        )
        if due:
            return _delivery(due[0]), None
        later = self._database.rows(f"SELECT min(due) AS due {_FIRST_PENDING}", (receiver,))
        return None, later[0]["due"]

    def is_superseded(self, delivery: Delivery) -> bool:
        """Return whether a later message of the same incident says what this one would, better."""
        where = f"FROM deliveries AS row WHERE id = ? AND {_SUPERSEDED}"
        return bool(self._database.rows(f"SELECT 1 {where}", (delivery.id,)))

    def supersede(self, receiver: str, *, now: float) -> None:
        """Drop what later messages say better: a receiver that was away hears how things are."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE deliveries AS row SET state = 'dropped', reason = 'superseded',"  # noqa: S608 - a constant
                f" finished = ?1 WHERE receiver = ?2 AND state = 'pending' AND {_SUPERSEDED}",
                (now, receiver),
            )

    def earlier_receipt(self, delivery: Delivery) -> Mapping[str, str]:
        """Return what the receiver gave back for the incident's earlier message; {} for none."""
        rows = self._database.rows(
            "SELECT receipt FROM deliveries WHERE incident_id = ? AND receiver = ? AND id != ?"
            " AND state = 'sent' ORDER BY sequence DESC LIMIT 1",
            (delivery.incident_id, delivery.receiver, delivery.id),
        )
        receipt: Mapping[str, str] = json.loads(rows[0]["receipt"]) if rows else {}
        return receipt

    def sent(self, delivery: Delivery, *, receipt: Mapping[str, str], now: float) -> None:
        """Record that the receiver has the message."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE deliveries SET state = 'sent', attempts = attempts + 1, attempted = ?,"
                " finished = ?, reason = '', detail = '', receipt = ? WHERE id = ?",
                (now, now, json.dumps(dict(receipt)), delivery.id),
            )
            db.execute(
                "UPDATE receivers SET last_success = ?, last_error = '' WHERE name = ?",
                (now, delivery.receiver),
            )

    def put_off(self, delivery: Delivery, error: DeliveryError, *, due: float, now: float) -> None:
        """Record a failed attempt, and when to make the next."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE deliveries SET due = ?, attempts = attempts + 1, attempted = ?,"
                " reason = ?, detail = ? WHERE id = ?",
                (due, now, error.reason, error.detail, delivery.id),
            )
            _failed(db, delivery.receiver, error, now=now)

    def drop(self, delivery: Delivery, error: DeliveryError, *, now: float) -> None:
        """Record that the message is given up, and why; it stays visible in the store."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE deliveries SET state = 'dropped', attempted = ?, finished = ?,"
                " attempts = attempts + ?, reason = ?, detail = ? WHERE id = ?",
                (
                    now,
                    now,
                    0 if error.reason in ("expired", "disabled") else 1,
                    error.reason,
                    error.detail,
                    delivery.id,
                ),
            )
            _failed(db, delivery.receiver, error, now=now)

    def hasten(self, receiver: str, *, now: float) -> None:
        """Make every pending message due: the receiver is back."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE deliveries SET due = ? WHERE receiver = ? AND state = 'pending'",
                (now, receiver),
            )

    def health(self) -> list[ReceiverHealth]:
        """Return how deliveries go, one entry per receiver ever registered, by name."""
        rows = self._database.rows(
            "SELECT receivers.*, coalesce(sum(state = 'pending'), 0) AS pending,"
            " coalesce(sum(state = 'sent'), 0) AS sent,"
            " coalesce(sum(state = 'dropped'), 0) AS dropped,"
            " min(CASE WHEN state = 'pending' THEN created END) AS oldest"
            " FROM receivers LEFT JOIN deliveries ON receiver = name GROUP BY name ORDER BY name"
        )
        return [
            ReceiverHealth(
                receiver=row["name"],
                pending=row["pending"],
                oldest_pending=row["oldest"],
                sent=row["sent"],
                dropped=row["dropped"],
                last_success=row["last_success"],
                last_failure=row["last_failure"],
                last_error=row["last_error"],
                disabled=bool(row["disabled"]),
            )
            for row in rows
        ]

    def deliveries(
        self, *, receiver: str | None = None, state: DeliveryState | None = None
    ) -> list[Delivery]:
        """Return messages in the order they were stored, e.g. those that were dropped."""
        rows = self._database.rows(
            "SELECT * FROM deliveries WHERE (?1 IS NULL OR receiver = ?1)"
            " AND (?2 IS NULL OR state = ?2) ORDER BY sequence",
            (receiver, state),
        )
        return [_delivery(row) for row in rows]


def _failed(db: sqlite3.Connection, receiver: str, error: DeliveryError, *, now: float) -> None:
    text = f"{error.reason} ({error.detail})" if error.detail else error.reason
    db.execute(
        "UPDATE receivers SET last_failure = ?, last_error = ?, disabled = disabled OR ?"
        " WHERE name = ?",
        (now, text, error.disable, receiver),
    )


def _delivery(row: sqlite3.Row) -> Delivery:
    return Delivery(
        id=row["id"],
        receiver=row["receiver"],
        incident_id=row["incident_id"],
        event=row["event"],
        payload=json.loads(row["payload"]),
        created=row["created"],
        due=row["due"],
        state=row["state"],
        attempts=row["attempts"],
        reason=row["reason"],
        detail=row["detail"],
        finished=row["finished"],
        receipt=json.loads(row["receipt"]),
    )
