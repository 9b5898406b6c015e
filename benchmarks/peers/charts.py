"""Control charts: the z score, EWMA, CUSUM and Page-Hinkley."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Floats, Peer, Sampling


class Shewhart(Peer):
    """How far one number lies from what is usual, in standard deviations (Shewhart 1931)."""

    learns = False

    def update(self, x: Floats) -> Floats:
        """Return |z|."""
        return np.abs(x)


class Ewma(Peer):
    """Exponentially weighted mean of z, in its own standard deviations (Roberts 1959)."""

    learns = False
    weight = 0.2

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        self.mean, self.left = np.zeros(sampling.streams), 1.0

    def update(self, x: Floats) -> Floats:
        """Return |mean| over its standard deviation so far."""
        self.mean += self.weight * (x - self.mean)
        self.left *= (1.0 - self.weight) ** 2
        spread = np.sqrt(self.weight / (2.0 - self.weight) * (1.0 - self.left))
        scores: Floats = np.abs(self.mean) / spread
        return scores


class Cusum(Peer):
    """Page's two-sided sum with a reference of half a standard deviation (Page 1954)."""

    restarts, learns = True, False
    reference = 0.5

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        self.up, self.down = np.zeros(sampling.streams), np.zeros(sampling.streams)

    def update(self, x: Floats) -> Floats:
        """Return the larger of both sums."""
        self.up = np.maximum(self.up + x - self.reference, 0.0)
        self.down = np.maximum(self.down - x - self.reference, 0.0)
        return np.maximum(self.up, self.down)

    def restart(self, which: NDArray[np.bool_]) -> None:
        """Set the sums of bool[streams] to 0."""
        self.up[which] = self.down[which] = 0.0


class PageHinkley(Peer):
    """river's PageHinkley, the same recursion over all streams at once, on scaled numbers.

    river's threshold is in the stream's own unit, so it is fed numbers over their scale.
    """

    restarts = True
    least, delta, forget = 30, 0.005, 1.0 - 0.0001

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        many = sampling.streams
        self.n, self.mean = np.zeros(many), np.zeros(many)
        self.rise, self.fall = np.zeros(many), np.zeros(many)
        self.lowest, self.highest = np.full(many, np.inf), np.full(many, -1.0)

    def update(self, x: Floats) -> Floats:
        """Return the larger of both tests; 0 for the first numbers, as in river."""
        self.n += 1
        self.mean += (x - self.mean) / self.n
        away = x - self.mean
        self.rise = self.forget * self.rise + away - self.delta
        self.fall = self.forget * self.fall + away + self.delta
        self.lowest = np.minimum(self.lowest, self.rise)
        self.highest = np.maximum(self.highest, self.fall)
        test = np.maximum(self.rise - self.lowest, self.highest - self.fall)
        return np.where(self.n >= self.least, test, 0.0)

    def restart(self, which: NDArray[np.bool_]) -> None:
        """Forget the means and sums of bool[streams]."""
        for array in (self.n, self.mean, self.rise, self.fall):
            array[which] = 0.0
        self.lowest[which], self.highest[which] = np.inf, -1.0
