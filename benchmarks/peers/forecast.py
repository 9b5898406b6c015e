"""river's HoltWinters, the same recursion over all streams at once, and 3 sigma of its errors."""

from __future__ import annotations

import numpy as np

from benchmarks.peers.base import Floats, Peer, Sampling

ALPHA, BETA, GAMMA = 0.1, 0.02, 0.1
MEMORY = 2000.0
"""Windows over which the size of an error is remembered."""
CLIP = 3.0


class HoltWinters(Peer):
    """Errors of the forecast for the next number, in their own standard deviations.

    Additive, with a season of a day where there is one. river starts the season with ratios
    (`y / level`) in its additive form, too; so does this, and forgets them at the rate GAMMA.
    """

    reads = "raw"

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        many = sampling.streams
        self.first: list[Floats] = []
        self.level, self.trend = np.zeros(many), np.zeros(many)
        self.season = np.zeros((sampling.season, many))
        self.n, self.errors, self.variance = 0, 0, np.zeros(many)

    def update(self, x: Floats) -> Floats:
        """Return |error| over the standard deviation of the errors before."""
        score = np.zeros(len(x))
        wanted = max(2, len(self.season))
        if self.n < wanted:
            self.first.append(x)
            if self.n == wanted - 1:
                self._begin(np.array(self.first))
        else:
            error = x - self.forecast()
            if self.errors:
                least = 1e-9 + 1e-3 * np.abs(self.level)
                deviation = np.maximum(np.sqrt(self.variance), least)
                score = np.abs(error) / deviation
                reach = CLIP * deviation if self.errors > 100 else np.inf
                error = np.clip(error, -reach, reach)
            self.errors += 1
            gain = max(1.0 / self.errors, 1.0 / MEMORY)
            self.variance += gain * (error * error - self.variance)
            self._learn(x)
        self.n += 1
        return score

    def forecast(self) -> Floats:
        """Return what river's `forecast(1)` returns."""
        ahead: Floats = self.level + self.trend
        return ahead + self.season[self.n % len(self.season)] if len(self.season) else ahead

    def _begin(self, first: Floats) -> None:
        self.level, self.trend = first.mean(axis=0), np.diff(first, axis=0).mean(axis=0)
        if len(self.season):
            safe = np.where(self.level == 0.0, 1.0, self.level)
            self.season = first / safe

    def _learn(self, x: Floats) -> None:
        before, slope = self.level, self.trend
        place = self.n % len(self.season) if len(self.season) else 0
        wave = self.season[place] if len(self.season) else 0.0
        self.level = ALPHA * (x - wave) + (1.0 - ALPHA) * (before + slope)
        self.trend = BETA * (self.level - before) + (1.0 - BETA) * slope
        if len(self.season):
            self.season[place] = GAMMA * (x - before - slope) + (1.0 - GAMMA) * wave
