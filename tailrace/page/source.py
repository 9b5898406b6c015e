"""What the page knows: one picture of a state directory at a time, taken anew when it changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from alerts import silences
from alerts.database import FILE as STORE_FILE
from alerts.database import Database
from alerts.errors import StoreError
from alerts.incident import Incident
from alerts.reader import Reader
from alerts.severity import Severity, rank
from alerts.silences import Silence
from detector.finding import Finding
from probes.window import EVERY, Pair, is_rollup
from tailrace import pairs, state
from tailrace.condition import Condition
from tailrace.errors import TailraceError
from tailrace.pairs import Row

PAST_S: Final = 86_400.0
"""What ended longer ago is not shown, but by its own address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a state directory knows at one time.

    Attributes:
        version: another one means that something changed.
        rows: the current pairs, by pair, as `PairTable.rows` gives them; empty when none is known.
        condition: how the watching does.
        problem: why not all is known, in words; "" when it is.
        incidents: those of the last day and what still fires, the latest first.
        findings: those that fire, the earliest first.
        silences: that have not ended.
    """

    version: int
    rows: Mapping[Pair, Row] = field(default_factory=dict)
    condition: Condition = field(default_factory=Condition)
    problem: str = ""
    incidents: Sequence[Incident] = ()
    findings: Sequence[Finding] = ()
    silences: Sequence[Silence] = ()

    def open_incidents(self) -> list[Incident]:
        """Return what is going on and people are told of, the most severe first."""
        going = [each for each in self.incidents if is_open(each) and not each.suppressed]
        return sorted(going, key=lambda each: (rank(each.severity), each.started, each.id))

    def flags(self) -> dict[Pair, Severity]:
        """Return how bad what fires is, by pair; of roll-ups each pair that is part of one."""
        of_finding = {
            finding: incident.severity
            for incident in sorted(self.incidents, key=lambda each: -rank(each.severity))
            if is_open(incident)
            for finding in incident.findings
        }
        flags: dict[Pair, Severity] = {}
        for finding in self.findings:
            severity = of_finding.get(finding.id, "info")
            for pair in self.pairs_of(finding.pair):
                if pair not in flags or rank(severity) < rank(flags[pair]):
                    flags[pair] = severity
        return flags

    def pairs_of(self, pair: Pair) -> list[Pair]:
        """Return the pairs that a finding's pair stands for."""
        if not is_rollup(pair):
            return [pair]
        return [each for each in self.rows if is_part_of(each, pair)]


def is_open(incident: Incident) -> bool:
    """Return whether an incident is not over."""
    return incident.state != "resolved"


def is_part_of(pair: Pair, rollup: Pair) -> bool:
    """Return whether a roll-up takes a pair in."""
    if rollup.client == EVERY:
        return pair[1:] == rollup[1:]
    return (pair.client, pair.transport) == (rollup.client, rollup.transport)


class Source:
    """A state directory; every method may be called from any thread."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._pairs_file = state_dir / state.PAIRS
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._store_problem = ""
        self._seen: object = None
        self._snapshot = Snapshot(version=0, problem="nothing was read yet")
        self._due = 0.0

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def current(self) -> Snapshot:
        """Return what is known now: the same object until something changes."""
        with self._lock:
            now = time.time()
            seen = (_stamp(self._pairs_file), self._store_stamp())
            # Silences end, and a daemon is found to have stopped, by time alone
            if seen != self._seen or now >= self._due:
                self._seen, self._due = seen, now + 5.0
                self._snapshot = self._read(now)
            return self._snapshot

    def incident(self, id_: str) -> Incident | None:
        """Return the incident of an id, however old; None if there is none."""
        with self._lock:
            if self._database is None or len(id_) != 16:
                return None
            return Reader(self._database).incident(id_)

    def findings_of(self, pair: Pair, *, since: float) -> list[Finding]:
        """Return the findings of a pair that had not ended before `since`, epoch seconds."""
        with self._lock:
            if self._database is None:
                return []
            found = Reader(self._database).findings(since=since)
        return [
            each
            for each in found
            if each.pair == pair or (is_rollup(each.pair) and is_part_of(pair, each.pair))
        ]

    def _read(self, now: float) -> Snapshot:
        rows: dict[Pair, Row] = {}
        condition, problem = Condition(), ""
        try:
            published = pairs.published_by(self._pairs_file, now=now)
            if published is None:
                problem = "no daemon is running: start `tailrace run`"
            else:
                rows = {_pair(row): row for row in published.rows}
                condition = published.condition
        except TailraceError as error:
            problem = error.what
        incidents: list[Incident] = []
        findings: list[Finding] = []
        quiet: list[Silence] = []
        try:
            if self._database is not None:
                reader = Reader(self._database)
                incidents = reader.incidents(since=now - PAST_S)[::-1]
                findings = [f for f in reader.findings(since=now) if f.state == "firing"]
                quiet = silences.stored(self.state_dir, after=now)
        except StoreError as error:
            self._store_problem = str(error)
            self._close()
        problem = problem or self._store_problem
        return Snapshot(
            version=self._snapshot.version + 1,
            rows=rows,
            condition=condition,
            problem=problem,
            incidents=incidents,
            findings=findings,
            silences=quiet,
        )

    def _store_stamp(self) -> object:
        """Return what is another one after the store changed; the store is opened if need be."""
        try:
            if self._database is None:
                self._database = Database.open(self.state_dir, read_only=True)
                self._store_problem = ""
            file = _stamp(self.state_dir / STORE_FILE)
            return file and file[0], self._database.rows("PRAGMA data_version")[0][0]
        except StoreError as error:
            self._store_problem = str(error)
            self._close()
            return self._store_problem

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _pair(row: Row) -> Pair:
    return Pair(row["client"], row["server"], row["port"], row["transport"])
