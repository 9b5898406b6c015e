"""Bayesian online changepoint detection with a bounded number of run lengths.

Source: Adams and MacKay, "Bayesian online changepoint detection" (2007); the least likely run is
dropped for the new one, a simple form of the pruning of Fearnhead and Liu (2007).
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from benchmarks.peers.base import Floats, Peer, Sampling

RUNS = 24
HAZARD = 1.0 / 1000.0
RECENT = 300
"""A run that began within so many windows is a change; what is older is what is normal."""
SHAPE, STRENGTH, SCALE = 2.0, 0.05, 2.0
"""Prior of a run: variance about 1, mean within a few standard deviations."""
LONGEST = 4000
"""Windows after which a run's estimates no longer sharpen."""


class Bocpd(Peer):
    """Posterior of the run length, for a normal of unknown mean and variance."""

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        shape = (sampling.streams, RUNS)
        self.weight = np.full(shape, -np.inf)
        self.weight[:, 0] = 0.0
        self.age, self.mean = np.zeros(shape, np.int64), np.zeros(shape)
        self.scale = np.full(shape, SCALE)
        half = SHAPE + 0.5 * np.arange(LONGEST + 1)
        self.constant = gammaln(half + 0.5) - gammaln(half) - 0.5 * np.log(2.0 * np.pi)

    def update(self, x: Floats) -> Floats:
        """Return ln of the posterior odds that a change was recent."""
        number = np.minimum(self.age, LONGEST)
        strength, shape = STRENGTH + number, SHAPE + 0.5 * number
        grow = strength / (strength + 1.0)
        away = x[:, None] - self.mean
        square = 0.5 * grow * away * away
        chance = self.constant[number] + 0.5 * np.log(grow / self.scale)
        chance -= (shape + 0.5) * np.log1p(square / self.scale)
        joint = self.weight + chance
        top = joint.max(axis=1, keepdims=True)
        total = np.exp(joint - top).sum(axis=1, keepdims=True)
        self.weight = joint - top - np.log(total) + np.log1p(-HAZARD)
        self.scale += square
        # past the longest run, old numbers make place
        self.scale *= np.where(number == LONGEST, 1.0 - 1.0 / LONGEST, 1.0)
        self.mean += away / (strength + 1.0)
        self.age += 1
        old = np.where(self.age > RECENT, self.weight, -np.inf)
        rows, oldest = np.arange(len(x)), old.argmax(axis=1)
        young = np.where(self.age > RECENT, -np.inf, self.weight).max(axis=1)
        # in the first windows every run is recent, and nothing is a change yet
        known = old[rows, oldest] > -np.inf
        score: Floats = np.where(known, young, 0.0) - np.where(known, old[rows, oldest], 0.0)
        # what is normal is kept however unlikely it has become: it is what odds are against
        spared = self.weight.copy()
        spared[rows, oldest] = np.where(known, np.inf, spared[rows, oldest])
        place = spared.argmin(axis=1)
        self.weight[rows, place] = np.log(HAZARD)
        self.age[rows, place], self.mean[rows, place] = 0, 0.0
        self.scale[rows, place] = SCALE
        return score
