"""The ledger of the budget of false alerts in `tailrace.db`, and what users say of incidents.

All functions run within a transaction of whoever stores incidents: tokens, accounts, incidents and
messages are there together after a crash, or none of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alerts.budget import DAY_S, WEEK_S, Account, Budget, Ledger, Verdict
from alerts.database import Database
from alerts.errors import StoreError

SINCE_VERSION = 4
"""Older files have no accounts; a reader finds nothing in them."""
_META = "budget"


def load(db: sqlite3.Connection, budget: Budget, *, now: float) -> Ledger:
    """Return the ledger as it was stored; a new one with all its tokens if there is none."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (_META,)).fetchone()
    saved: dict[str, Any] = {} if row is None else json.loads(row["value"])
    rows = db.execute(
        "SELECT account FROM accounts WHERE open OR opened > ? ORDER BY opened, incident_id",
        (now - DAY_S,),
    )
    return Ledger(
        budget,
        tokens=saved.get("tokens"),
        at=saved.get("at"),
        digested=saved.get("digested"),
        accounts=[Account.from_json(json.loads(row["account"])) for row in rows],
    )


def save(db: sqlite3.Connection, ledger: Ledger) -> None:
    """Store the tokens, and the accounts that changed."""
    for id_ in sorted(ledger.touched):
        account = ledger.accounts[id_]
        db.execute(
            "INSERT INTO accounts (incident_id, opened, standing, verdict, open, account)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (incident_id) DO UPDATE SET"
            " standing = excluded.standing, verdict = excluded.verdict,"
            " open = excluded.open, account = excluded.account",
            (
                id_,
                account.opened,
                account.standing,
                account.verdict,
                account.open,
                json.dumps(account.to_json()),
            ),
        )
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


def take_proof(
    db: sqlite3.Connection, ledger: Ledger, lasted: Collection[str], *, now: float
) -> None:
    """Let the ledger know what has proved real since this was last called.

    Args:
        db: within a transaction.
        ledger: knows the incidents of this step already.
        lasted: ids of findings that lasted with a plain effect.
        now: epoch seconds.
    """
    # Marked, as what is still pending has no account yet
    db.executemany("UPDATE findings SET lasted = 1 WHERE id = ?", [(id_,) for id_ in lasted])
    touched = db.execute(
        "SELECT DISTINCT incident_id FROM findings WHERE lasted AND incident_id IN"
        " (SELECT value FROM json_each(?1) UNION SELECT incident_id FROM findings WHERE id IN"
        " (SELECT value FROM json_each(?2)))",
        (json.dumps(sorted(ledger.touched)), json.dumps(sorted(lasted))),
    ).fetchall()
    for row in touched:
        ledger.lasted(row["incident_id"])
    rows = db.execute(
        "SELECT incident_id, verdict FROM verdicts WHERE NOT taken ORDER BY given, incident_id"
    ).fetchall()
    for row in rows:
        id_ = row["incident_id"]
        if id_ not in ledger.accounts:
            old = db.execute(
                "SELECT account FROM accounts WHERE incident_id = ?", (id_,)
            ).fetchone()
            if old is not None:
                ledger.accounts[id_] = Account.from_json(json.loads(old["account"]))
        ledger.judge(id_, row["verdict"], now=now)
    if rows:
        db.execute("UPDATE verdicts SET taken = 1 WHERE NOT taken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An incident, and what a user has said of it.

    Attributes:
        incident_id: its id.
        title: the incident in the fewest words.
        verdict: what was said.
    """

    incident_id: str
    title: str
    verdict: Verdict


def give_verdict(state_dir: Path, id_prefix: str, verdict: Verdict, *, now: float) -> Judged:
    """Leave the daemon a user's word on an incident, whether it runs or not; the last one counts.

    Args:
        state_dir: the daemon's.
        id_prefix: the start of the id of an incident, or of one of its findings.
        verdict: "confirmed" or "dismissed".
        now: epoch seconds.

    Raises:
        StoreError: there is no such incident, or it cannot be stored.
    """
    database = Database.beside(state_dir)
    try:
        rows = database.rows(
            "SELECT DISTINCT incidents.id, json_extract(incident, '$.title') AS title"
            " FROM incidents LEFT JOIN findings ON incident_id = incidents.id WHERE ?1 != ''"
            " AND (substr(findings.id, 1, length(?1)) = ?1"
            " OR substr(incidents.id, 1, length(?1)) = ?1) ORDER BY incidents.id LIMIT 5",
            (id_prefix,),
        )
        if len(rows) != 1:
            raise StoreError(_not_one(id_prefix, [row["id"] for row in rows]), reason="missing")
        with database.transaction() as db:
            db.execute(
                "INSERT INTO verdicts (incident_id, verdict, given, taken) VALUES (?, ?, ?, 0)"
                " ON CONFLICT (incident_id) DO UPDATE SET verdict = excluded.verdict,"
                " given = excluded.given, taken = 0",
                (rows[0]["id"], verdict, now),
            )
        return Judged(incident_id=rows[0]["id"], title=rows[0]["title"], verdict=verdict)
    finally:
        database.close()


def _not_one(id_prefix: str, ids: list[str]) -> str:
    if ids:
        some = ", ".join(ids)
        return f"more than one incident starts with {id_prefix!r} ({some}): give more of it"
    return (
        f"no incident has the id {id_prefix!r}, nor a finding of it: "
        "list them by `tailrace incidents`"
    )


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
        " coalesce(sum(standing = 'held'), 0) AS held FROM accounts WHERE opened > ?",
        (now - WEEK_S,),
    )
    return Spent(
        text=budget.text,
        tokens=ledger.tokens,
        capacity=budget.capacity,
        **{name: int(row[name]) for name in ("told", "free", "proven", "dismissed", "held")},
    )
