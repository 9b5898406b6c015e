"""The ledger of the budget of false alerts in `tailrace.db`, and what users say of alerts.

All functions run within a transaction of whoever stores alerts: tokens, incidents, alerts and
messages are there together after a crash, or none of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alerts import outbox
from alerts.alert import Alert, alert_from_json
from alerts.budget import DAY_S, WEEK_S, Budget, Incident, Ledger, Verdict
from alerts.database import Database
from alerts.digest import make_digest
from alerts.errors import StoreError

SINCE_VERSION = 3
"""Older files have no ledger; a reader finds nothing in them."""
_META = "budget"


def load(db: sqlite3.Connection, budget: Budget, *, now: float) -> Ledger:
    """Return the ledger as it was stored; a new one with all its tokens if there is none."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (_META,)).fetchone()
    saved: dict[str, Any] = {} if row is None else json.loads(row["value"])
    rows = db.execute(
        "SELECT incident FROM incidents WHERE open OR opened > ? ORDER BY opened, id",
        (now - DAY_S,),
    )
    return Ledger(
        budget,
        tokens=saved.get("tokens"),
        at=saved.get("at"),
        digested=saved.get("digested"),
        incidents=[Incident.from_json(json.loads(row["incident"])) for row in rows],
    )


def _save(db: sqlite3.Connection, ledger: Ledger) -> None:
    """Store the tokens, and the incidents that changed."""
    for id_ in sorted(ledger.touched):
        incident = ledger.incidents[id_]
        db.execute(
            "INSERT INTO incidents (id, opened, standing, proof, verdict, open, incident)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " standing = excluded.standing, proof = excluded.proof, verdict = excluded.verdict,"
            " open = excluded.open, incident = excluded.incident",
            (
                id_,
                incident.opened,
                incident.standing,
                incident.proof,
                incident.verdict,
                incident.open,
                json.dumps(incident.to_json()),
            ),
        )
        for alert_id in incident.members:
            db.execute("UPDATE alerts SET incident = ? WHERE id = ?", (id_, alert_id))
    ledger.touched.clear()
    state = {
        "tokens": ledger.tokens,
        "at": ledger.at,
        "digested": ledger.digested,
        "per_week": ledger.budget.per_week,
        "text": ledger.budget.text,
    }
    db.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_META, json.dumps(state)),
    )


def settle(
    db: sqlite3.Connection,
    ledger: Ledger,
    lasted: Collection[str],
    receivers: Sequence[str],
    *,
    now: float,
) -> list[Alert]:
    """Tell what may be told by now, list what has waited for long; return the first.

    Args:
        db: within a transaction.
        ledger: knows the alerts of this step already; it is stored.
        lasted: ids of findings that lasted with a plain effect.
        receivers: who is told.
        now: epoch seconds.
    """
    for finding_id in lasted:
        row = db.execute("SELECT alert_id FROM findings WHERE id = ?", (finding_id,)).fetchone()
        if row is not None and row["alert_id"] is not None:
            ledger.lasted(row["alert_id"])
    _take_verdicts(db, ledger, now=now)
    told = _alerts(db, ledger.settle(now=now))
    for alert in told:
        db.execute("UPDATE alerts SET held = '' WHERE id = ?", (alert.id,))
        for receiver in receivers:
            outbox.enqueue(db, alert, event="firing", receiver=receiver, now=now)
    if listed := _alerts(db, ledger.digest(now=now)):
        digest = make_digest(listed, reason=ledger.budget.reason, now=now)
        db.execute(
            "INSERT OR IGNORE INTO digests (id, made, digest) VALUES (?, ?, ?)",
            (digest.id, now, json.dumps(digest.to_json(), ensure_ascii=False)),
        )
        for receiver in receivers:
            outbox.enqueue_digest(db, digest, receiver=receiver, now=now)
    _save(db, ledger)
    ledger.forget(now=now)
    return told


def _alerts(db: sqlite3.Connection, ids: Sequence[str]) -> list[Alert]:
    rows = (db.execute("SELECT alert FROM alerts WHERE id = ?", (id_,)).fetchone() for id_ in ids)
    return [alert_from_json(json.loads(row["alert"])) for row in rows if row is not None]


def _take_verdicts(db: sqlite3.Connection, ledger: Ledger, *, now: float) -> None:
    """Let the ledger know what users have said since this was last called."""
    rows = db.execute(
        "SELECT alert_id, verdict, incident FROM verdicts JOIN alerts ON alerts.id = alert_id"
        " WHERE NOT taken ORDER BY given, alert_id"
    ).fetchall()
    for row in rows:
        if row["incident"] is not None and row["incident"] not in ledger.incidents:
            old = db.execute(
                "SELECT incident FROM incidents WHERE id = ?", (row["incident"],)
            ).fetchone()
            if old is not None:
                ledger.add(Incident.from_json(json.loads(old["incident"])))
        ledger.judge(row["alert_id"], row["verdict"], now=now)
    db.execute("UPDATE verdicts SET taken = 1 WHERE NOT taken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An alert, and what a user has said of it.

    Attributes:
        alert_id: its id.
        title: the change in the fewest words.
        verdict: what was said.
    """

    alert_id: str
    title: str
    verdict: Verdict


def give_verdict(state_dir: Path, id_prefix: str, verdict: Verdict, *, now: float) -> Judged:
    """Leave the daemon a user's word on an alert, whether it runs or not; the last one counts.

    Args:
        state_dir: the daemon's.
        id_prefix: the start of the id of an alert, or of one of its findings.
        verdict: "confirmed" or "dismissed".
        now: epoch seconds.

    Raises:
        StoreError: there is no such alert, or it cannot be stored.
    """
    database = Database.beside(state_dir)
    try:
        rows = database.rows(
            "SELECT DISTINCT alerts.id, json_extract(alert, '$.title') AS title FROM alerts"
            " LEFT JOIN findings ON alert_id = alerts.id WHERE ?1 != ''"
            " AND (substr(findings.id, 1, length(?1)) = ?1"
            " OR substr(alerts.id, 1, length(?1)) = ?1) ORDER BY alerts.id LIMIT 5",
            (id_prefix,),
        )
        if len(rows) != 1:
            raise StoreError(_not_one(id_prefix, [row["id"] for row in rows]), reason="missing")
        with database.transaction() as db:
            db.execute(
                "INSERT INTO verdicts (alert_id, verdict, given, taken) VALUES (?, ?, ?, 0)"
                " ON CONFLICT (alert_id) DO UPDATE SET verdict = excluded.verdict,"
                " given = excluded.given, taken = 0",
                (rows[0]["id"], verdict, now),
            )
        return Judged(alert_id=rows[0]["id"], title=rows[0]["title"], verdict=verdict)
    finally:
        database.close()


def _not_one(id_prefix: str, ids: Sequence[str]) -> str:
    if ids:
        return f"more than one alert starts with {id_prefix!r} ({', '.join(ids)}): give more of it"
    return f"no alert has the id {id_prefix!r}, nor a finding of it: list them by `tailrace report`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """How the budget was kept in the last week.

    Attributes:
        text: the budget, as the user wrote it.
        tokens: how many there are now.
        capacity: how many there can be.
        told: incidents that receivers were told of.
        free: of these, hard failures, which need no token.
        proven: of these, those that their own data or a user proved real.
        dismissed: those that a user called false.
        held: incidents that were held back.
    """

    text: str
    tokens: float
    capacity: float
    told: int
    free: int
    proven: int
    dismissed: int
    held: int


def spent(database: Database, *, now: float) -> Spent | None:
    """Return how the budget was kept; None when there never was one."""
    if database.version < SINCE_VERSION:
        return None
    rows = database.rows("SELECT value FROM meta WHERE key = ?", (_META,))
    if not rows:
        return None
    saved = json.loads(rows[0]["value"])
    budget = Budget(per_week=saved["per_week"], text=saved["text"])
    ledger = Ledger(budget, tokens=saved["tokens"], at=saved["at"])
    ledger.settle(now=now)
    [row] = database.rows(
        "SELECT coalesce(sum(standing != 'held'), 0) AS told,"
        " coalesce(sum(standing = 'free'), 0) AS free,"
        " coalesce(sum(standing = 'proven'), 0) AS proven,"
        " coalesce(sum(verdict = 'dismissed'), 0) AS dismissed,"
        " coalesce(sum(standing = 'held'), 0) AS held FROM incidents WHERE opened > ?",
        (now - WEEK_S,),
    )
    return Spent(
        text=budget.text,
        tokens=ledger.tokens,
        capacity=budget.capacity,
        **{name: int(row[name]) for name in ("told", "free", "proven", "dismissed", "held")},
    )
