"""What survives: findings, incidents, messages owed to receivers, and the state of what made them.

In: what one step of the detector and of the incidents produced. Out: the same, after any crash.
Their states, the findings, the incidents and the messages these cause are stored in one
transaction: after `kill -9` all of a step is there, or nothing of it.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Self

from alerts import feed, ledger, outbox, records
from alerts.budget import Budget, Ledger
from alerts.database import Database
from alerts.digest import make_digest
from alerts.feed import Shown
from alerts.grouping import Change
from alerts.incident import Event, Incident, incident_from_json
from alerts.outbox import Outbox
from alerts.reader import DETECTOR, INCIDENTS, Reader
from alerts.severity import Severity, rank
from detector.finding import Finding

KEEP_DAYS = 30.0


class Store(Reader):
    """One state directory. Every method may be called from any thread, and raises `StoreError`.

    Attributes:
        outbox: the messages owed to receivers.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._receivers: tuple[str, ...] = ()
        self._notify: Severity = "info"
        self._budget: Budget | None = None
        self._ledger: Ledger | None = None
        self.outbox = Outbox(database)

    @classmethod
    def open(cls, state_dir: Path, *, read_only: bool = False) -> Self:
        """Open the store of a state directory; a writer creates it when it is missing.

        Raises:
            StoreError: another daemon uses it, it is damaged, newer than this program, or it
                cannot be written (by a reader: read); the message says where and what to do.
        """
        return cls(Database.open(state_dir, read_only=read_only))

    def close(self) -> None:
        """Close the file and let another daemon have it."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def register_receivers(self, names: Sequence[str], *, notify: Severity = "info") -> None:
        """Say who is told of incidents from now on, and of which: `notify` and more severe ones.

        Raises:
            StoreError: as for `commit`.
        """
        self.outbox.register(names)
        self._receivers = tuple(names)
        self._notify = notify

    def keep_to(self, budget: Budget) -> None:
        """Hold back, from now on, what the budget of false alerts does not allow."""
        self._budget, self._ledger = budget, None

    def commit(
        self,
        findings: Sequence[Finding],
        *,
        snapshot: bytes | None,
        now: float,
        incidents: Sequence[Change] = (),
        grouping: bytes | None = None,
        lasted: Collection[str] = (),
        changes: Sequence[Shown] = (),
    ) -> list[Incident]:
        """Store one step in one transaction.

        Each event of an incident puts one message per receiver into the outbox; with a budget
        (`keep_to`) only what `alerts.budget` lets pass, and a digest of the rest; that takes a
        call now and then, without incidents too. Committing a finding or an incident again changes
        nothing more, and a finding that ended stays ended, so a replay is harmless.

        Args:
            findings: what the detector returned, in its order.
            snapshot: the detector's state after it returned them; None keeps the one stored.
            now: epoch seconds.
            incidents: what `alerts.grouping` made of the findings, in its order.
            grouping: its state after that; None keeps the one stored.
            lasted: ids of findings that lasted with a plain effect, see `alerts.aftermath`.
            changes: rows of the feed of changes that are new or different.

        Returns:
            The incidents that somebody is told something of.

        Raises:
            StoreError: nothing of this call was stored; what was stored before is safe. Call
                again with the same, and what came since, once there is room.
        """
        told: list[Incident] = []
        try:
            with self._database.transaction() as db:
                book = self._book(db, now=now)
                for finding in findings:
                    _save_finding(db, finding, now=now)
                for change in incidents:
                    told += self._take(db, change, book, now=now)
                if book is not None:
                    ledger.take_proof(db, book, lasted, now=now)
                    told += self._settle(db, book, now=now)
                if changes:
                    feed.save(db, changes, now=now)
                for name, state in ((DETECTOR, snapshot), (INCIDENTS, grouping)):
                    if state is not None:
                        _save_snapshot(db, name, state, now=now)
        except BaseException:
            self._ledger = None  # it knows of things that were not stored
            raise
        return told

    def _book(self, db: sqlite3.Connection, *, now: float) -> Ledger | None:
        """Return the ledger; None when nothing is held back, or there is nobody to tell."""
        if self._budget is None or not self._receivers:
            return None
        if self._ledger is None:
            self._ledger = ledger.load(db, self._budget, now=now)
        return self._ledger

    def _take(
        self, db: sqlite3.Connection, change: Change, book: Ledger | None, *, now: float
    ) -> list[Incident]:
        """Store one change of an incident, and tell who is to hear of it."""
        before = db.execute(
            "SELECT state, suppressed FROM incidents WHERE id = ?", (change.incident.id,)
        ).fetchone()
        if before is not None and before["state"] == "resolved":
            return []
        known = "" if before is None else before["suppressed"]
        why = change.incident.suppressed or self._suppressed(change, known, book, now=now)
        if book is not None and change.incident.state == "resolved":
            if change.incident.part_of:
                book.merge(change.incident.id, change.incident.part_of)
            book.end(change.incident.id)
        incident = dataclasses.replace(change.incident, suppressed=why)
        _save_incident(db, incident, now=now)
        due = list(self._due(db, incident, change.event))
        for receiver, event in due:
            outbox.enqueue(db, incident, event=event, receiver=receiver, now=now)
        return [incident] if due else []

    def _suppressed(self, change: Change, known: str, book: Ledger | None, *, now: float) -> str:
        """Return why nobody is told of an incident, in words; "" when people are.

        The place for every reason: today what is not severe enough, and the budget.

        Args:
            change: what became of it.
            known: why nobody was told of it so far.
            book: the ledger of the budget; None without one.
            now: epoch seconds.
        """
        incident = change.incident
        paying = book is not None and incident.id in book.accounts
        if incident.state == "resolved" or (change.event is None and not paying):
            return known
        if rank(incident.severity) > rank(self._notify):
            return f"below {self._notify}, the least severity that is told"
        told = book is None or book.fire(incident, now=now)
        return "" if told or book is None else book.budget.reason

    def _due(
        self, db: sqlite3.Connection, incident: Incident, event: Event | None
    ) -> Iterator[tuple[str, Event]]:
        """Yield who is to be told what of an incident: the one place where that is decided.

        Today every receiver hears of every event, but nobody that something is over who never
        heard of it; who hears of an incident for the first time, hears that it fires.
        """
        if event is None or (incident.suppressed and event != "resolved"):
            return
        for receiver in self._receivers:
            if _was_told(db, incident.id, receiver):
                yield receiver, event
            elif event != "resolved":
                yield receiver, "firing"

    def _settle(self, db: sqlite3.Connection, book: Ledger, *, now: float) -> list[Incident]:
        """Tell what may be told by now, and list what has waited for long; return the first."""
        released = []
        for id_ in book.settle(now=now):
            waiting = _incident(db, id_)
            if waiting is not None:
                incident = dataclasses.replace(waiting, suppressed="")
                _save_incident(db, incident, now=now)
                for receiver, event in self._due(db, incident, "firing"):
                    outbox.enqueue(db, incident, event=event, receiver=receiver, now=now)
                released.append(incident)
        listed = [found for id_ in book.digest(now=now) if (found := _incident(db, id_))]
        if listed:
            digest = make_digest(listed, reason=book.budget.reason, now=now)
            db.execute(
                "INSERT OR IGNORE INTO digests (id, made, digest) VALUES (?, ?, ?)",
                (digest.id, now, json.dumps(digest.to_json(), ensure_ascii=False)),
            )
            for receiver in self._receivers:
                outbox.enqueue_digest(db, digest, receiver=receiver, now=now)
        ledger.save(db, book)
        book.forget(now=now)
        return released

    def orphans(self, known: Collection[str], *, now: float) -> list[Finding]:
        """Return the findings that fire here but that the detector no longer knows, as ended.

        A detector that starts without its snapshot takes what it sees for normal, so they are
        adopted. Left alone, they would fire for ever.

        Args:
            known: ids of the findings that fire in the detector.
            now: epoch seconds.
        """
        rows = self._database.rows("SELECT * FROM findings WHERE state = 'firing' ORDER BY id")
        orphans = [records.from_row(row) for row in rows if row["id"] not in known]
        return [dataclasses.replace(each, state="adopted", ended=now) for each in orphans]

    def save_snapshot(self, name: str, data: bytes, *, now: float) -> None:
        """Store some other part's state under its name.

        Raises:
            StoreError: as for `commit`.
        """
        with self._database.transaction() as db:
            _save_snapshot(db, name, data, now=now)

    def prune(self, *, now: float, keep_days: float = KEEP_DAYS) -> int:
        """Remove what is over for longer than `keep_days`; return how many rows that were.

        What is firing stays, however old, and so does what belongs to it. Messages that nobody
        could deliver in that time go with their incident.

        Raises:
            StoreError: as for `commit`.
        """
        before = now - keep_days * 86_400
        statements = (
            "DELETE FROM incidents WHERE state = 'resolved' AND resolved < ?1",
            "DELETE FROM digests WHERE made < ?1",
            # A message stays as long as its incident, as the next one may need its receipt
            "DELETE FROM deliveries WHERE created < ?1 AND NOT EXISTS"
            " (SELECT 1 FROM incidents WHERE incidents.id = incident_id) AND NOT EXISTS"
            " (SELECT 1 FROM digests WHERE digests.id = incident_id)",
            "DELETE FROM accounts WHERE NOT open AND opened < ?1",
            "DELETE FROM verdicts WHERE ?1 IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM incidents WHERE incidents.id = incident_id)",
            "DELETE FROM findings WHERE state != 'firing' AND ended < ?1 AND NOT EXISTS"
            " (SELECT 1 FROM incidents WHERE incidents.id = incident_id)",
        )
        with self._database.transaction() as db:
            return sum(db.execute(statement, (before,)).rowcount for statement in statements)


def _save_finding(db: sqlite3.Connection, finding: Finding, *, now: float) -> None:
    known = db.execute("SELECT state FROM findings WHERE id = ?", (finding.id,)).fetchone()
    if known is None or known["state"] == "firing":
        db.execute(records.UPSERT, records.to_row(finding, now=now))


def _incident(db: sqlite3.Connection, id_: str) -> Incident | None:
    row = db.execute("SELECT incident FROM incidents WHERE id = ?", (id_,)).fetchone()
    return None if row is None else incident_from_json(json.loads(row["incident"]))


def _was_told(db: sqlite3.Connection, incident_id: str, receiver: str) -> bool:
    row = db.execute(
        "SELECT 1 FROM deliveries WHERE incident_id = ? AND receiver = ?", (incident_id, receiver)
    ).fetchone()
    return row is not None


def _save_incident(db: sqlite3.Connection, incident: Incident, *, now: float) -> None:
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


def _save_snapshot(db: sqlite3.Connection, name: str, data: bytes, *, now: float) -> None:
    db.execute(
        "INSERT INTO snapshots (name, data, saved) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET data = excluded.data, saved = excluded.saved",
        (name, data, now),
    )
