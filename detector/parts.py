"""The rows of a window for a bank: cut into parts that fit the processor's cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector import evidence
from probes.window import Histograms

Floats = NDArray[Any]
Ints = NDArray[np.int64]
Rows = NDArray[Any]
"""int32, as there are many; typed as any, as what takes them takes int64 too."""
At = slice | Rows
"""Which streams: a slice where they are neighbours, so that nothing is copied."""

SUSPICION, SUSPICION_SHARE = 3.0, 0.25
"""Nats of evidence, and share of the threshold, that make a stream suspect: the higher of both.
Then a run of evidence has begun, and the last blocks stay out of the baseline."""
CHUNK = 8192
"""Streams per part: about a megabyte with all that is computed for them."""


def parts(at: Rows) -> list[tuple[int, int, At]]:
    """Cut ascending stream numbers; return for each part its first row, its end, and its streams.

    A part ends with the table's chunk and not after so many rows, so that a stream's neighbours
    stay the same whichever rows are there.
    """
    if not len(at):
        return []
    inner = np.arange(at[0] // CHUNK + 1, at[-1] // CHUNK + 1) * at.dtype.type(CHUNK)
    cuts = [0, *np.searchsorted(at, inner).tolist(), len(at)]
    found: list[tuple[int, int, At]] = []
    for low, high in pairwise(cuts):
        if low == high:
            continue
        found.append((low, high, narrow(at[low:high])))
    return found


def narrow(at: Rows) -> At:
    """Return ascending stream numbers as a slice, if they are neighbours."""
    neighbours = len(at) > 0 and at[-1] - at[0] == len(at) - 1
    return slice(int(at[0]), int(at[-1]) + 1) if neighbours else at


def rows_of(at: At, rows: Ints) -> Ints:
    """Return the numbers of the streams in `rows` of a part."""
    return rows + at.start if isinstance(at, slice) else at[rows].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one model.

    Attributes:
        row: int32[m], which rows of the window.
        stream: int32[m], the stream of each, ascending and unique.
        at: int32[m], its number in the bank, ascending and unique.
    """

    row: Rows
    stream: Rows
    at: Rows

    def only(self, which: NDArray[np.bool_]) -> Part:
        """Return the rows that are marked."""
        return Part(self.row[which], self.stream[which], self.at[which])


def rows_with_entries(found: Histograms) -> tuple[Ints, Ints]:
    """Return the rows of a window that have a histogram, int64[h], and where each begins in it."""
    begins = np.ones(len(found.row), np.bool_)
    np.not_equal(found.row[1:], found.row[:-1], out=begins[1:])
    first = np.flatnonzero(begins)
    return found.row[first].astype(np.int64), first


@dataclass(frozen=True)
class Entries:
    """Histograms of rows: where each lies among those of the window.

    Attributes:
        first: int64[m], index of a row's first entry.
        length: int64[m], how many it has, > 0.
        bucket: int16[k], of all entries of the window; ascending within a row.
        number: int64[k].
    """

    first: Ints
    length: Ints
    bucket: NDArray[np.int16]
    number: Ints

    def take(self, rows: slice | Ints) -> Entries:
        """Return those of some rows."""
        return Entries(self.first[rows], self.length[rows], self.bucket, self.number)

    @cached_property
    def upto(self) -> Ints:
        """int64[m]: how many entries a row and all before it have."""
        return np.cumsum(self.length)

    @cached_property
    def flat(self) -> tuple[Ints, NDArray[np.int16], Ints]:
        """Row, bucket and number of the rows' own entries, by row."""
        row = np.repeat(np.arange(len(self.first)), self.length)
        which = np.repeat(self.first - (self.upto - self.length), self.length)
        which += np.arange(len(which))
        return row, self.bucket[which], self.number[which]


@dataclass(frozen=True, slots=True)
class Obs:
    """What was observed, a row per stream.

    Attributes:
        value: float32[m]: rate (1/s), amount (B/s), hits, median (s) or value, by the model.
        trials: float32[m]: attempts or samples; empty where there are none.
        entries: histograms; None where there are none.
        exact: float64[m], `value` as it was; empty but for gauges.
    """

    value: Floats
    trials: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    entries: Entries | None = None
    exact: Floats = field(default_factory=lambda: np.zeros(0))

    def part(self, low: int, high: int) -> Obs:
        """Return rows [low, high)."""
        rows = slice(low, high)
        entries = self.entries.take(rows) if self.entries is not None else None
        return Obs(self.value[rows], self.trials[rows], entries, self.exact[rows])

    def take(self, rows: Ints) -> Obs:
        """Return some rows, given in ascending order."""
        entries = self.entries.take(rows) if self.entries is not None else None
        trials = self.trials[rows] if len(self.trials) else self.trials
        exact = self.exact[rows] if len(self.exact) else self.exact
        return Obs(self.value[rows], trials, entries, exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the engine knows about the rows of a window beyond their values.

    Attributes:
        time: start of the window, epoch seconds.
        end: end of the window.
        number: how many windows there were.
        log_c: float32[m] or [1], threshold of each row's stream, nats.
        spacing: float32[m] or [1], seconds between windows of each row's stream.
        alternatives: how many share a stream's evidence.
        pause_s: longest pause that is no change.
        idle: float32[m], seconds without a row since the last one; None if no stream waited.
        age: gives float64[k], seconds for which the pairs of rows have been watched.
        warmup_s: shortest history before a stream is judged.
        adopt_s: how long a change lasts before it is the new baseline.
        scored: whether anomaly scores are wanted.
        cap: float32[m] or [1], derived: most that a window adds, nats.
    """

    time: float
    end: float
    number: int
    log_c: Floats
    spacing: Floats
    idle: Floats | None
    age: Callable[[Ints], Floats]
    warmup_s: float
    adopt_s: float
    scored: bool
    alternatives: int = 1
    pause_s: float = evidence.PAUSE_S
    cap: Floats = field(default_factory=lambda: np.zeros(1))

    def part(self, low: int, high: int) -> Moment:
        """Return rows [low, high), with what is derived."""
        log_c, spacing = _cut(self.log_c, low, high), _cut(self.spacing, low, high)
        # so that one alternative at its cap is enough, however many there are
        most = log_c + np.float32(np.log(self.alternatives))
        cap = evidence.window_cap(most, spacing, self.pause_s)
        return replace(
            self,
            log_c=log_c,
            spacing=spacing,
            idle=None if self.idle is None else self.idle[low:high],
            age=lambda rows: self.age(rows + low),
            cap=cap.astype(np.float32, copy=False),
        )

    def suspects(self, mass: Floats) -> tuple[Ints, Ints]:
        """Return which rows are under suspicion, and which passed their thresholds.

        Args:
            mass: float32[m], R of all rows.
        """
        # Hardly any: only for these the thresholds are worked out
        some = np.flatnonzero(mass > np.float32(np.exp(SUSPICION)))
        log_c, r = self.log_c_of(some), mass[some]
        hot = r > np.exp(np.maximum(SUSPICION, SUSPICION_SHARE * log_c))
        return some[hot], some[hot & (r >= np.exp(log_c))]

    def allowed(self, judged: NDArray[np.bool_]) -> float:
        """Return how many false alarms the thresholds allow the marked rows, in this window."""
        if len(self.log_c) == 1:
            return np.count_nonzero(judged) * float(np.exp(-self.log_c[0]))
        return float(np.exp(-self.log_c).sum(where=judged, dtype=np.float64))

    def spacing_of(self, rows: Ints) -> Floats:
        """Return float32[k], the spacing of rows."""
        return self.spacing[rows] if len(self.spacing) > 1 else np.repeat(self.spacing, len(rows))

    def log_c_of(self, rows: Ints) -> Floats:
        """Return float32[k], the thresholds of rows."""
        return self.log_c[rows] if len(self.log_c) > 1 else np.repeat(self.log_c, len(rows))


def _cut(array: Floats, low: int, high: int) -> Floats:
    return array[low:high] if len(array) > 1 else array
