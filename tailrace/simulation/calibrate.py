"""What a recording shows of each service pair, as a law that more of the same can be drawn from.

All that is counted becomes series of numbers per window: requests; the two parts of a ratio; the
samples of a latency. Each series is taken for Poisson numbers around an intensity, and the
intensity for gamma numbers around a level that moves slowly (`levels.py` in the other direction).
`resample` puts recorded stretches together anew and draws intensity and number again, given what
was recorded: the same law, other numbers (one step of a Gibbs sampler).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probes.histogram import bucket_of, lower_edge_s
from probes.window import Kind, Pair, Window, kind_of
from tailrace.durations import duration_text
from tailrace.errors import RecordingError
from tailrace.simulation.blocks import Bools, Floats, Ints
from tailrace.simulation.series import Series, fit_series

FEWEST = 30
"""Windows without which nothing is learned."""
LOCAL = 16
"""Windows to either side whose latencies are a window's prior."""
_KEPT_SAMPLES = 300
"""Latency samples that are kept of one window of a stream: enough for its shape."""
_SAME = 0.98
"""Share of windows in which two series of a pair must agree to be one."""


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """A count: `series` is its column."""

    pair: int
    signal: str
    series: int


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """A ratio: columns of both parts, and how many of each cause there were of all failures.

    Attributes:
        causes: share of the failures that had it.
        apart: whether each failure has exactly one cause.
    """

    pair: int
    signal: str
    good: int
    bad: int
    causes: Mapping[str, float]
    apart: bool


@dataclass(frozen=True, slots=True, eq=False)
class Summed:
    """A sum: the column that brings it, and the size of one event in each window, float64[T].

    Without such a column (-1), `size` is the sum itself.
    """

    pair: int
    signal: str
    driver: int
    size: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """A latency: the column of its samples' number, and the samples.

    Attributes:
        bucket: int32[n], samples by window.
        start: int64[T + 1], where each window's begin.
        weight: samples that the windows around count for, beside a window's own: the less, the
            more the windows differ from another (variance within over variance between).
    """

    pair: int
    signal: str
    series: int
    bucket: NDArray[np.int32]
    start: Ints
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Gauged:
    """Any other number, float64[T]; NaN where there was none."""

    pair: int
    signal: str
    value: Floats


Stream = Counted | Shared | Summed | Timed | Gauged


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """What was learned from a recording.

    Attributes:
        pairs: every pair.
        window: length of a window, seconds.
        begin: start of the first one, epoch seconds.
        follows: bool[T], whether a window begins where the one before it ended.
        series: all that is counted.
        streams: what the rows are made of.
        here: bool[T, P], whether a pair has a row.
        skipped: windows that were left out: of another length, or with samples lost.
    """

    pairs: tuple[Pair, ...]
    window: float
    begin: float
    follows: Bools
    series: Series
    streams: tuple[Stream, ...]
    here: Bools
    skipped: int

    def summary(self) -> str:
        """Return what was learned, in a line."""
        text = (
            f"learned from {len(self.follows)} windows of {duration_text(self.window)}: "
            f"{len(self.pairs)} pairs, {len(self.streams)} streams"
        )
        return f"{text}; {self.skipped} windows left out" if self.skipped else text


def fit(windows: Iterable[Window]) -> Known:
    """Return what windows show.

    Raises:
        RecordingError: they are too few, or of no common length.
    """
    every = list(windows)
    length = _length(every)
    good = [w for w in every if w.lost == 0 and _fits(w, length)]
    if len(good) < FEWEST:
        raise RecordingError(
            f"{len(good)} whole windows are too few to learn from",
            remedy=f"record at least {FEWEST} windows, better some minutes",
        )
    tables = _Tables(good, length)
    return tables.known(skipped=len(every) - len(good))


def _length(windows: Sequence[Window]) -> float:
    nominal = [w.nominal for w in windows if w.nominal > 0]
    width = nominal or [w.width for w in windows if w.width > 0]
    if not width:
        width = np.diff([w.time for w in windows]).tolist()
    return float(np.median(width)) if width else float("nan")


def _fits(window: Window, length: float) -> bool:
    return not window.width > 0 or abs(window.width - length) <= 0.1 * length


@dataclass(slots=True, eq=False)
class _Raw:
    """One stream as it was recorded, float64[T]; NaN where there was no row."""

    value: Floats
    count: Floats
    buckets: list[tuple[int, NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)
    causes: dict[str, int] = field(default_factory=dict)


class _Tables:
    """From windows to one table per stream, and from these to what is drawn from."""

    def __init__(self, windows: Sequence[Window], length: float) -> None:
        self._many, self._length = len(windows), length
        self._time = np.array([w.time for w in windows])
        pairs: dict[Pair, int] = {}
        self._raw: dict[tuple[int, str], _Raw] = {}
        for t, window in enumerate(windows):
            self._add(t, window, pairs)
        self._pairs = tuple(pairs)
        self._series: list[Floats] = []
        self._of_pair: dict[int, list[int]] = {}

    def _add(self, t: int, window: Window, pairs: dict[Pair, int]) -> None:
        first = np.searchsorted(window.histograms.row, np.arange(len(window) + 1)).tolist()
        rows = zip(window.pair.tolist(), window.signal.tolist(), strict=True)
        for row, (pair, signal) in enumerate(rows):
            number = pairs.setdefault(window.pairs[pair], len(pairs))
            raw = self._raw.get((number, window.signals[signal]))
            if raw is None:
                raw = _Raw(np.full(self._many, np.nan), np.full(self._many, np.nan))
                self._raw[number, window.signals[signal]] = raw
            raw.value[t], raw.count[t] = window.value[row], window.count[row]
            a, b = first[row], first[row + 1]
            if b > a:
                _, bucket, entries = window.histograms
                raw.buckets.append((t, bucket[a:b].astype(np.int64), entries[a:b]))
            for cause, seen in window.causes.get(row, {}).items():
                raw.causes[cause] = raw.causes.get(cause, 0) + seen

    def known(self, *, skipped: int) -> Known:
        """Return what was learned."""
        here = np.zeros((self._many, len(self._pairs)), bool)
        # counts first, for sums and samples follow them
        order = {Kind.COUNT: 0, Kind.RATIO: 1, Kind.LATENCY: 2, Kind.SUM: 3}
        streams: list[Stream] = []
        for (pair, signal), raw in sorted(
            self._raw.items(), key=lambda item: order.get(kind_of(item[0][1]), 4)
        ):
            here[:, pair] |= ~np.isnan(raw.value)
            streams.append(self._stream(pair, signal, raw))
        x = np.stack(self._series, axis=1) if self._series else np.zeros((self._many, 0))
        return Known(
            pairs=self._pairs,
            window=self._length,
            begin=float(self._time[0]),
            follows=np.append(False, np.diff(self._time) < 1.5 * self._length),
            series=fit_series(x, {s.bad: s.good for s in streams if isinstance(s, Shared)}),
            streams=tuple(streams),
            here=here,
            skipped=skipped,
        )

    def _stream(self, pair: int, signal: str, raw: _Raw) -> Stream:
        kind = kind_of(signal)
        if kind is Kind.COUNT:
            return Counted(pair, signal, self._column(pair, raw.value * self._length))
        if kind is Kind.RATIO:
            return self._ratio(pair, signal, raw)
        if kind is Kind.LATENCY:
            return self._latency(pair, signal, raw)
        if kind is Kind.SUM:
            return self._sum(pair, signal, raw)
        return Gauged(pair, signal, raw.value)

    def _column(self, pair: int, numbers: Floats) -> int:
        """Return the column of a series: a new one, or one of the pair's that agrees."""
        x = np.rint(np.nan_to_num(np.maximum(numbers, 0.0)))
        for column in self._of_pair.setdefault(pair, []):
            some = (x > 0) | (self._series[column] > 0)
            if some.any() and (x[some] == self._series[column][some]).mean() >= _SAME:
                return column
        self._series.append(x)
        self._of_pair[pair].append(len(self._series) - 1)
        return len(self._series) - 1

    def _ratio(self, pair: int, signal: str, raw: _Raw) -> Shared:
        bad = np.rint(raw.value * raw.count)
        total = float(np.nansum(bad))
        shares = {c: min(n / total, 1.0) for c, n in raw.causes.items()} if total else {}
        good = self._column(pair, raw.count - bad)
        # failures of one kind are never those of another: no other series is theirs
        self._series.append(np.nan_to_num(bad))
        return Shared(pair, signal, good, len(self._series) - 1, shares,
                      abs(sum(shares.values()) - 1.0) < 0.01)  # fmt: skip

    def _sum(self, pair: int, signal: str, raw: _Raw) -> Summed:
        amount = np.nan_to_num(raw.value) * self._length
        for name in ("requests", "connections"):
            if (pair, name) not in self._raw:
                continue
            driver = self._column(pair, self._raw[pair, name].value * self._length)
            events = self._series[driver]
            if events.sum() > 0:
                some = events > 0
                size = np.full(self._many, np.nan)
                size[some] = amount[some] / events[some]
                if (brought := float(amount[some].sum())) > 0:
                    size *= amount.sum() / brought
                    return Summed(pair, signal, driver, size)
        return Summed(pair, signal, -1, amount)

    def _latency(self, pair: int, signal: str, raw: _Raw) -> Timed:
        column = self._column(pair, raw.count)
        if not raw.buckets:  # a foreign recording has medians only
            some = np.flatnonzero(~np.isnan(raw.value))
            medians = bucket_of(np.rint(raw.value[some] * 1e9))
            one = np.ones(1, np.int64)
            raw.buckets = [(t, medians[i : i + 1], one) for i, t in enumerate(some.tolist())]
        samples: list[NDArray[np.int32]] = []
        sizes = np.zeros(self._many, np.int64)
        for t, bucket, number in raw.buckets:
            taken = np.repeat(bucket, number) if number.sum() <= _KEPT_SAMPLES else _evenly(
                bucket, number
            )  # fmt: skip
            samples.append(taken.astype(np.int32))
            sizes[t] = len(taken)
        start = np.append(0, np.cumsum(sizes))
        every: NDArray[np.int32] = np.concatenate(samples)
        return Timed(pair, signal, column, every, start, _weight(every, start, raw.count))


def _evenly(bucket: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    upto = np.cumsum(number)
    rank = (np.arange(_KEPT_SAMPLES) + 0.5) / _KEPT_SAMPLES * upto[-1]
    taken: NDArray[np.int64] = bucket[np.searchsorted(upto, rank)]
    return taken


def _weight(bucket: NDArray[np.int32], start: Ints, count: Floats) -> float:
    """Return the variance of samples within windows over that of the windows' own means."""
    middle = np.log(np.maximum(lower_edge_s(bucket) + lower_edge_s(bucket + 1), 1e-9) / 2)
    sums = np.append(0.0, np.cumsum(middle))
    kept = np.diff(start)
    some = np.flatnonzero(kept)
    mean = (sums[start[some + 1]] - sums[start[some]]) / kept[some]
    within = float(np.mean((middle - np.repeat(mean, kept[some])) ** 2))
    within *= len(middle) / max(len(middle) - len(some), 1)
    if len(some) < 2 or within == 0.0:
        return 0.0
    lo, hi = np.maximum(some - LOCAL, 0), np.minimum(some + LOCAL + 1, len(kept))
    local = (sums[start[hi]] - sums[start[lo]]) / (start[hi] - start[lo])
    n = np.fmax(count[some], 1.0)
    between = float(np.sum(n * ((mean - local) ** 2 - within / n)) / n.sum())
    return within / between if between > 0 else 1e12
