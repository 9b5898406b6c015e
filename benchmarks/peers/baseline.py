"""A level, a daily wave and a scale, so that methods for stationary streams can be run on curves.

None of the classical methods knows a day. Without this all of them would find every morning; the
examples of their authors begin with residuals too.
"""

from __future__ import annotations

import numpy as np

from benchmarks.peers.base import Floats, Sampling

CLIP = 2.5
"""Most, in scales, that one number may pull on what is learned (Huber 1964)."""
LEVEL_DAYS, SCALE_DAYS = 1.0, 3.0
LEAST_SEASON_GAIN = 0.03


class Seasonal:
    """Robust scores: (x - level - wave of the day) / scale, each learned up to the number before.

    The scale is at least 1 % of the level: flat and quantised curves have none of their own.
    """

    def __init__(self, sampling: Sampling) -> None:
        many = sampling.streams
        self.day = max(sampling.season, 1)
        self.bucket_windows = max(sampling.windows(300.0), 1)
        self.level, self.scale, self.n = np.zeros(many), np.zeros(many), 0
        buckets = -(-self.day // self.bucket_windows)
        self.wave, self.visits = np.zeros((many, buckets)), np.zeros(buckets)
        self.level_gain = 1.0 - 0.5 ** (1.0 / (LEVEL_DAYS * self.day))
        self.scale_gain = 1.0 - 0.5 ** (1.0 / (SCALE_DAYS * self.day))

    def update(self, x: Floats, place: int) -> Floats:
        """Return the scores of float64[streams] at window `place` of the day; then learn."""
        if self.n == 0:
            self.level = x.copy()
        self.n += 1
        bucket = place // self.bucket_windows
        away = x - self.level - self.wave[:, bucket]
        least = np.maximum(0.01 * np.abs(self.level), 1e-9)
        scores: Floats = away / np.maximum(self.scale, least)
        reach = np.maximum(self.scale, 0.3 * least) * (10.0 if self.n < 200 else CLIP)
        pull = np.clip(away, -reach, reach)
        self.level += max(self.level_gain, 1.0 / (self.n + 1.0)) * pull
        days = self.visits[bucket] / self.bucket_windows
        gain = np.clip(2.0 / (1.0 + days), LEAST_SEASON_GAIN, 1.0) / self.bucket_windows
        self.wave[:, bucket] += gain * pull
        self.visits[bucket] += 1.0
        # 1.28: standard deviation over mean absolute deviation of a normal, and what clips take
        # (the first days, before the wave is known, must not set it for the rest)
        follow = max(self.scale_gain, min(4.0 / (self.n + 4.0), 1.0))
        self.scale += follow * (1.28 * np.abs(pull) - self.scale)
        return scores
