"""From arrays over many windows to the windows: what the generators here have in common.

A block is B windows of P pairs. Each signal is a column of arrays [B, P], so that all windows of a
block are drawn, and their rows put in order, by the same numpy operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probes.histogram import quantile_by_group_s
from probes.window import Histograms, Pair, Window, no_histograms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """One signal of all pairs in all windows of a block.

    Attributes:
        signal: its name.
        present: bool[B, P], where it has a row.
        value: float64[B, P], as `Window` has it.
        count: float64[B, P]; None for a signal without one.
        histograms: of latencies; `row` is window * P + pair.
        causes: of ratios: int64[B, P] by cause.
    """

    signal: str
    present: Bools
    value: Floats
    count: Floats | None = None
    histograms: Histograms = field(default_factory=no_histograms)
    causes: Mapping[str, Ints] = field(default_factory=dict)


def rate(signal: str, present: Bools, number: Ints | Floats, widths: Floats) -> Column:
    """Return the column of a count or a sum: `number` [B, P] in windows of `widths` [B]."""
    return Column(signal=signal, present=present, value=number / widths[:, None])


def ratio(
    signal: str, present: Bools, part: Ints, whole: Ints, causes: Mapping[str, Ints]
) -> Column:
    """Return the column of a share: rows where there is something it is a share of."""
    count = whole.astype(np.float64)
    return Column(
        signal=signal,
        present=present & (whole > 0),
        value=part / np.maximum(count, 1.0),
        count=count,
        causes=causes,
    )


def latency(signal: str, present: Bools, histograms: Histograms) -> Column:
    """Return the column of latencies: rows where there is a sample."""
    value: Floats = np.zeros(present.size)
    samples_of: Floats = np.zeros(present.size)
    group, median, samples = quantile_by_group_s(
        histograms.row.astype(np.int64), histograms.bucket.astype(np.int64), histograms.number, 0.5
    )
    value[group], samples_of[group] = median, samples
    count: Floats = samples_of.reshape(present.shape)
    return Column(
        signal=signal,
        present=present & (count > 0),
        value=value.reshape(present.shape),
        count=count,
        histograms=histograms,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Times:
    """When the windows of a block are: float64[B] each, and samples lost, int64[B]."""

    start: Floats
    width: Floats
    nominal: float
    lost: Ints


class Cutter:
    """Cuts blocks into windows; windows with the same pairs share their tuple."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = tuple(pairs)
        self._signals: tuple[str, ...] = ()
        self._there = np.zeros(0, bool)
        self._named: tuple[Pair, ...] = ()
        self._number = np.zeros(0, np.int32)

    def windows(self, columns: Sequence[Column], times: Times) -> Iterator[Window]:
        """Yield the windows of a block; rows are ordered by pair, then as the columns are."""
        signals = tuple(column.signal for column in columns)
        if signals != self._signals:
            self._signals = signals
        present = np.stack([column.present for column in columns], axis=2)
        many, pairs, kinds = present.shape
        flat = np.flatnonzero(present)
        cuts = np.searchsorted(flat, np.arange(many + 1) * (pairs * kinds)).tolist()
        nothing = np.full((many, pairs), np.nan)
        value = np.stack([c.value for c in columns], axis=2).ravel()[flat]
        count = np.stack([nothing if c.count is None else c.count for c in columns], axis=2)
        count = count.ravel()[flat]
        pair = flat // kinds % pairs
        signal = (flat % kinds).astype(np.int16)
        place = np.full(present.size, -1, np.int64)
        place[flat] = np.arange(len(flat))
        entries = _histograms(columns, place)
        entry_cuts = np.searchsorted(entries[0], cuts).tolist()
        causes = _causes(columns, place, cuts)
        there: Bools = np.any(present, axis=2)
        for i in range(many):
            a, b = cuts[i], cuts[i + 1]
            x, y = entry_cuts[i], entry_cuts[i + 1]
            self._name(there[i])
            yield Window(
                time=float(times.start[i]),
                width=float(times.width[i]),
                nominal=times.nominal,
                lost=int(times.lost[i]),
                pairs=self._named,
                signals=self._signals,
                pair=self._number[pair[a:b]],
                signal=signal[a:b],
                value=value[a:b],
                count=count[a:b],
                histograms=Histograms(
                    (entries[0][x:y] - a).astype(np.int32), entries[1][x:y], entries[2][x:y]
                ),
                causes=causes.get(i, {}),
            )

    def _name(self, there: Bools) -> None:
        if len(there) != len(self._there) or (there != self._there).any():
            self._there = there
            self._named = tuple(self._pairs[i] for i in np.flatnonzero(there).tolist())
            self._number = (np.cumsum(there) - 1).astype(np.int32)


def _histograms(columns: Sequence[Column], place: Ints) -> tuple[Ints, NDArray[np.int16], Ints]:
    """Return all entries by row of the block."""
    parts = []
    for i, column in enumerate(columns):
        entries, bucket, number = column.histograms
        at = place[entries.astype(np.int64) * len(columns) + i]
        kept = at >= 0
        parts.append((at[kept], bucket[kept], number[kept]))
    row: Ints = np.concatenate([part[0] for part in parts])
    bucket = np.concatenate([part[1] for part in parts])
    number = np.concatenate([part[2] for part in parts])
    order = np.argsort(row, kind="stable")
    return row[order], bucket[order], number[order]


def _causes(
    columns: Sequence[Column], place: Ints, cuts: Sequence[int]
) -> dict[int, dict[int, dict[str, int]]]:
    """Return the causes by window and by row of the window."""
    found: dict[int, dict[int, dict[str, int]]] = {}
    for i, column in enumerate(columns):
        for cause, numbers in column.causes.items():
            some = np.flatnonzero(numbers)
            at = place[some * len(columns) + i]
            windows = np.searchsorted(cuts, at, side="right") - 1
            named = zip(windows.tolist(), at.tolist(), numbers.ravel()[some].tolist(), strict=True)
            for window, row, number in named:
                if row >= 0:
                    rows = found.setdefault(window, {})
                    rows.setdefault(row - cuts[window], {})[cause] = int(number)
    return found
