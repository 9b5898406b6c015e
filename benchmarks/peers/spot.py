"""SPOT: how rare a number is by the tail of those before it.

Source: Siffer, Fouque, Termier, Largouet, "Anomaly detection in streams with extreme value
theory" (KDD 2017). The tail's generalised Pareto distribution is fitted by moments (Hosking and
Wallis 1987), which needs two sums per stream where maximum likelihood needs all the peaks.
"""

from __future__ import annotations

import numpy as np

from benchmarks.peers.base import Floats, Peer, Sampling

FIRST = 300
"""Numbers that set the level above which a number is of the tail."""
LEVEL = 0.98
LEARN = 13.8
"""-ln p above which a number is an anomaly and does not teach the tail: p = 1e-6."""
FEW = 10
PRIOR = 30.0


class Spot(Peer):
    """Both tails as one: of |z|."""

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        many = sampling.streams
        self.first: list[Floats] = []
        self.wanted = max(min(FIRST, sampling.history // 2), FEW)
        self.level = np.zeros(many)
        self.seen, self.peaks = 0, np.zeros(many)
        self.sum, self.square = np.zeros(many), np.zeros(many)

    def update(self, x: Floats) -> Floats:
        """Return -ln p."""
        size = np.abs(x)
        if self.seen < self.wanted:
            self.seen += 1
            self.first.append(size)
            if self.seen == self.wanted:
                self._begin(np.array(self.first))
            return np.zeros(len(x))
        self.seen += 1
        excess = size - self.level
        score = np.where(excess > 0.0, self._surprise(excess), 0.0)
        taught = (excess > 0.0) & ((score < LEARN) | (self.peaks < FEW))
        self._teach(np.where(taught, excess, 0.0), taught)
        return score

    def _begin(self, first: Floats) -> None:
        self.level = np.quantile(first, LEVEL, axis=0)
        for size in first:
            excess = np.maximum(size - self.level, 0.0)
            self._teach(excess, excess > 0.0)

    def _teach(self, excess: Floats, which: Floats) -> None:
        self.peaks += which
        self.sum += excess
        self.square += excess * excess

    def _surprise(self, excess: Floats) -> Floats:
        number = np.maximum(self.peaks, 1.0)
        mean = np.maximum(self.sum / number, 1e-9)
        variance = np.maximum(self.square / number - mean**2, 1e-6 * mean**2)
        shape = np.clip(0.5 * (1.0 - mean**2 / variance), -0.5, 0.5)
        # few peaks say little of the shape: towards the exponential
        shape *= number / (number + PRIOR)
        scale = mean * (1.0 - shape)
        units = excess / scale
        safe = np.where(np.abs(shape) < 1e-3, 1.0, shape)
        # a tail of negative shape has an end, beyond which nothing ranks: keep the order
        inside = np.maximum(1.0 + safe * units, 1e-12)
        tail = np.where(np.abs(shape) < 1e-3, units, np.log(inside) / safe)
        rank = np.where(inside <= 1e-12, 1e-3 * units, 0.0)
        surprise: Floats = np.log(self.seen / np.maximum(self.peaks, 0.5)) + tail + rank
        return surprise
