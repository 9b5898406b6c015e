"""From windows to the rows of one step of every tier.

What is under way is held exactly: sums, extremes and whole histograms. Only what is complete
becomes codes, so the quantiles of a minute are those of all its samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from probes.histogram import BUCKETS, bucket_of, lower_edge_s
from probes.window import Kind, Window, kind_of
from tailrace.history import codes
from tailrace.history.codes import COLUMNS, QUANTILES, Rows, summed

_BUCKET_BITS = (BUCKETS - 1).bit_length()
SIGNAL_BITS = 16
_MOST = 1e200
"""So large a value can still be multiplied by any number of seconds or samples."""
_KIND = {Kind.RATIO: 1, Kind.LATENCY: 2}

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Sums(NamedTuple):
    """What was seen of streams in some time, exactly; one row per stream.

    Attributes:
        key: int64[n], the pair's number << 16 | the signal's; unique.
        kind: int8[n], 0 rates and gauges, 1 ratios, 2 latencies.
        weight: float64[n], seconds, attempts or samples.
        total: float64[n], value times weight; of a latency nothing.
        low, high: float64[n], of the value; of a latency nothing.
        entry: int64[k], rows of the histograms' entries; ascending.
        bucket: int64[k].
        number: float64[k].
    """

    key: Ints
    kind: NDArray[np.int8]
    weight: Floats
    total: Floats
    low: Floats
    high: Floats
    entry: Ints
    bucket: Ints
    number: Floats


def width_s(window: Window) -> float:
    """Return how long a window is; a second if nobody knows."""
    return next((w for w in (window.width, window.nominal) if math.isfinite(w) and w > 0), 1.0)


def sums_of(window: Window, pair: Ints, signal: Ints) -> Sums:
    """Return what one window says.

    Args:
        window: it.
        pair: int64, numbers of its pairs; negative for those that are not kept.
        signal: int64, numbers of its signals, likewise.
    """
    kinds = [_KIND.get(kind_of(name), 0) for name in window.signals]
    kind = np.array(kinds, np.int8)[window.signal] if len(window) else np.empty(0, np.int8)
    numbers = pair[window.pair] if len(window) else np.empty(0, np.int64)
    value, count = window.value, np.nan_to_num(window.count, nan=0.0, posinf=0.0)
    names = signal[window.signal]
    usable = (numbers >= 0) & (names >= 0) & np.isfinite(value) & ((kind != 1) | (count > 0))
    rows = np.flatnonzero(usable)
    kind, value, count = kind[rows], value[rows], count[rows]
    value = np.clip(value, -_MOST, _MOST)
    weight = np.where(kind == 2, np.maximum(count, 1.0), count)
    weight[kind == 0] = width_s(window)
    place = np.full(len(window), -1, np.int64)
    place[rows] = np.arange(len(rows))
    entry = place[window.histograms.row]
    known = (entry >= 0) & (kind[entry] == 2) if len(rows) else np.zeros(len(entry), bool)
    entry = entry[known]
    bucket = window.histograms.bucket[known].astype(np.int64)
    number = window.histograms.number[known].astype(np.float64)
    # A recording of somebody else's may have no histograms: all samples are at the median
    bare = np.flatnonzero((kind == 2) & (np.bincount(entry, minlength=len(kind)) == 0))
    if len(bare):
        nanoseconds = np.clip(value[bare] * 1e9, 0, 2.0**52).astype(np.int64)
        entry = np.concatenate([entry, bare])
        bucket = np.concatenate([bucket, bucket_of(nanoseconds)])
        number = np.concatenate([number, weight[bare]])
        order = np.argsort(entry, kind="stable")
        entry, bucket, number = entry[order], bucket[order], number[order]
    key = numbers[rows] << SIGNAL_BITS | names[rows]
    return Sums(key, kind, weight, value * weight, value, value, entry, bucket, number)


def added(parts: Sequence[Sums]) -> Sums:
    """Return the sums of several times together."""
    if len(parts) == 1:
        return parts[0]
    joined = Sums(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    key, first, into = np.unique(joined.key, return_index=True, return_inverse=True)
    low, high = np.full(len(key), np.inf), np.full(len(key), -np.inf)
    np.minimum.at(low, into, joined.low)
    np.maximum.at(high, into, joined.high)
    start = np.cumsum([0, *(len(part.key) for part in parts)])
    of_part = np.repeat(start[:-1], [len(part.entry) for part in parts])
    cell = into[joined.entry + of_part] << _BUCKET_BITS | joined.bucket
    order = np.argsort(cell, kind="stable")
    cell = cell[order]
    begins = np.flatnonzero(np.diff(cell, prepend=-1))
    number = np.add.reduceat(joined.number[order], begins) if len(begins) else joined.number
    return Sums(
        key,
        joined.kind[first],
        summed(into, joined.weight, len(key)),
        summed(into, joined.total, len(key)),
        low,
        high,
        cell[begins] >> _BUCKET_BITS,
        cell[begins] & ((1 << _BUCKET_BITS) - 1),
        number,
    )


def rows_of(sums: Sums, step: int) -> Rows:
    """Return the rows of one step."""
    made = np.zeros((len(sums.key), COLUMNS), np.int16)
    rates, ratios, latencies = (np.flatnonzero(sums.kind == kind) for kind in (0, 1, 2))
    weight, total = sums.weight, sums.total
    made[rates] = codes.encode_rates(
        weight[rates], total[rates] / weight[rates], sums.low[rates], sums.high[rates]
    )
    hits = np.rint(total[ratios] * 1e6) / 1e6  # 0.1 of 10 is one, though 0.1 is not exact
    made[ratios] = codes.encode_ratios(weight[ratios], hits)
    if len(latencies):
        made[latencies] = codes.encode_latencies(*_quantiles(sums, latencies))
    return Rows(
        (sums.key >> SIGNAL_BITS).astype(np.int32),
        (sums.key & ((1 << SIGNAL_BITS) - 1)).astype(np.int16),
        np.full(len(sums.key), step, np.int64),
        made,
    )


def _quantiles(sums: Sums, rows: Ints) -> tuple[Floats, Floats]:
    """Return samples and quantiles (s) of the rows, each of which has entries."""
    start = np.searchsorted(sums.entry, rows)
    last = np.append(start[1:], len(sums.entry)) - 1
    upto = np.cumsum(sums.number)
    before = upto[start] - sums.number[start]
    samples = upto[last] - before
    found = np.empty((len(rows), len(QUANTILES)))
    for column, q in enumerate(QUANTILES):
        if q in (0.0, 1.0):
            edge = sums.bucket[start] if q == 0.0 else sums.bucket[last] + 1
            found[:, column] = lower_edge_s(edge)
            continue
        rank = before + q * samples
        at = np.clip(np.searchsorted(upto, rank, side="left"), start, last)
        within = np.clip((rank - (upto[at] - sums.number[at])) / sums.number[at], 0.0, 1.0)
        low, high = lower_edge_s(sums.bucket[at]), lower_edge_s(sums.bucket[at] + 1)
        found[:, column] = low + within * (high - low)
    return samples, found


class Steps:
    """The steps under way, one of each tier: a cascade, each tier fed by the finer one's steps."""

    def __init__(self, lengths: Sequence[int], done: Callable[[int, int, Sums], None]) -> None:
        """Start with nothing under way.

        Args:
            lengths: of the tiers' steps, seconds, the finest first.
            done: told of each complete step: which tier, its start (epoch seconds), its sums.
        """
        self._lengths, self._done = tuple(lengths), done
        self._open: list[tuple[int, list[Sums]] | None] = [None] * len(lengths)

    def add(self, time: float, sums: Sums) -> None:
        """Take one window that begins at an epoch second."""
        self._add(0, time, sums)

    def _add(self, tier: int, time: float, sums: Sums) -> None:
        if tier == len(self._lengths):
            return
        length = self._lengths[tier]
        step = math.floor(time / length) * length
        under_way = self._open[tier]
        if under_way is not None and under_way[0] != step:
            self._end(tier)
            under_way = None
        if under_way is None:
            under_way = self._open[tier] = (step, [])
        under_way[1].append(sums)

    def _end(self, tier: int) -> None:
        under_way, self._open[tier] = self._open[tier], None
        if under_way is not None:
            step, parts = under_way
            total = added(parts)
            self._done(tier, step, total)
            self._add(tier + 1, step, total)

    def end(self) -> None:
        """End all steps under way, though more of them may come later."""
        for tier in range(len(self._lengths)):
            self._end(tier)


def shards(rows: Rows, size: int) -> Iterator[tuple[int, Rows]]:
    """Yield the rows by shard, which is so many pairs of adjacent numbers."""
    shard = rows.pair // size
    for each in np.flatnonzero(np.bincount(shard)).tolist():
        yield each, rows.take(np.flatnonzero(shard == each))
