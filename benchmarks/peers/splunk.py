"""Splunk APM's AutoDetect rule for a sudden change, as its documentation has it.

The last ten minutes against the hour before them, fired at 5 standard deviations of that hour
and over below 4.
"""

from __future__ import annotations

import numpy as np

from benchmarks.peers.base import Floats, Peer, Sampling

LAST_S, BEFORE_S = 600.0, 3600.0
FIRE, CLEAR = 5.0, 4.0


class Splunk(Peer):
    """Deviations of the last ten minutes' mean."""

    reads = "raw"

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        self.last, self.before = sampling.windows(LAST_S), sampling.windows(BEFORE_S)
        self.ring = np.zeros((self.last + self.before, sampling.streams))
        self.n = 0
        self.young, self.old = np.zeros(sampling.streams), np.zeros(sampling.streams)
        self.square, self.shift = np.zeros(sampling.streams), np.zeros(sampling.streams)

    def update(self, x: Floats) -> Floats:
        """Return |mean of ten minutes - mean of the hour| over the hour's deviation."""
        if self.n == 0:
            self.shift = x.copy()  # about a number of their own, squares stay exact
        x = x - self.shift
        size = len(self.ring)
        place = self.n % size
        if self.n >= size:
            gone = self.ring[place]
            self.old -= gone
            self.square -= gone * gone
        if self.n >= self.last:
            ages = self.ring[(self.n - self.last) % size]
            self.young -= ages
            self.old += ages
            self.square += ages * ages
        self.young += x
        self.ring[place] = x
        self.n += 1
        if self.n < size:
            return np.zeros(len(x))
        mean = self.old / self.before
        variance = np.maximum(self.square / self.before - mean**2, 0.0)
        least = 1e-3 * np.abs(mean + self.shift) + 1e-9
        score: Floats = np.abs(self.young / self.last - mean) / np.maximum(np.sqrt(variance), least)
        return score


def episodes(score: Floats) -> int:
    """Return how often the rule as published fires on float64[n], the scores of one stream."""
    count, firing = 0, False
    for one in score:
        if not firing and one > FIRE:
            count, firing = count + 1, True
        elif firing and one < CLEAR:
            firing = False
    return count
