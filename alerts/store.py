"""What survives: findings, incidents, messages owed to receivers, and the state of what made them.

In: what one step of the detector and of the incidents produced. Out: the same, after any crash.
Their states, the findings, the incidents and the messages these cause are stored in one
transaction: after `kill -9` all of a step is there, or nothing of it.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Self

from alerts import dispatch, feed, records
from alerts.budget import Budget
from alerts.database import Database
from alerts.dispatch import Dispatch
from alerts.feed import Shown
from alerts.grouping import Change
from alerts.incident import Incident
from alerts.outbox import Outbox
from alerts.policy import Route, Rules
from alerts.reader import DETECTOR, INCIDENTS, Reader
from detector.finding import Finding

KEEP_DAYS = 30.0


class Store(Reader):
    """One state directory. Every method may be called from any thread, and raises `StoreError`.

    Attributes:
        outbox: the messages owed to receivers.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._rules = Rules()
        self._budget: Budget | None = None
        self._dispatch = Dispatch(self._rules, None)
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

    def register_receivers(self, names: Sequence[str], rules: Rules | None = None) -> None:
        """Say who is told of incidents from now on, and of which; without rules, all of all.

        Raises:
            StoreError: as for `commit`.
        """
        self.outbox.register(names)
        everything = Route(name="all", severity="info", receivers=tuple(names))
        self._rules = rules or Rules(receivers=dict.fromkeys(names), routes=(everything,))
        self._dispatch = Dispatch(self._rules, self._budget)

    def keep_to(self, budget: Budget) -> None:
        """Hold back, from now on, what the budget of false alerts does not allow."""
        self._budget = budget
        self._dispatch = Dispatch(self._rules, budget)

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

        Whoever is to be told of it gets messages into the outbox, as `alerts.dispatch` decides.
        Committing a finding or an incident again changes nothing more, and a finding that ended
        stays ended, so a replay is harmless.

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
        try:
            with self._database.transaction() as db:
                for finding in findings:
                    _save_finding(db, finding, now=now)
                told = self._dispatch.step(db, incidents, lasted, now=now)
                if changes:
                    feed.save(db, changes, now=now)
                for name, state in ((DETECTOR, snapshot), (INCIDENTS, grouping)):
                    if state is not None:
                        _save_snapshot(db, name, state, now=now)
        except BaseException:
            self._dispatch.start_over()
            raise
        return told

    def tell(self, *, now: float) -> list[Incident]:
        """Store the messages that are due because time has passed; return what they tell of.

        A wait or a silence that ended, a reminder: call it once a second while an incident is
        open, and for some minutes after.

        Raises:
            StoreError: as for `commit`.
        """
        try:
            with self._database.transaction() as db:
                return self._dispatch.step(db, (), (), now=now)
        except BaseException:
            self._dispatch.start_over()
            raise

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
            pruned = dispatch.prune(db, before=before)
            return pruned + sum(db.execute(each, (before,)).rowcount for each in statements)


def _save_finding(db: sqlite3.Connection, finding: Finding, *, now: float) -> None:
    known = db.execute("SELECT state FROM findings WHERE id = ?", (finding.id,)).fetchone()
    if known is None or known["state"] == "firing":
        db.execute(records.UPSERT, records.to_row(finding, now=now))


def _save_snapshot(db: sqlite3.Connection, name: str, data: bytes, *, now: float) -> None:
    db.execute(
        "INSERT INTO snapshots (name, data, saved) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET data = excluded.data, saved = excluded.saved",
        (name, data, now),
    )
