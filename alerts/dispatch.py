"""Who is told of what: the policy, the budget of false alerts and the notification log together.

In: incidents that changed, and time that passes. Out: messages in the outbox, and why nobody is
told of the others. All of it within the transaction of whoever stores incidents (`alerts.store`),
so that after a crash messages, tokens and the log of what was told agree with the incidents.

An incident passes these, in this order: a reason of its own (it did not last, or is part of
another), silences, mutes and routes (`alerts.policy`), the budget (`alerts.budget`), and the log of
what each receiver was told last (`alerts.notify`). What is silenced costs no token.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence

from alerts import ledger, notifications, outbox, records, silences
from alerts.budget import Budget, Ledger
from alerts.digest import make_digest
from alerts.grouping import Change
from alerts.incident import Incident, incident_from_json
from alerts.notify import RESEND_RESOLVED_S
from alerts.policy import Policy, Rules


class Dispatch:
    """What decides; see the module.

    Args:
        rules: what the configuration says, receivers included.
        budget: of false alerts; None holds nothing back.
    """

    def __init__(self, rules: Rules, budget: Budget | None) -> None:
        self._rules, self._budget = rules, budget
        self._ledger: Ledger | None = None
        self._saved = False  # since it was loaded: with the budget as it is now

    def start_over(self) -> None:
        """Forget what was not stored: the transaction failed."""
        self._ledger, self._saved = None, False

    def step(
        self,
        db: sqlite3.Connection,
        changes: Sequence[Change],
        lasted: Collection[str],
        *,
        now: float,
    ) -> list[Incident]:
        """Store incidents as they became, and tell what is due by now; return those told of.

        Args:
            db: within a transaction.
            changes: of incidents, in their order; none when only time has passed.
            lasted: ids of findings that lasted with a plain effect, see `alerts.aftermath`.
            now: epoch seconds.
        """
        policy = notifications.policy(db, self._rules, now=now)
        book = self._book(db, now=now)
        told = self._take(db, changes, policy, book, now=now)
        return told + self._settle(db, lasted, policy, book, now=now)

    def _take(
        self,
        db: sqlite3.Connection,
        changes: Sequence[Change],
        policy: Policy,
        book: Ledger | None,
        *,
        now: float,
    ) -> list[Incident]:
        """Store incidents as they became, and tell who is to hear of it."""
        told: list[Incident] = []
        for change in changes:
            before = db.execute(
                "SELECT state, suppressed FROM incidents WHERE id = ?", (change.incident.id,)
            ).fetchone()
            if before is not None and before["state"] == "resolved":
                continue  # a replay of what was stored
            incident = change.incident
            if not incident.suppressed:
                if incident.state == "resolved":
                    why = "" if before is None else before["suppressed"]
                else:
                    why = _reason(incident, policy, book, now=now)
                incident = dataclasses.replace(incident, suppressed=why)
            if book is not None and incident.state == "resolved":
                if incident.part_of:
                    book.merge(incident.id, incident.part_of)
                book.end(incident.id)
            records.save_incident(db, incident, now=now)
            told += self._tell(db, [incident], policy, now=now)
        return told

    def _settle(
        self,
        db: sqlite3.Connection,
        lasted: Collection[str],
        policy: Policy,
        book: Ledger | None,
        *,
        now: float,
    ) -> list[Incident]:
        """Tell what may be told by now, and list what has waited for long."""
        if book is not None:
            ledger.take_proof(db, book, lasted, now=now)
            book.settle(now=now)
        going = []
        for stored in _going(db, now=now):
            incident = stored
            if stored.state != "resolved":
                why = _reason(stored, policy, book, now=now)
                incident = dataclasses.replace(stored, suppressed=why)
            if incident != stored:
                records.save_incident(db, incident, now=now)
            going.append(incident)
        told = self._tell(db, going, policy, now=now)
        if book is not None:
            self._list_held(db, book, now=now)
            # Tokens that come back with time need no writing: when they were right is known
            if book.touched or not self._saved:
                ledger.save(db, book)
                self._saved = True
            book.forget(now=now)
        return told

    def _book(self, db: sqlite3.Connection, *, now: float) -> Ledger | None:
        """Return the ledger; None when nothing is held back, or there is nobody to tell."""
        if self._budget is None or not self._rules.receivers:
            return None
        if self._ledger is None:
            self._ledger = ledger.load(db, self._budget, now=now)
        return self._ledger

    def _tell(
        self, db: sqlite3.Connection, incidents: Sequence[Incident], policy: Policy, *, now: float
    ) -> list[Incident]:
        held = {each.id: each.suppressed for each in incidents if each.suppressed}
        told = {}
        for each in notifications.settle(db, incidents, policy, now=now, held=held):
            outbox.enqueue(
                db, each.incident, event=each.event, receiver=each.receiver, id_=each.id, now=now
            )
            told[each.incident.id] = each.incident
        return list(told.values())

    def _list_held(self, db: sqlite3.Connection, book: Ledger, *, now: float) -> None:
        listed = [found for id_ in book.digest(now=now) if (found := _incident(db, id_))]
        if not listed:
            return
        digest = make_digest(listed, reason=book.budget.reason, now=now)
        db.execute(
            "INSERT OR IGNORE INTO digests (id, made, digest) VALUES (?, ?, ?)",
            (digest.id, now, json.dumps(digest.to_json(), ensure_ascii=False)),
        )
        for receiver in self._rules.receivers:
            outbox.enqueue_digest(db, digest, receiver=receiver, now=now)


def prune(db: sqlite3.Connection, *, before: float) -> int:
    """Remove silences and notes of what was told that are of no more use; return how many."""
    open_ = [row["id"] for row in db.execute("SELECT id FROM incidents WHERE state != 'resolved'")]
    return silences.prune(db, before=before) + notifications.prune(db, before=before, still=open_)


def _reason(incident: Incident, policy: Policy, book: Ledger | None, *, now: float) -> str:
    """Return why nobody is told of an incident that is not over, in words; "" when people are."""
    if incident.state == "pending":
        return ""
    if why := policy.suppression(incident, now):
        return why
    # What recovers is no news: it takes no token any more
    untold = book is None or (incident.state == "recovering" and incident.id not in book.accounts)
    if book is None or untold or book.fire(incident, now=now):
        return ""
    return book.budget.reason


def _going(db: sqlite3.Connection, *, now: float) -> Iterator[Incident]:
    """Yield what is not over, and what was not until lately, in the order it began."""
    rows = db.execute(
        "SELECT incident FROM incidents WHERE state != 'resolved' OR resolved > ?"
        " ORDER BY started, id",
        (now - RESEND_RESOLVED_S,),
    ).fetchall()
    for row in rows:
        yield incident_from_json(json.loads(row["incident"]))


def _incident(db: sqlite3.Connection, id_: str) -> Incident | None:
    row = db.execute("SELECT incident FROM incidents WHERE id = ?", (id_,)).fetchone()
    return None if row is None else incident_from_json(json.loads(row["incident"]))
