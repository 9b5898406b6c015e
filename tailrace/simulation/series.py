"""Series of numbers per window: their level, what is random around it, and more of the same.

A number x is Poisson around an intensity, the intensity gamma around a level m with shape r, so x
is negative binomial. Given x the intensity is gamma with shape r + x and rate r / m + 1; drawn from
that, and a number from it, the law of x remains, and what r says is left of x's own surprise.
The level is the mean of the windows around. How many decides how much of the wobble is kept as it
was: as many as make the drawn series most like the recorded in variance and autocorrelation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LAGS: Final = (1, 2, 3, 5, 8, 13, 21)
"""Windows at which autocorrelations are compared."""
_HALVES: Final = (1, 2, 4, 8, 16, 32, 64)
"""Windows to either side that a level may be the mean of; or it is that of all."""
_OFF_NATS: Final = 12.0
"""A run of zeros less likely than e to minus this is no chance: the series is off."""
_REGULAR: Final = 0.8
"""Variance over mean below which a series is no chance, but a clock."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """S series of T windows.

    Attributes:
        x: float64[T, S], the numbers recorded.
        level: float64[T, S], m; 0 where it is off.
        shape: float64[S], r; inf for Poisson.
        regular: bool[S], whether it repeats its numbers as they were.
        half: int64[S], windows to either side of the level; 0 for all.
        follows: int64[S], the series whose windows set how much may happen here, -1 for none.
    """

    x: Floats
    level: Floats
    shape: Floats
    regular: Bools
    half: NDArray[np.int64]
    follows: NDArray[np.int64]

    def draw(self, rng: np.random.Generator, at: NDArray[np.int64], factor: Floats) -> Floats:
        """Return float64[B, S] numbers like those of the windows `at`, int64[B].

        Args:
            rng: where chance comes from.
            at: windows.
            factor: float64[B] on the intensity.
        """
        by = np.broadcast_to(factor[:, None], (len(at), self.x.shape[1]))
        drawn = self._draw(rng, at, by)
        some = np.flatnonzero(self.follows >= 0)
        if len(some):
            # failures go with what they are failures of, as that was drawn
            was = self.x[at][:, self.follows[some]]
            now = drawn[:, self.follows[some]]
            by = by.copy()
            by[:, some] = np.where(was > 0, now / np.maximum(was, 1.0), by[:, some])
            drawn[:, some] = self._draw(rng, at, by)[:, some]
        return drawn

    def _draw(self, rng: np.random.Generator, at: NDArray[np.int64], by: Floats) -> Floats:
        x, level = self.x[at], self.level[at]
        drawn = np.floor(x * by + rng.random(x.shape)) if (by != 1.0).any() else x.copy()
        for_chance = ~self.regular
        if for_chance.any():
            x, level, r = x[:, for_chance], level[:, for_chance], self.shape[for_chance]
            intensity = level.copy()
            finite = np.isfinite(r)
            if finite.any():
                rate = r[finite] / np.maximum(level[:, finite], 1e-300) + 1.0
                gamma = rng.standard_gamma(r[finite] + x[:, finite]) / rate
                intensity[:, finite] = np.where(level[:, finite] > 0, gamma, 0.0)
            drawn[:, for_chance] = rng.poisson(intensity * by[:, for_chance])
        return drawn


def fit_series(x: Floats, follows: Mapping[int, int]) -> Series:
    """Return what can be drawn from.

    Args:
        x: float64[T, S], numbers per window.
        follows: series of failures, and the series of what did not fail with each.
    """
    on = _on(x)
    exposure = on.astype(np.float64)
    of = np.full(x.shape[1], -1, np.int64)
    for bad, good in follows.items():
        of[bad] = good
        exposure[:, bad] = x[:, bad] + x[:, good]
    windows = max(len(x), 1)
    best = np.full(x.shape[1], np.inf)
    level, shape = np.zeros(x.shape), np.full(x.shape[1], np.inf)
    half = np.zeros(x.shape[1], np.int64)
    wanted, variance = _autocorrelation(x), x.var(axis=0)
    for h in (*(h for h in _HALVES if 4 * h < windows), 0):
        m = _level(x, exposure, h)
        square = (m**2).sum(axis=0)
        # no correction for m having x in it: so m's own noise and this make up x's variance
        excess = ((x - m) ** 2).sum(axis=0) - m.sum(axis=0)
        phi = np.maximum(excess, 0.0) / np.maximum(square, 1e-300)
        share = phi * m / (1.0 + phi * m)
        middle = m + share * (x - m)
        fresh = (middle * (1.0 + share)).mean(axis=0)
        total = np.maximum(middle.var(axis=0) + fresh, 1e-300)
        got = _autocorrelation(middle) * middle.var(axis=0) / total
        off = ((got - wanted) ** 2).mean(axis=0)
        off += np.log(total / np.maximum(variance, 1e-300)) ** 2
        better = off < best
        best = np.where(better, off, best)
        level[:, better], half[better] = m[:, better], h
        shape[better] = 1.0 / np.maximum(phi[better], 1e-12)
    shape[shape > 1e6] = np.inf
    # a clock has less variance than chance, at any level
    overall = np.where(on, x, 0.0).sum(axis=0) / np.maximum(on.sum(axis=0), 1)
    around = np.where(on, (x - overall) ** 2, 0.0).sum(axis=0) / np.maximum(on.sum(axis=0), 1)
    regular = (around < _REGULAR * overall) & (overall > 0)
    return Series(x=x, level=level, shape=shape, regular=regular, half=half, follows=of)


def _on(x: Floats) -> Bools:
    """Return where series are on: not in a run of zeros that is too long for chance."""
    on = np.ones(x.shape, bool)
    length = _zero_runs(x)
    for _ in range(4):
        mean = np.where(on, x, 0.0).sum(axis=0) / np.maximum(on.sum(axis=0), 1)
        on = length * mean < _OFF_NATS
    return on


def _zero_runs(x: Floats) -> Floats:
    """Return for each number the length of the run of zeros it is in, 0 for none."""
    zero = x == 0
    before = np.zeros(x.shape)
    after = np.zeros(x.shape)
    run = np.zeros(x.shape[1])
    for t in range(len(x)):
        run = np.where(zero[t], run + 1, 0)
        before[t] = run
    run = np.zeros(x.shape[1])
    for t in range(len(x) - 1, -1, -1):
        run = np.where(zero[t], run + 1, 0)
        after[t] = run
    return np.where(zero, before + after - 1, 0.0)


def _level(x: Floats, exposure: Floats, half: int) -> Floats:
    """Return what is expected in each window, from those within `half`; from all for 0.

    Numbers are in proportion to the exposure: 1 where a series is on and 0 where it is off; of
    failures, what could fail.
    """
    kept = np.where(exposure > 0, x, 0.0)
    if half == 0:
        overall: Floats = kept.sum(axis=0) / np.maximum(exposure.sum(axis=0), 1e-12) * exposure
        return overall
    many = len(x)
    lo = np.maximum(np.arange(many) - half, 0)
    hi = np.minimum(np.arange(many) + half + 1, many)

    def around(values: Floats) -> Floats:
        upto: Floats = np.vstack([np.zeros(x.shape[1]), np.cumsum(values, axis=0)])
        # numbers are whole: what is left of a difference of sums is rounding
        whole: Floats = np.rint(upto[hi] - upto[lo])
        return whole

    level: Floats = around(kept) / np.maximum(around(exposure), 1.0) * exposure
    return level


def _autocorrelation(x: Floats) -> Floats:
    """Return float64[lags, S]; 0 for a constant."""
    centred = x - x.mean(axis=0)
    variance = np.maximum((centred**2).mean(axis=0), 1e-300)
    lags = [lag for lag in LAGS if lag < len(x) // 2]
    return np.array([(centred[lag:] * centred[:-lag]).mean(axis=0) / variance for lag in lags])
