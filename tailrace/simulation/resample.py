"""More of the same: windows like those of a recording, for as long as is wanted.

Stretches of some minutes of the recording follow one another, all pairs together, so that what
moved together does so again. A stretch is followed by one that begins where the levels had been
most like those before its end (the matched-block bootstrap: Carlstein et al., Bernoulli 4, 1998),
so that joins are no steps and jobs go on in time, unless the recording shows something once that is
like nothing else in it. Of each window the numbers and the latencies are drawn anew from what was
learned (`calibrate`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from probes.window import Histograms, Window, no_histograms
from tailrace.simulation import blocks
from tailrace.simulation.blocks import Bools, Column, Floats, Ints
from tailrace.simulation.calibrate import (
    LOCAL,
    Counted,
    Gauged,
    Known,
    Shared,
    Stream,
    Summed,
    Timed,
)
from tailrace.simulation.laws import DAY_S
from tailrace.simulation.samples import histograms_of

STRETCH_S = 240.0
"""Mean length of a stretch."""
_CANDIDATES = 2048
"""Places for the next stretch of which the most alike is taken."""
_EVENLY = 0.5
"""What it weighs that a place was taken once more than the others, beside being alike: it adds up,
so that in the long run all are taken as often."""
_AROUND = 8
"""Windows over which levels are smoothed to compare them."""
_LAGS = (0, 9, 18, 36, 72, 144)
"""So many windows before a join levels are compared, too: a job that is due here is due there."""
_EARLIER = 0.07
"""What each of the earlier ones weighs, beside the last: the join must be no step first of all."""
_BLOCK, _CELLS = 256, 200_000
"""Windows, and windows times series, that are drawn at once."""


class Resampled:
    """Windows drawn from a recording. The same arguments give the same windows.

    Attributes:
        about: how many windows there will be.
        levels: float32[T, S], by which windows of the recording are compared.
        joins: where stretches ended, and where the next began.
    """

    def __init__(self, known: Known, *, seed: int, lasts: float, daily: float = 0.0) -> None:
        """Take what is known.

        Args:
            known: from `calibrate.fit`.
            seed: of all that is random.
            lasts: how long, seconds.
            daily: amplitude of a daily wave on all rates, in [0, 1).
        """
        self._known, self._daily = known, daily
        self._rng = np.random.Generator(np.random.SFC64(seed))
        self.about = max(math.ceil(lasts / known.window - 1e-9), 1)
        self.levels = _features(known.series.x)
        total = len(known.follows)
        self._stretch = int(np.clip(STRETCH_S / known.window, 5, max(total / 4, 5)))
        self._lags = np.array([lag for lag in _LAGS if lag <= total // 8])
        self._at, self._left = 0, self._length()
        self._seen = np.zeros(total)
        self.joins: list[tuple[int, int]] = []
        self._met = np.zeros(len(known.pairs), bool)
        self._by_signal: dict[str, list[Stream]] = {}
        for stream in known.streams:
            self._by_signal.setdefault(stream.signal, []).append(stream)

    def windows(self) -> Iterator[Window]:
        """Yield the windows."""
        known, number = self._known, 0
        cutter = blocks.Cutter(known.pairs)
        width = max(known.series.x.shape[1], len(known.pairs), 1)
        block = max(min(_BLOCK, _CELLS // width), 1)
        while number < self.about:
            many = min(block, self.about - number)
            start = known.begin + (number + np.arange(many)) * known.window
            times = blocks.Times(
                start=start,
                width=np.full(many, known.window),
                nominal=known.window,
                lost=np.zeros(many, np.int64),
            )
            yield from cutter.windows(self._columns(start), times)
            number += many

    def path(self, number: int) -> Ints:
        """Return which recorded windows the next ones are like, int64[number]."""
        chosen = np.empty(number, np.int64)
        for i in range(number):
            chosen[i] = self._at
            self._seen[self._at] += 1.0
            self._left -= 1
            following = self._at + 1
            ended = following >= len(self._known.follows) or not self._known.follows[following]
            if self._left <= 0 or ended:
                following = self._join()
                self._left = self._length()
            self._at = following
        return chosen

    def _length(self) -> int:
        return int(self._rng.integers(self._stretch // 2 + 1, 2 * self._stretch))

    def _join(self) -> int:
        """Return where the next stretch begins: its window before is most like this one."""
        total = len(self._known.follows)
        places = self._rng.integers(1, total, _CANDIDATES)
        # not where it is already: that would only go on
        far = np.abs(places - self._at) > min(self._stretch, total // 8)
        places = places[far & self._known.follows[places]]
        if not len(places):
            return int(self._rng.integers(0, total))
        before = self.levels[np.maximum(places[:, None] - 1 - self._lags, 0)]
        apart = before - self.levels[np.maximum(self._at - self._lags, 0)]
        unlike = (apart**2).sum(axis=2) @ np.where(self._lags > 0, _EARLIER, 1.0)
        # what is like nothing else would be left for good and never come again
        upto = np.append(0.0, np.cumsum(self._seen))
        ahead = np.minimum(places + self._stretch, total)
        seen = (upto[ahead] - upto[places]) / (ahead - places)
        cost = unlike / max(float(np.mean(unlike)), 1e-9) + _EVENLY * (seen - self._seen.mean())
        best = int(places[np.argmin(cost)])
        self.joins.append((self._at, best))
        return best

    def _columns(self, start: Floats) -> list[Column]:
        known, rng = self._known, self._rng
        at = self.path(len(start))
        factor = 1.0 + self._daily * np.sin(2 * np.pi * (start / DAY_S - 0.25))
        numbers = known.series.draw(rng, at, factor)
        # a pair stays once it was there: a watched pair without traffic has zeros
        here = np.logical_or.accumulate(known.here[at], axis=0) | self._met
        self._met = here[-1]
        return [
            self._column(signal, streams, at, numbers, here)
            for signal, streams in self._by_signal.items()
        ]

    def _column(
        self, signal: str, streams: list[Stream], at: Ints, numbers: Floats, here: Bools
    ) -> Column:
        value, count = np.zeros(here.shape), np.zeros(here.shape)
        mine = np.zeros(here.shape[1], bool)
        mine[[stream.pair for stream in streams]] = True
        causes: dict[str, Ints] = {}
        parts: list[Histograms] = []
        width = np.full(len(at), self._known.window)
        for stream in streams:
            pair = stream.pair
            if isinstance(stream, Counted):
                value[:, pair] = numbers[:, stream.series]
            elif isinstance(stream, Summed):
                value[:, pair] = self._amount(stream, at, numbers)
            elif isinstance(stream, Gauged):
                value[:, pair] = stream.value[at]
            elif isinstance(stream, Shared):
                value[:, pair] = numbers[:, stream.bad]
                count[:, pair] = value[:, pair] + numbers[:, stream.good]
                self._name(stream, value[:, pair].astype(np.int64), causes, here.shape)
            else:
                drawn = self._timed(stream, at, numbers[:, stream.series].astype(np.int64))
                row = drawn.row * np.int32(here.shape[1]) + np.int32(pair)
                parts.append(drawn._replace(row=row))
        if isinstance(streams[0], Gauged):
            return Column(signal=signal, present=here & mine & ~np.isnan(value), value=value)
        if isinstance(streams[0], Shared):
            whole = count.astype(np.int64)
            return blocks.ratio(signal, here & mine, value.astype(np.int64), whole, causes)
        if isinstance(streams[0], Timed):
            return blocks.latency(signal, here & mine, _merged(parts))
        return blocks.rate(signal, here & mine, value, width)

    def _amount(self, stream: Summed, at: Ints, numbers: Floats) -> Floats:
        size = stream.size[at]
        if stream.driver < 0:
            return size
        missing = np.isnan(size)
        if missing.any():
            known = stream.size[~np.isnan(stream.size)]
            size[missing] = self._rng.choice(known, int(missing.sum()))
        return np.rint(size * numbers[:, stream.driver])

    def _name(
        self, stream: Shared, failed: Ints, causes: dict[str, Ints], shape: tuple[int, int]
    ) -> None:
        """Give failures their causes, in the proportions recorded."""
        left, share_left = failed.copy(), 1.0
        for cause, share in stream.causes.items():
            if stream.apart:
                share_now = min(share / max(share_left, 1e-12), 1.0)
                number = self._rng.binomial(left, share_now)
                left, share_left = left - number, share_left - share
            else:
                number = self._rng.binomial(failed, share)
            causes.setdefault(cause, np.zeros(shape, np.int64))[:, stream.pair] = number

    def _timed(self, stream: Timed, at: Ints, number: Ints) -> Histograms:
        """Return the histograms of `number` samples each, `row` the window of the block."""
        total = int(number.sum())
        if total == 0:
            return no_histograms()
        rng, start, last = self._rng, stream.start, len(stream.start) - 1
        own = self._known.series.x[at, stream.series]
        share = own / (own + stream.weight + 1e-12)
        share[start[at + 1] == start[at]] = 0.0
        lo, hi = start[np.maximum(at - LOCAL, 0)], start[np.minimum(at + LOCAL + 1, last)]
        empty = lo == hi
        lo[empty], hi[empty] = 0, len(stream.bucket)
        row = np.repeat(np.arange(len(at), dtype=np.int32), number)
        mine = rng.random(total) < share[row]
        first = np.where(mine, start[at][row], lo[row])
        beyond = np.where(mine, start[at + 1][row], hi[row])
        place = first + np.floor(rng.random(total) * (beyond - first)).astype(np.int64)
        return histograms_of(row, stream.bucket[place], len(at))


def _merged(parts: list[Histograms]) -> Histograms:
    row = np.concatenate([part.row for part in parts])
    order = np.argsort(row, kind="stable")
    return Histograms(
        row[order],
        np.concatenate([part.bucket for part in parts])[order],
        np.concatenate([part.number for part in parts])[order],
    )


def _features(x: Floats) -> NDArray[np.float32]:
    """Return float32[T, S]: smoothed levels, each with the same weight."""
    many = len(x)
    lo = np.maximum(np.arange(many) - _AROUND, 0)
    hi = np.minimum(np.arange(many) + 1, many)
    root = np.vstack([np.zeros(x.shape[1]), np.cumsum(np.sqrt(x), axis=0)])
    smooth = (root[hi] - root[lo]) / (hi - lo)[:, None]
    deviation = smooth.std(axis=0)
    features: NDArray[np.float32] = smooth / np.where(deviation > 0, deviation, 1.0)
    return features.astype(np.float32)
