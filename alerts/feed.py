"""The feed of changes: what is significant at a false discovery rate, shown and never told.

In: the detector's list of such changes, window by window. Out: rows with begin, end and peak, to
be stored with findings. A finding keeps to the budget of false alerts; of the feed only a share
of rows is wrong, so it has what is too weak for a finding, or was seen before it was sure. Pure.
"""

from __future__ import annotations

import dataclasses
import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from detector.calibration import Change
from detector.finding import Direction, finding_id, rfc3339
from probes.window import UNITS, Pair

SCHEMA = "tailrace.change/1"
OVER_AFTER_S: Final = 60.0
"""A change that is not significant for this long is over: weak evidence comes and goes."""
MOST_OPEN: Final = 1000
"""So many changes are followed at a time, the most significant."""
MOST_ROWS: Final = 10_000
KEPT_S: Final = 86_400.0

_Key = tuple[Pair, str, Direction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One row of the feed.

    Attributes:
        id: stable; that of the finding, if one with this onset was made of it.
        pair: the service pair.
        signal: the signal that changed.
        direction: "up" or "down".
        onset: when the evidence began, epoch seconds.
        seen: end of the latest window in which it was significant, epoch seconds.
        ended: the same once it is over; None while it is not.
        peak: most evidence, nats.
        before: baseline, in the signal's unit; None when it is not known.
        after: level at the peak.
    """

    id: str
    pair: Pair
    signal: str
    direction: Direction
    onset: float
    seen: float
    ended: float | None
    peak: float
    before: float | None
    after: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the public form, as `docs/formats.md` specifies it."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "client": self.pair.client,
            "server": self.pair.server,
            "port": self.pair.port,
            "transport": self.pair.transport,
            "signal": self.signal,
            "direction": self.direction,
            "onset": rfc3339(self.onset),
            "seen": rfc3339(self.seen),
            "ended": None if self.ended is None else rfc3339(self.ended),
            "before": self.before,
            "after": self.after,
            "unit": UNITS.get(self.signal, ""),
            "nats": self.peak,
        }


class Feed:
    """What is in the feed now, and what of it is not stored yet.

    Args:
        still: rows that had not ended when they were last stored.
    """

    def __init__(self, still: Iterable[Shown] = ()) -> None:
        self._open: dict[_Key, Shown] = {_key(row): row for row in still}
        self._unstored: dict[str, Shown] = {}

    def __len__(self) -> int:
        return len(self._open)

    def update(self, changes: Sequence[Change], *, end: float) -> None:
        """Take what is significant after a window that ended at `end`, epoch seconds."""
        strongest = sorted(changes, key=lambda c: (-c.nats, c.pair, c.signal, c.direction))
        for change in strongest[:MOST_OPEN]:
            key = change.pair, change.signal, change.direction
            row = self._open.get(key)
            if row is None:
                row = _begun(change, end)
            elif change.nats > row.peak:
                row = dataclasses.replace(
                    row, seen=end, peak=float(change.nats), after=_number(change.after)
                )
            else:
                row = dataclasses.replace(row, seen=end)
            self._open[key] = self._unstored[row.id] = row
        for key, row in list(self._open.items()):
            # Seen later than now: the clock was set back
            if not 0.0 <= end - row.seen < OVER_AFTER_S:
                del self._open[key]
                self._unstored[row.id] = dataclasses.replace(row, ended=row.seen)

    def unstored(self) -> list[Shown]:
        """Return the rows that are new or changed since `stored` was last called."""
        return list(self._unstored.values())

    def stored(self) -> None:
        """Take note that what `unstored` returned is stored."""
        self._unstored.clear()


def _key(row: Shown) -> _Key:
    return row.pair, row.signal, row.direction


def _begun(change: Change, end: float) -> Shown:
    return Shown(
        id=finding_id(change.pair, change.signal, change.direction, change.onset),
        pair=change.pair,
        signal=change.signal,
        direction=change.direction,
        onset=float(change.onset),
        seen=end,
        ended=None,
        peak=float(change.nats),
        before=_number(change.before),
        after=_number(change.after),
    )


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


_COLUMNS = (
    "id", "client", "server", "port", "transport", "signal", "direction", "onset", "seen",
    "ended", "peak", "before", "after",
)  # fmt: skip
_UPSERT = (
    f"INSERT INTO changes ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608 - columns above
    "ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, ended = excluded.ended,"
    " peak = excluded.peak, after = excluded.after"
)


def save(db: sqlite3.Connection, rows: Iterable[Shown], *, now: float) -> None:
    """Store rows within a transaction; of all that are stored the latest stay, for a day."""
    db.executemany(
        _UPSERT,
        [
            (
                row.id, *row.pair, row.signal, row.direction, row.onset, row.seen, row.ended,
                row.peak, row.before, row.after,
            )
            for row in rows
        ],
    )  # fmt: skip
    db.execute("DELETE FROM changes WHERE seen < ?", (now - KEPT_S,))
    db.execute(
        "DELETE FROM changes WHERE id IN"
        " (SELECT id FROM changes ORDER BY seen DESC, peak DESC LIMIT -1 OFFSET ?)",
        (MOST_ROWS,),
    )


SELECT: Final = (
    "SELECT * FROM changes WHERE (?1 IS NULL OR ended IS NULL OR ended >= ?1)"
    " AND (?2 IS NULL OR onset < ?2) AND (?3 IS NULL OR client = ?3)"
    " AND (?4 IS NULL OR server = ?4) AND (?5 IS NULL OR signal = ?5)"
    " AND (NOT ?6 OR ended IS NULL) ORDER BY onset, id"
)
"""For: since, until, client, server, signal, and whether only what has not ended."""


def from_row(row: sqlite3.Row) -> Shown:
    """Return the row of the feed that a row of the table holds."""
    pair = Pair(row["client"], row["server"], row["port"], row["transport"])
    rest = {name: row[name] for name in _COLUMNS if name not in Pair._fields}
    return Shown(pair=pair, **rest)
