"""Netdata's consensus of k-means models, as its documentation has it.

Features of a window: differences of one step, smoothed over three, of now and the five before.
A model is two centres of six hours; a new one every three hours, eighteen kept; a window is odd
when all agree. Netdata's bit is "normalised distance above 99 of 100"; here the least distance
over the models is the score, whose threshold the benchmark sets.
"""

from __future__ import annotations

import numpy as np

from benchmarks.peers.base import Floats, Peer, Sampling

TRAIN_S, EVERY_S = 6 * 3600.0, 3 * 3600.0
MODELS, SMOOTH, LAG = 18, 3, 5
ROUNDS = 6
SAMPLES = 240
"""Windows of its training that a model looks at, evenly spaced: Netdata samples, too."""


class Netdata(Peer):
    """Least normalised distance from the centres, over all models."""

    reads = "raw"

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        # where there is less history than the models want, they get shorter ones
        self.train = min(sampling.windows(TRAIN_S), max(sampling.history // 2, 30))
        self.every = max(self.train // 2, 15)
        self.n, self.many = 0, sampling.streams
        self.last = np.zeros(self.many)
        self.steps = np.zeros((self.many, SMOOTH))
        self.feature = np.zeros((self.many, LAG + 1), np.float32)
        self.stride = max(self.train // SAMPLES, 1)
        self.kept: list[Floats] = []
        self.centres = np.zeros((0, self.many, 2, LAG + 1), np.float32)
        self.least = np.zeros((0, self.many), np.float32)
        self.reach = np.zeros((0, self.many), np.float32)

    def update(self, x: Floats) -> Floats:
        """Return distances, 1 for the furthest window of a model's training."""
        self.steps = np.roll(self.steps, -1, axis=1)
        self.steps[:, -1] = x - self.last if self.n else 0.0
        self.last = x.copy()
        self.feature = np.roll(self.feature, -1, axis=1)
        self.feature[:, -1] = self.steps.mean(axis=1)
        self.n += 1
        score = np.zeros(self.many)
        if len(self.least):
            away = _mean_distance(self.feature, self.centres)
            score = ((away - self.least) / self.reach).min(axis=0).astype(float)
        if self.n > SMOOTH + LAG:
            if self.n % self.stride == 0:
                self.kept = [*self.kept[-(self.train // self.stride) + 1 :], self.feature.copy()]
            if self.n >= self.train and self.n % self.every == 0:
                self._train()
        return score

    def _train(self) -> None:
        data = np.stack(self.kept, axis=1)  # [streams, samples, features]
        size = np.abs(data).sum(axis=2)
        rows = np.arange(self.many)
        # from the calmest window and the wildest: deterministic, and they do not coincide
        centres = np.stack([data[rows, size.argmin(1)], data[rows, size.argmax(1)]], axis=1)
        for _ in range(ROUNDS):
            apart = ((data[:, :, None, :] - centres[:, None]) ** 2).sum(axis=3)
            second = (apart[:, :, 1] < apart[:, :, 0]).astype(np.float32)
            for number, mine in enumerate((1.0 - second, second)):
                weight = np.maximum(mine.sum(axis=1), 1.0)[:, None]
                new = np.einsum("ms,msf->mf", mine, data) / weight
                some = mine.any(axis=1)[:, None]
                centres[:, number] = np.where(some, new, centres[:, number])
        away = _mean_distance(data.transpose(1, 0, 2), centres)
        low, high = away.min(axis=0), away.max(axis=0)
        self.centres = np.concatenate([self.centres[-MODELS + 1 :], centres[None]])
        self.least = np.concatenate([self.least[-MODELS + 1 :], low[None]])
        reach = np.maximum(high - low, 1e-9 + 1e-6 * high)
        self.reach = np.concatenate([self.reach[-MODELS + 1 :], reach[None]])


def _mean_distance(feature: Floats, centres: Floats) -> Floats:
    """Return the mean Euclidean distance from both centres; broadcasts."""
    apart = feature[..., None, :] - centres
    mean: Floats = np.sqrt((apart * apart).sum(axis=-1)).mean(axis=-1)
    return mean
