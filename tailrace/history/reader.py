"""Questions to the history: one stream over any span, or a summary of every pair."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from probes.window import UNITS, Kind, Pair, kind_of
from tailrace.history import codes, database
from tailrace.history.close import are_headlines
from tailrace.history.codes import Rows, concatenated
from tailrace.history.merge import merged
from tailrace.history.names import SHARD
from tailrace.history.pack import PackError, unpack_chunk, unpack_piece
from tailrace.history.settings import CHUNK_STEPS, Tier
from tailrace.history.summary import Known, PairSummary, summaries

MOST_STEPS = 60_000
"""So many steps are read for one answer at most; a coarser tier serves for more."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Series:
    """One stream over time, in equal steps.

    Attributes:
        signal: its name.
        kind: how it is measured.
        unit: of its values.
        step_s: length of a step, seconds.
        time: float64[n], starts of the steps, epoch seconds.
        values: float64[n] by name, NaN where nothing was measured. Rates (per second) and gauges:
            "mean", "min", "max"; ratios: "share", "of"; latencies: "p50", "p90", "p99" in
            seconds, "count".
    """

    signal: str
    kind: Kind
    unit: str
    step_s: float
    time: Floats
    values: Mapping[str, Floats]


class HistoryReader:
    """One `history.db`, opened for reading only; may be asked from any one thread at a time."""

    def __init__(self, state_dir: Path) -> None:
        """Open the history of a state directory; one that is missing reads as empty.

        Raises:
            TailraceError: it is damaged, or of a newer tailrace.
        """
        self._path = state_dir / database.FILE
        self._db = database.open_reader(self._path)

    def pairs(self, *, since: float, until: float) -> list[PairSummary]:
        """Return every pair of which something was seen in [since, until), by name.

        Its begin and end are taken as exactly as 60 steps of the tier that reaches back so far:
        with the default tiers that is a minute within an hour, ten within a day, and an hour
        before. When a pair was last seen is told by the chunk: 6 minutes, an hour, 6 hours.

        Raises:
            TailraceError: the file cannot be read.
        """
        if self._db is None:
            return []
        try:
            with self._transaction() as db:
                tier = _tier_for(db, since, until)
                if tier is None:
                    return []
                signals = _signals(db)
                known = _pairs(db, signals)
                rows = _summary_rows(db, tier, signals, (since, until))
        except (sqlite3.Error, PackError) as error:
            raise self._explained(error) from error
        return summaries(rows, known=known, signals=signals, until=until)

    def series(
        self, pair: Pair, signal: str, *, since: float, until: float, points: int = 300
    ) -> Series:
        """Return one stream over [since, until), by the finest tier that reaches back so far.

        Args:
            pair: whose.
            signal: its name.
            since: begin, epoch seconds.
            until: end, epoch seconds.
            points: at most so many steps; those of the tier are merged as that takes.

        Raises:
            TailraceError: the file cannot be read.
            ValueError: `until` is not after `since`, or there are no points.
        """
        if not (until > since and points >= 1):
            raise ValueError(f"no time from {since} to {until} in {points} points")
        step, rows = 1, codes.no_rows()
        window_s = 0.0
        if self._db is not None:
            try:
                with self._transaction() as db:
                    tier = _tier_for(db, since, until)
                    if tier is not None:
                        step, window_s = tier.step, _window_s(db)
                        rows = _stream_rows(db, tier, (pair, signal), (since, until))
            except (sqlite3.Error, PackError) as error:
                raise self._explained(error) from error
        return _series(
            signal, rows, step=step, span=(since, until), points=points, window_s=window_s
        )

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _transaction(self) -> _Reading:
        assert self._db is not None
        return _Reading(self._db)

    def _explained(self, error: Exception) -> database.HistoryError:
        if isinstance(error, sqlite3.Error):
            return database.failed(error, self._path)
        return database.damaged(self._path)


class _Reading:
    """Everything that is read within it is of one moment."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN")
        return self._db

    def __exit__(self, *_: object) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _window_s(db: sqlite3.Connection) -> float:
    found = db.execute("SELECT value FROM meta WHERE key = 'window_s'").fetchone()
    return 0.0 if found is None else float(found[0])


def _signals(db: sqlite3.Connection) -> dict[int, str]:
    return {int(number): str(name) for number, name in db.execute("SELECT * FROM signals")}


def _pairs(db: sqlite3.Connection, signals: Mapping[int, str]) -> dict[int, Known]:
    """Return what is known of the pairs, by number."""
    found = {}
    for number, *of, first, bits in db.execute(
        "SELECT number, client, server, port, transport, first, signals FROM pairs"
    ):
        has = np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8))).tolist()
        names = tuple(sorted(signals[each] for each in has if each in signals))
        found[int(number)] = Known(Pair(*of), int(first), names)
    return found


def _tier_for(db: sqlite3.Connection, since: float, until: float) -> Tier | None:
    """Return the finest tier that has all that is there of a span; None when there is nothing."""
    reach = [
        (Tier(step, keep), int(first))
        for step, keep, first in db.execute(
            "SELECT step, keep, first FROM tiers WHERE first IS NOT NULL ORDER BY step"
        )
    ]
    if not reach:
        return None
    coarsest = reach[-1][0]
    # A coarser tier begins earlier by less than a step for no other reason than its steps
    wanted = max(since, min(first for _, first in reach)) + coarsest.step
    for tier, first in reach:
        if first <= wanted and (until - wanted) / tier.step <= MOST_STEPS:
            return tier
    return coarsest


def _starts(tier: Tier, since: float, until: float) -> tuple[int, int]:
    """Return the starts of the first and the last chunk that have something of a span."""
    return (
        math.floor(since / tier.chunk) * tier.chunk,
        (math.ceil(until / tier.chunk) - 1) * tier.chunk,
    )


def _stream_rows(
    db: sqlite3.Connection, tier: Tier, stream: tuple[Pair, str], span: tuple[float, float]
) -> Rows:
    """Return the rows of one stream in a span, by step."""
    (pair, signal), (since, until) = stream, span
    found = db.execute(
        "SELECT number FROM pairs WHERE client = ? AND server = ? AND port = ? AND transport = ?",
        pair,
    ).fetchone()
    named = db.execute("SELECT number FROM signals WHERE name = ?", (signal,)).fetchone()
    if found is None or named is None:
        return codes.no_rows()
    number, of = int(found[0]), int(named[0])
    first, last = _starts(tier, since, until)
    parts = []
    # Each start is looked up by itself: the index has all pairs of one start together
    for start, data in db.execute(
        "WITH RECURSIVE starts(at) AS (SELECT :first UNION ALL"
        " SELECT at + :chunk FROM starts WHERE at < :last)"
        " SELECT at, data FROM starts JOIN chunks"
        " ON step = :step AND start = at AND pair = :pair",
        {
            "first": first,
            "last": last,
            "chunk": tier.chunk,
            "step": tier.step,
            "pair": number,
        },
    ):
        parts.append(
            unpack_chunk(
                data, pair=number, start=start, step=tier.step, steps=CHUNK_STEPS, signal=of
            )
        )
    for (data,) in db.execute(
        "SELECT data FROM pieces WHERE step = ? AND start >= ? AND start < ? AND shard = ?",
        (tier.step, first, last + tier.chunk, number // SHARD),
    ):
        parts.append(unpack_piece(data, lambda pairs, names: (pairs == number) & (names == of)))
    rows = concatenated(parts)
    inside = (rows.step + tier.step > since) & (rows.step < until)
    rows = rows.take(np.flatnonzero(inside))
    return rows.take(np.argsort(rows.step, kind="stable"))


def _summary_rows(
    db: sqlite3.Connection, tier: Tier, signals: Mapping[int, str], span: tuple[float, float]
) -> list[tuple[int, Rows]]:
    """Return the headlines of a span, with the length of their steps.

    Of chunks that are within it as a whole, else of sections, and of steps that have no summary.
    """
    since, until = span
    first, last = _starts(tier, since, until)
    named = [signals.get(number, "") for number in range(max(signals, default=-1) + 1)]
    wholes = {
        (int(start), int(shard))
        for start, shard in db.execute(
            "SELECT start, shard FROM summaries"
            " WHERE step = ? AND start >= ? AND start <= ? AND whole = 1",
            (tier.step, since, until - tier.chunk),
        )
    }
    chunks: list[Rows] = []
    sections: list[Rows] = []
    steps: list[Rows] = []
    bounds = (tier.step, first, last + tier.chunk)
    for start, shard, whole, data in db.execute(
        "SELECT start, shard, whole, data FROM summaries"
        " WHERE step = ? AND start >= ? AND start < ?",
        bounds,
    ):
        if whole == ((start, shard) in wholes):
            (chunks if whole else sections).append(unpack_piece(data))
    for (data,) in db.execute(
        "SELECT data FROM pieces WHERE step = ? AND start >= ? AND start < ? AND merged = 0",
        bounds,
    ):
        steps.append(unpack_piece(data, lambda pair, signal: are_headlines(pair, signal, named)))
    found = []
    for length, parts in ((tier.chunk, chunks), (tier.section, sections), (tier.step, steps)):
        rows = concatenated(parts)
        inside = (rows.step + length > since) & (rows.step < until)
        found.append((length, rows.take(np.flatnonzero(inside))))
    return found


def _series(
    signal: str,
    rows: Rows,
    *,
    step: int,
    span: tuple[float, float],
    points: int,
    window_s: float,
) -> Series:
    """Return rows of one stream, by step, as a series of at most so many points."""
    kind = kind_of(signal)
    since, until = span
    # at least as long as a window, or there would be gaps between them
    many = max(1, math.ceil(window_s / step - 1e-6), math.ceil((until - since) / step / points))
    while True:
        length = step * many
        first = math.floor(since / length)
        number = max(1, math.ceil(until / length) - first)
        if number <= points:
            break
        many += 1
    into = rows.step // length - first
    inside = (into >= 0) & (into < number)
    rows, into = rows.take(inside), into[inside]
    return Series(
        signal=signal,
        kind=kind,
        unit=UNITS.get(signal, ""),
        step_s=float(length),
        time=np.arange(first, first + number).astype(np.float64) * length,
        values=merged(kind, into, rows.codes, number),
    )
