"""What may be asked of a state directory, while its daemon runs or after."""

from __future__ import annotations

import json
from collections.abc import Mapping

from alerts import feed, ledger, records
from alerts.budget import Verdict
from alerts.database import Database
from alerts.errors import StoreError
from alerts.feed import Shown
from alerts.incident import Incident, State, incident_from_json
from detector.finding import Finding

DETECTOR, INCIDENTS = "detector", "incidents"
"""The names of the snapshots of the detector's state, and of the open incidents'."""


class Reader:
    """Findings, incidents and what belongs to them; every method may raise `StoreError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

    def incidents(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        state: State | None = None,
    ) -> list[Incident]:
        """Return incidents in the order they started; the times as for `findings`."""
        if self._database.version < ledger.SINCE_VERSION:
            return []
        rows = self._database.rows(
            "SELECT incident FROM incidents"
            " WHERE (?1 IS NULL OR resolved IS NULL OR resolved >= ?1)"
            " AND (?2 IS NULL OR started < ?2) AND (?3 IS NULL OR state = ?3)"
            " ORDER BY started, id",
            (since, until, state),
        )
        return [incident_from_json(json.loads(row["incident"])) for row in rows]

    def incident(self, id_prefix: str) -> Incident | None:
        """Return the one incident whose id starts with `id_prefix`; None if there is none.

        Raises:
            StoreError: several do (reason "missing").
        """
        if self._database.version < ledger.SINCE_VERSION or not id_prefix:
            return None
        rows = self._database.rows(
            "SELECT id, incident FROM incidents WHERE substr(id, 1, length(?1)) = ?1"
            " ORDER BY id LIMIT 5",
            (id_prefix,),
        )
        exact = [row for row in rows if row["id"] == id_prefix]
        if len(rows) > 1 and not exact:
            some = ", ".join(row["id"] for row in rows)
            raise StoreError(
                f"more than one incident starts with {id_prefix!r} ({some}): give more of the id",
                reason="missing",
            )
        row = next(iter(exact or rows), None)
        return None if row is None else incident_from_json(json.loads(row["incident"]))

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
            "SELECT findings.id, suppressed FROM incidents"
            " JOIN findings ON incident_id = incidents.id WHERE suppressed != ''"
        )
        return {row["id"]: row["suppressed"] for row in rows}

    def incident_of(self, finding_id: str) -> str:
        """Return the id of the incident that a finding belongs to; "" for none."""
        if self._database.version < ledger.SINCE_VERSION:
            return ""
        rows = self._database.rows("SELECT incident_id FROM findings WHERE id = ?", (finding_id,))
        return (rows[0]["incident_id"] or "") if rows else ""

    def verdict(self, incident_id: str) -> Verdict:
        """Return what a user has said of an incident; "" for nothing."""
        if self._database.version < ledger.SINCE_VERSION:
            return ""
        rows = self._database.rows(
            "SELECT verdict FROM verdicts WHERE incident_id = ?", (incident_id,)
        )
        said: Verdict = rows[0]["verdict"] if rows else ""
        return said

    def spent(self, *, now: float) -> ledger.Spent | None:
        """Return how the budget of false alerts was kept in the last week; None without one."""
        return ledger.spent(self._database, now=now)
