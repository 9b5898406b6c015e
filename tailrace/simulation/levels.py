"""How the levels of many service pairs move: by the day, the week, at random, and in bursts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailrace.simulation.fate import on_time
from tailrace.simulation.laws import DAY_S
from tailrace.simulation.scenario import Bursts, Jobs, Pairs

Floats = NDArray[np.float64]
WANDER_S = 6 * 3600.0
"""Correlation time of the slow wander of levels."""
_SLOPE_S = 3600.0
"""How long a weekend takes to begin and to end."""
_WEEK_S = 7 * DAY_S
_SATURDAY_S = 2 * DAY_S
"""From the start of the epoch, a Thursday, to its first Saturday."""


class Walk:
    """Stationary series, one per pair, whose correlation falls by e in a given time.

    Each is the average over a window of an Ornstein-Uhlenbeck process, taken as AR(1) with that
    average's variance and lag-1 correlation (Uhlenbeck and Ornstein, 1930): so the law is the same
    whatever the window.
    """

    def __init__(
        self, rng: np.random.Generator, deviation: Floats, time_s: Floats, group: NDArray[np.int64],
        shared: Floats, *, median: bool = False,
    ) -> None:  # fmt: skip
        """Take P series.

        Args:
            rng: where chance comes from.
            deviation: float64[P], standard deviation of the process.
            time_s: float64[P], correlation time, seconds.
            group: int64[P], the group each is of.
            shared: float64[P], share of the variance that is its group's.
            median: whether exp of the series has the median 1, not the mean 1.
        """
        self._median = median
        self._rng, self._deviation, self._time_s = rng, deviation, time_s
        self._group, self._groups = group, int(group.max()) + 1
        self._own, self._common = np.sqrt(1 - shared), np.sqrt(shared)
        self._state: Floats | None = None

    def next(self, widths: Floats) -> Floats:
        """Return float64[B, P], logarithms, for the next windows."""
        levels = np.zeros((len(widths), len(self._deviation)))
        if not self._deviation.any():
            return levels
        noise = self._rng.standard_normal((len(widths), len(self._deviation))) * self._own
        common = self._rng.standard_normal((len(widths), self._groups))
        noise += common[:, self._group] * self._common
        for i, width in enumerate(widths.tolist()):
            if i == 0 or width != widths[i - 1]:
                x = width / self._time_s
                lost = -np.expm1(-x)
                scale = self._deviation * np.sqrt(np.maximum(2 * (x - lost), 0.0)) / x
                memory = lost**2 / np.maximum(2 * (x - lost), 1e-12)
                memory = np.clip(np.where(x < 1e-3, np.exp(-x), memory), 0.0, 1.0)
                scale = np.where(x < 1e-3, self._deviation, scale)
            if self._state is None:
                self._state = noise[i]
            else:
                self._state = memory * self._state + np.sqrt(1 - memory**2) * noise[i]
            levels[i] = scale * self._state - (0.0 if self._median else scale**2 / 2)
        return levels


class Seasons:
    """The wave of the day, the weekend, and slow drift, which are the clock's alone."""

    def __init__(self, laws: Sequence[Pairs], law: NDArray[np.int64]) -> None:
        """Take the laws, and the number of each pair's, int64[P]."""
        self._law = law
        self._daily = np.array([p.daily for p in laws])
        self._peak = np.array([p.peak / 24 for p in laws])
        self._weekend = np.array([p.weekend for p in laws])
        self._drift = np.array([p.drift for p in laws])

    def factors(self, time: Floats, since: Floats) -> Floats:
        """Return float64[B, P].

        Args:
            time: float64[B], middles of windows, epoch seconds.
            since: the same, since the start.
        """
        day = time[:, None] / DAY_S
        wave = 1.0 + self._daily * np.cos(2 * np.pi * (day - self._peak))
        into = (time - _SATURDAY_S) % _WEEK_S
        off = np.clip(np.minimum(into, 2 * DAY_S - into) / _SLOPE_S, 0.0, 1.0)[:, None]
        week = self._weekend**off
        drift = (1.0 + self._drift) ** (since[:, None] / DAY_S)
        factors: Floats = (wave * week * drift)[:, self._law]
        return factors


class Batches:
    """Bursts at random moments, and periodic jobs."""

    def __init__(
        self, rng: np.random.Generator, laws: Sequence[Pairs], law: NDArray[np.int64]
    ) -> None:
        """Take the laws, and the number of each pair's, int64[P]."""
        self._rng, self._pairs = rng, len(law)
        self._bursts: list[tuple[Bursts, NDArray[np.int64]]] = [
            (p.bursts, np.flatnonzero(law == i)) for i, p in enumerate(laws) if p.bursts
        ]
        self._jobs: list[tuple[Jobs, NDArray[np.int64]]] = [
            (p.jobs, np.flatnonzero(law == i)) for i, p in enumerate(laws) if p.jobs
        ]
        self._under_way: list[tuple[float, float, int, float]] = []

    def factors(self, start: Floats, width: Floats) -> Floats:
        """Return float64[B, P], what bursts make of the level in each window."""
        factors = np.ones((len(start), self._pairs))
        end = start[-1] + width[-1]
        for bursts, whom in self._bursts:
            number = self._rng.poisson((end - start[0]) / bursts.every * len(whom))
            begins = self._rng.uniform(start[0], end, number)
            lasts = self._rng.exponential(bursts.lasts, number)
            who = whom[self._rng.integers(0, len(whom), number)]
            self._under_way += [
                (begin, begin + long, int(pair), bursts.factor)
                for begin, long, pair in zip(
                    begins.tolist(), lasts.tolist(), who.tolist(), strict=True
                )
            ]
        for begin, finish, pair, factor in self._under_way:
            a = max(int(np.searchsorted(start, begin, side="right")) - 1, 0)
            b = int(np.searchsorted(start, finish, side="left"))
            on = np.minimum(finish, start[a:b] + width[a:b]) - np.maximum(begin, start[a:b])
            factors[a:b, pair] *= 1.0 + (factor - 1.0) * np.maximum(on, 0.0) / width[a:b]
        self._under_way = [burst for burst in self._under_way if burst[1] > end]
        return factors

    def requests(self, start: Floats, width: Floats) -> Floats:
        """Return float64[B, P], further requests a second."""
        extra = np.zeros((len(start), self._pairs))
        for job, whom in self._jobs:
            # whole periods before the first window, so that none of the moments is negative
            since = start - job.offset + job.every * math.ceil(job.offset / job.every)
            on = on_time(since + width, job.every, job.lasts)
            on -= on_time(since, job.every, job.lasts)
            extra[:, whom] = (job.requests * on / width)[:, None]
        return extra
