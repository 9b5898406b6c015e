"""What survives: findings, alerts, messages owed to receivers, and the detector's state.

In: what one step of the detector produced. Out: the same, after any crash. The detector's
snapshot, its findings, the alerts they change and the messages these cause are stored in one
transaction: after `kill -9` all of a step is there, or nothing of it.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Self

from alerts import feed, ledger, outbox, records
from alerts.alert import (
    Alert,
    AlertState,
    alert_from_json,
    alert_id,
    fingerprint,
    make_alert,
)
from alerts.budget import Budget, Ledger, Verdict
from alerts.database import Database
from alerts.errors import StoreError
from alerts.feed import Shown
from alerts.outbox import Outbox
from alerts.severity import SEVERITIES, Severity
from detector.finding import Finding

DETECTOR = "detector"
"""The name of the snapshot that `Store.commit` saves."""
KEEP_DAYS = 30.0


class Store:
    """One state directory. Every method may be called from any thread, and raises `StoreError`.

    Attributes:
        outbox: the messages owed to receivers.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
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
        """Say who is told of alerts from now on, and of which: `notify` and what is more severe.

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
        lasted: Collection[str] = (),
        changes: Sequence[Shown] = (),
    ) -> list[Alert]:
        """Store one step of the detector in one transaction.

        New findings open an alert, or join the one of their fingerprint that is firing; when the
        last finding of an alert ended, the alert is resolved. Each of these two changes of state
        puts one message per receiver into the outbox. Committing a finding again changes nothing
        more, and a finding that ended stays ended, so a replay is harmless.

        With a budget (`keep_to`), the outbox gets what `alerts.budget` lets pass, and a digest of
        the rest; that takes a call now and then, without findings too.

        Args:
            findings: what the detector returned, in its order.
            snapshot: the detector's state after it returned them; None keeps the one stored.
            now: epoch seconds.
            lasted: ids of findings that lasted with a plain effect, see `alerts.aftermath`.
            changes: rows of the feed of changes that are new or different.

        Returns:
            The alerts that changed their state, in order, then those that are told after a wait.

        Raises:
            StoreError: nothing of this call was stored; what was stored before is safe. Call
                again with the same findings, and those since, once there is room.
        """
        changed: list[Alert] = []
        try:
            with self._database.transaction() as db:
                book = self._book(db, now=now)
                for finding in findings:
                    changed += self._take(db, finding, book, now=now)
                if book is not None:
                    changed += ledger.settle(db, book, lasted, self._receivers, now=now)
                if changes:
                    feed.save(db, changes, now=now)
                if snapshot is not None:
                    _save_snapshot(db, DETECTOR, snapshot, now=now)
        except BaseException:
            self._ledger = None  # it knows of things that were not stored
            raise
        return changed

    def _book(self, db: sqlite3.Connection, *, now: float) -> Ledger | None:
        """Return the ledger; None when nothing is held back, or there is nobody to tell."""
        if self._budget is None or not self._receivers:
            return None
        if self._ledger is None:
            self._ledger = ledger.load(db, self._budget, now=now)
        return self._ledger

    def _take(
        self, db: sqlite3.Connection, finding: Finding, book: Ledger | None, *, now: float
    ) -> list[Alert]:
        known = db.execute(
            "SELECT state, alert_id FROM findings WHERE id = ?", (finding.id,)
        ).fetchone()
        if known is not None and known["state"] != "firing":
            return []
        alert = None if known is None else known["alert_id"]
        if alert is None and finding.state == "firing":
            alert = _firing(db, finding) or alert_id(finding)
        db.execute(records.UPSERT, records.to_row(finding, alert_id=alert, now=now))
        return [] if alert is None else self._refresh(db, alert, book, now=now)

    def _refresh(
        self, db: sqlite3.Connection, id_: str, book: Ledger | None, *, now: float
    ) -> list[Alert]:
        rows = db.execute(
            "SELECT * FROM findings WHERE alert_id = ? ORDER BY created, detected, id", (id_,)
        )
        alert = make_alert(id_, [records.from_row(row) for row in rows])
        before = db.execute("SELECT state FROM alerts WHERE id = ?", (id_,)).fetchone()
        _save_alert(db, alert, now=now)
        severe = SEVERITIES.index(alert.severity) <= SEVERITIES.index(self._notify)
        if alert.state == "resolved":
            if book is not None:
                book.end(id_)
            self._notify_of(db, alert, now=now)
        elif severe:
            told = book is None or book.fire(alert, now=now)
            held = "" if told or book is None else book.budget.reason
            db.execute("UPDATE alerts SET held = ? WHERE id = ?", (held, id_))
            if told:
                self._notify_of(db, alert, now=now)
        return [] if before is not None and before["state"] == alert.state else [alert]

    def _notify_of(self, db: sqlite3.Connection, alert: Alert, *, now: float) -> None:
        for receiver in self._receivers:
            # Who never heard of an alert need not hear that it is over. A message that is
            # already there is not added again, so joining findings notify nobody
            if alert.state == "firing" or _was_told(db, alert, receiver):
                outbox.enqueue(db, alert, event=alert.state, receiver=receiver, now=now)

    def adopt_orphans(self, known: Collection[str], *, now: float) -> list[Alert]:
        """End the findings that fire here but that the detector no longer knows.

        A detector that starts without its snapshot takes what it sees for normal, so they are
        adopted. Left alone, their alerts would fire for ever and keep further ones from being
        told. To be called when the detector was restored or started afresh.

        Args:
            known: ids of the findings that fire in the detector.
            now: epoch seconds.

        Returns:
            The alerts that are resolved by this.

        Raises:
            StoreError: as for `commit`.
        """
        rows = self._database.rows("SELECT * FROM findings WHERE state = 'firing' ORDER BY id")
        orphans = [records.from_row(row) for row in rows if row["id"] not in known]
        ended = [dataclasses.replace(each, state="adopted", ended=now) for each in orphans]
        return self.commit(ended, snapshot=None, now=now)

    def save_snapshot(self, name: str, data: bytes, *, now: float) -> None:
        """Store some other part's state under its name.

        Raises:
            StoreError: as for `commit`.
        """
        with self._database.transaction() as db:
            _save_snapshot(db, name, data, now=now)

    def snapshot(self, name: str = DETECTOR) -> bytes | None:
        """Return the state stored under `name`; None when there is none."""
        rows = self._database.rows("SELECT data FROM snapshots WHERE name = ?", (name,))
        return bytes(rows[0]["data"]) if rows else None

    def findings(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        client: str | None = None,
        server: str | None = None,
        signal: str | None = None,
    ) -> list[Finding]:
        """Return findings in order of detection, with their evidence.

        Args:
            since: only those that had not ended before, epoch seconds.
            until: only those that began before, epoch seconds.
            client: only those of this client service.
            server: only those of this server service.
            signal: only those of this signal.
        """
        rows = self._database.rows(
            "SELECT * FROM findings WHERE (?1 IS NULL OR ended IS NULL OR ended >= ?1)"
            " AND (?2 IS NULL OR onset < ?2) AND (?3 IS NULL OR client = ?3)"
            " AND (?4 IS NULL OR server = ?4) AND (?5 IS NULL OR signal = ?5)"
            " ORDER BY detected, created, id",
            (since, until, client, server, signal),
        )
        return [records.from_row(row) for row in rows]

    def finding(self, id_prefix: str) -> Finding:
        """Return the one finding whose id starts with `id_prefix`, with its evidence.

        Raises:
            StoreError: none does, or several do (reason "missing").
        """
        rows = self._database.rows(
            "SELECT * FROM findings WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 5",
            (id_prefix,),
        )
        exact = [row for row in rows if row["id"] == id_prefix]
        if not rows or not id_prefix:
            raise StoreError(
                f"no finding with id {id_prefix!r}: list them with `tailrace report`",
                reason="missing",
            )
        if len(rows) > 1 and not exact:
            some = ", ".join(row["id"] for row in rows)
            raise StoreError(
                f"more than one finding starts with {id_prefix!r} ({some}): give more of the id",
                reason="missing",
            )
        return records.from_row(exact[0] if exact else rows[0])

    def alerts(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        state: AlertState | None = None,
    ) -> list[Alert]:
        """Return alerts in the order they started; the times as for `findings`."""
        rows = self._database.rows(
            "SELECT alert FROM alerts WHERE (?1 IS NULL OR resolved IS NULL OR resolved >= ?1)"
            " AND (?2 IS NULL OR started < ?2) AND (?3 IS NULL OR state = ?3)"
            " ORDER BY started, id",
            (since, until, state),
        )
        return [alert_from_json(json.loads(row["alert"])) for row in rows]

    def changes(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        client: str | None = None,
        server: str | None = None,
        signal: str | None = None,
        still: bool = False,
    ) -> list[Shown]:
        """Return the feed of changes; `still`: what has not ended; the rest as for `findings`."""
        if self._database.version < ledger.SINCE_VERSION:
            return []
        rows = self._database.rows(feed.SELECT, (since, until, client, server, signal, still))
        return [feed.from_row(row) for row in rows]

    def held_back(self) -> Mapping[str, str]:
        """Return why findings were not told, by id; those that were told are not there."""
        if self._database.version < ledger.SINCE_VERSION:
            return {}
        rows = self._database.rows(
            "SELECT findings.id, held FROM alerts JOIN findings ON alert_id = alerts.id"
            " WHERE held != ''"
        )
        return {row["id"]: row["held"] for row in rows}

    def verdict(self, finding_id: str) -> Verdict:
        """Return what a user has said of a finding's alert; "" for nothing."""
        if self._database.version < ledger.SINCE_VERSION:
            return ""
        rows = self._database.rows(
            "SELECT verdict FROM findings JOIN verdicts USING (alert_id) WHERE id = ?",
            (finding_id,),
        )
        said: Verdict = rows[0]["verdict"] if rows else ""
        return said

    def spent(self, *, now: float) -> ledger.Spent | None:
        """Return how the budget of false alerts was kept in the last week; None without one."""
        return ledger.spent(self._database, now=now)

    def prune(self, *, now: float, keep_days: float = KEEP_DAYS) -> int:
        """Remove what is over for longer than `keep_days`; return how many rows that were.

        What is firing stays, however old, and so does what belongs to it. Messages that nobody
        could deliver in that time go with their alert.

        Raises:
            StoreError: as for `commit`.
        """
        before = now - keep_days * 86_400
        statements = (
            "DELETE FROM alerts WHERE state = 'resolved' AND resolved < ?1",
            "DELETE FROM digests WHERE made < ?1",
            # A message stays as long as its alert, as the next one may need its receipt
            "DELETE FROM deliveries WHERE ?1 IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM alerts WHERE alerts.id = alert_id) AND NOT EXISTS"
            " (SELECT 1 FROM digests WHERE digests.id = alert_id)",
            "DELETE FROM incidents WHERE NOT open AND opened < ?1",
            "DELETE FROM verdicts WHERE ?1 IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM alerts WHERE alerts.id = alert_id)",
            "DELETE FROM findings WHERE state != 'firing' AND ended < ?1 AND NOT EXISTS"
            " (SELECT 1 FROM alerts WHERE alerts.id = alert_id)",
        )
        with self._database.transaction() as db:
            return sum(db.execute(statement, (before,)).rowcount for statement in statements)


def _firing(db: sqlite3.Connection, finding: Finding) -> str | None:
    row = db.execute(
        "SELECT id FROM alerts WHERE fingerprint = ? AND state = 'firing'",
        (fingerprint(finding),),
    ).fetchone()
    return None if row is None else str(row["id"])


def _was_told(db: sqlite3.Connection, alert: Alert, receiver: str) -> bool:
    row = db.execute(
        "SELECT 1 FROM deliveries WHERE alert_id = ? AND receiver = ?", (alert.id, receiver)
    ).fetchone()
    return row is not None


def _save_alert(db: sqlite3.Connection, alert: Alert, *, now: float) -> None:
    db.execute(
        "INSERT INTO alerts (id, fingerprint, state, severity, started, resolved, updated, alert)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
        " severity = excluded.severity, started = excluded.started, resolved = excluded.resolved,"
        " updated = excluded.updated, alert = excluded.alert",
        (
            alert.id,
            alert.fingerprint,
            alert.state,
            alert.severity,
            alert.started,
            alert.resolved,
            now,
            json.dumps(alert.to_json(), ensure_ascii=False, allow_nan=False),
        ),
    )


def _save_snapshot(db: sqlite3.Connection, name: str, data: bytes, *, now: float) -> None:
    db.execute(
        "INSERT INTO snapshots (name, data, saved) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET data = excluded.data, saved = excluded.saved",
        (name, data, now),
    )
