"""Everything that a report is about, read once."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alerts.incident import Incident
from alerts.life import DID_NOT_LAST
from alerts.severity import Severity, rank
from alerts.store import Store
from detector.finding import Finding
from probes.window import Pair
from tailrace import pairs, state
from tailrace.errors import TailraceError
from tailrace.pairs import Published, Row
from tailrace.report.past import Past

_BUSY: Final = ("requests", "connections", "server_requests")
"""What an edge's traffic is: the first of these that a pair has."""
MAP_S: Final = 900.0
"""A map shows who called whom in the end; who is part of an incident is on it in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for: an interval, epoch seconds, and whose findings; None for everybody's."""

    since: float
    until: float | None = None
    client: str | None = None
    server: str | None = None
    signal: str | None = None

    @property
    def of_some(self) -> bool:
        """Whether not everybody's findings were asked for."""
        return any(each is not None for each in (self.client, self.server, self.signal))

    def query(self) -> dict[str, Any]:
        """Return it as arguments of `alerts.reader.Reader.findings`."""
        return {
            "since": self.since, "until": self.until, "client": self.client,
            "server": self.server, "signal": self.signal,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found in an interval.

    Attributes:
        host: its name.
        asked: what was asked for.
        until: its end, epoch seconds: that of the interval, or now.
        incidents: what goes on first, then the most severe, then the latest; those that turned
            out to be part of another, or that did not last, are under `dropped`.
        dropped: these, by onset.
        findings: by detection, with their evidence.
        by_id: the same by their ids.
        held: why findings were not told, by id.
        running: what the daemon tells; None when none runs.
        past: the stored history.
    """

    host: str
    asked: Asked
    until: float
    incidents: Sequence[Incident]
    dropped: Sequence[Incident]
    findings: Sequence[Finding]
    by_id: Mapping[str, Finding]
    held: Mapping[str, str]
    running: Published | None
    past: Past

    def traffic(self) -> dict[Pair, float]:
        """Return requests per second of each pair in the last `MAP_S` of the interval.

        As stored; without a history, as it is now.
        """
        stored = self.past.traffic(max(self.asked.since, self.until - MAP_S), self.until)
        return stored or traffic_of(self.running.rows if self.running is not None else ())

    def at_least(self, severity: Severity) -> list[Incident]:
        """Return the confirmed incidents of a severity or worse, whether anybody was told."""
        return [
            each
            for each in self.incidents
            if each.state != "pending" and rank(each.severity) <= rank(severity)
        ]

    def finding(self, of: Finding) -> Finding:
        """Return a symptom of an incident with its evidence, where that is known."""
        return self.by_id.get(of.id, of)


@contextlib.contextmanager
def gathered(directory: Path, asked: Asked) -> Iterator[Report]:
    """Yield the report of a state directory; its history is open meanwhile.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """
    now = time.time()
    until = now if asked.until is None else asked.until
    with Store.open(directory, read_only=True) as store, Past.open(directory) as past:
        findings, held = store.findings(**asked.query()), store.held_back()
        by_id = {finding.id: finding for finding in findings}
        incidents = [
            each
            for each in store.incidents(since=asked.since, until=asked.until)
            if not asked.of_some or by_id.keys() & set(each.findings)
        ]
        running = running_in(directory, now=now)
        dropped = [each for each in incidents if is_dropped(each)]
        yield Report(
            host=socket.gethostname(),
            asked=asked,
            until=until,
            incidents=sorted((i for i in incidents if not is_dropped(i)), key=_worth_reading),
            dropped=dropped,
            findings=findings,
            by_id=by_id,
            held={id_: why for id_, why in held.items() if id_ in by_id},
            running=running,
            past=past,
        )


def is_dropped(incident: Incident) -> bool:
    """Return whether an incident is none to read: part of another, or it did not last."""
    return incident.ended_as == "merged" or incident.suppressed == DID_NOT_LAST


def _worth_reading(incident: Incident) -> tuple[bool, int, float, str]:
    over = incident.state == "resolved"
    return over, rank(incident.severity), -incident.started, incident.id


def traffic_of(rows: Sequence[Row]) -> dict[Pair, float]:
    """Return requests (else connections) per second of each current pair."""
    traffic = {}
    for row in rows:
        pair = Pair(row["client"], row["server"], row["port"], row["transport"])
        traffic[pair] = float(next((row[name] for name in _BUSY if name in row), 0.0))
    return traffic


def running_in(directory: Path, *, now: float) -> Published | None:
    """Return what the daemon of a state directory tells; None when none runs, or it hangs."""
    try:
        return pairs.published_by(directory / state.PAIRS, now=now)
    except TailraceError:
        return None
