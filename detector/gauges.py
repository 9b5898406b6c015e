"""Any other number: robust scores around a level that follows the time of day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detector.bank import Bank, Description, Run
from detector.counts import enough_windows
from detector.parts import At, Obs
from detector.settings import DetectorSettings
from detector.table import Column

Floats = NDArray[Any]
Ints = NDArray[np.int64]

DAY_S = 86_400.0
BUCKETS = 288
"""Five minutes each; a day's profile is learned from its second day on."""
LEVEL_HALF_LIFE_S = DAY_S
SCALE_HALF_LIFE_S = 3 * DAY_S
CLIP = 2.5
"""Most, in scales, that one window may pull on what is learned (Huber)."""
YOUNG_WINDOWS, YOUNG_CLIP = 200.0, 10.0
LEAST_SEASONAL_GAIN = 0.03
COMMON, RARE = 0.95, 0.997
"""Shares of windows whose surprise sets the stream's own yardstick."""
LEAST_SPREAD, LEAST_SPREAD_OF_SCORE = 0.8, 1.5
"""Least distance of ln surprise between a common and a rare window, which shrinks the tail; more
for scores, which one threshold shall fit on all streams."""
NATS_PER_UNIT = float(np.log((1 - COMMON) / (1 - RARE)))


class GaugeBank(Bank):
    """A level, a profile of the day, and surprise measured against the stream's own history.

    Surprise is the sum of two robust scores: the residual, and its innovation after a first-order
    autoregression (a slow swing surprises in the first only, a jump in both). Streams differ in
    their tails by far more than in their scale, so ln surprise is put on a yardstick of two
    running quantiles (Robbins-Monro): 0 is the 95 % quantile, 1 the 99.7 % quantile or more.
    Read as an exponential tail, that is a p-value, and kappa * p**(kappa - 1) a valid e-value
    (Vovk and Wang 2021, calibrators); the evidence starts at the 95 % quantile, which is the band.

    Observations: `exact` (the value) and `trials` (seconds between windows).
    """

    seasonal = False
    kappa = np.array([0.2, 0.5])
    up = np.array([True, True, False, False])
    columns: ClassVar[Mapping[str, Column]] = {
        "n": Column("f8"),
        "level": Column("f8"),
        "seasonal": Column("f4", (BUCKETS,)),
        "visits": Column("f4", (BUCKETS,)),
        "scale": Column("f8"),
        "step": Column("f8"),
        "last": Column("f8", (), np.nan),
        "last_residual": Column("f8"),
        "power": Column("f8", (), 1e-12),
        "product": Column("f8"),
        "innovation": Column("f8"),
        "common": Column("f8", (), float(np.log(3.0))),
        "rare": Column("f8", (), float(np.log(3.0))),
    }

    def configure(self, at: Ints, signals: Sequence[str], settings: DetectorSettings) -> None:
        """Do nothing: what a gauge may do is its own."""

    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[3, m]: value, value**2, 1."""
        return np.stack([obs.exact, obs.exact**2, np.ones(len(at))])

    def _bucket(self) -> int:
        return min(int(self.seasons.time % DAY_S / (DAY_S / BUCKETS)), BUCKETS - 1)

    def _residual(self, at: At, obs: Obs) -> tuple[Floats, Floats, Floats]:
        """Return residuals, innovations, and the least scale that means anything."""
        t = self.table
        level = np.where(t["n"][at] > 0, t["level"][at], obs.exact)
        residual = obs.exact - level - t["seasonal"][self._bucket(), at]
        follow = np.clip(t["product"][at] / t["power"][at], 0.0, 0.98)
        # Flat and quantised curves: below 1 % of the level, or a small step, nothing is news
        least = np.maximum(np.maximum(0.01 * np.abs(level), 0.05 * t["step"][at]), 1e-9)
        return residual, residual - follow * t["last_residual"][at], least

    def _surprise(self, at: At, obs: Obs) -> tuple[Floats, Floats]:
        """Return ln surprise, and which way the residual points."""
        t = self.table
        residual, innovation, least = self._residual(at, obs)
        z = np.abs(residual) / np.maximum(t["scale"][at], least)
        z = z + np.abs(innovation) / np.maximum(t["innovation"][at], 0.5 * least)
        return np.log(z + 1e-3), residual

    def _units(self, at: At, surprise: Floats, least: float) -> Floats:
        """Return surprise on the stream's own yardstick, whose unit is `least` at least."""
        t = self.table
        spread = np.maximum(t["rare"][at] - t["common"][at], least)
        units: Floats = (surprise - t["common"][at]) / spread
        return units

    def log_l(self, at: At, obs: Obs) -> Floats:
        """Return calibrated p-values' logarithms, on the side to which the residual points."""
        surprise, residual = self._surprise(at, obs)
        nats = NATS_PER_UNIT * np.maximum(self._units(at, surprise, LEAST_SPREAD), 0.0)
        above, below = np.where(residual > 0, nats, 0.0), np.where(residual < 0, nats, 0.0)
        sides = np.stack([above, above, below, below])
        kappa = np.tile(self.kappa, 2)[:, None]
        ratio: Floats = np.log(kappa) + (1.0 - kappa) * sides
        return ratio.astype(np.float32)

    def score(self, at: At, obs: Obs, strength: Floats) -> Floats:
        """Rank by surprise alone: evidence that adds up would follow every slow drift."""
        del strength
        units = self._units(at, self._surprise(at, obs)[0], LEAST_SPREAD_OF_SCORE)
        score: Floats = 1.0 / (1.0 + np.exp(-np.clip(units, -50.0, 30.0)))
        return score

    def absorb(self, at: At, obs: Obs) -> None:
        """Learn from every window, clipped: on a curve nobody can say what was a fault."""
        t = self.table
        surprise, _ = self._surprise(at, obs)
        residual, innovation, least = self._residual(at, obs)
        n = t["n"][at] + 1.0
        t["level"][at] = np.where(n == 1.0, obs.exact, t["level"][at])
        clip = np.where(n < YOUNG_WINDOWS, YOUNG_CLIP, CLIP)
        reach = clip * np.maximum(t["scale"][at], 0.3 * least)
        pull = np.clip(residual, -reach, reach)
        gain = 1.0 - 0.5 ** (obs.trials / SCALE_HALF_LIFE_S)
        gain = np.maximum(gain, 1.0 / (n + 1.0))
        self._follow_step(at, obs)
        self._follow_season(at, obs, pull, n)
        # 1.28 = sd over mean absolute deviation of a normal, with what the clip takes away
        t["scale"][at] += gain * (1.28 * np.abs(pull) - t["scale"][at])
        before = np.clip(t["last_residual"][at], -reach, reach)
        t["power"][at] = np.maximum(t["power"][at] + gain * (before**2 - t["power"][at]), 1e-12)
        t["product"][at] += gain * (before * pull - t["product"][at])
        far = clip * np.maximum(t["innovation"][at], 0.5 * least)
        moved = np.abs(np.clip(innovation, -far, far))
        t["innovation"][at] += gain * (1.28 * moved - t["innovation"][at])
        t["last_residual"][at], t["n"][at] = residual, n
        for name, share in (("common", COMMON), ("rare", RARE)):
            pace = np.minimum(0.1 / (1.0 - share) * np.maximum(2.0 / (n + 20.0), 0.002), 0.5)
            t[name][at] += pace * np.where(surprise > t[name][at], share, share - 1.0)
            t[name][at] = np.maximum(t[name][at], 0.0)

    def _follow_step(self, at: At, obs: Obs) -> None:
        """Learn the usual size of a change between windows; its absence tells nothing."""
        t = self.table
        step = np.abs(obs.exact - t["last"][at])
        moved = step > 0
        usual = t["step"][at]
        new = usual + 0.01 * (np.minimum(step, 5.0 * usual + 1e-12) - usual)
        t["step"][at] = np.where(moved, np.where(usual > 0, new, step), usual)
        t["last"][at] = obs.exact

    def _follow_season(self, at: At, obs: Obs, pull: Floats, n: Floats) -> None:
        t, bucket, spacing = self.table, self._bucket(), obs.trials
        gain = 1.0 - 0.5 ** (spacing / LEVEL_HALF_LIFE_S)
        t["level"][at] += np.clip(np.maximum(gain, 1.0 / (n + 1.0)), 0.0, 0.2) * pull
        share = np.minimum(spacing / (DAY_S / BUCKETS), 1.0)
        days = t["visits"][bucket, at] * share
        seasonal = np.clip(2.0 / (1.0 + days), LEAST_SEASONAL_GAIN, 1.0) * share
        t["seasonal"][bucket, at] += seasonal * pull
        t["visits"][bucket, at] += 1.0

    def ready(self, at: Ints, age: Floats, spacing: Floats, warmup_s: float) -> NDArray[np.bool_]:
        """Need the warm-up in windows of its own, and 100 of them at least."""
        del age
        return enough_windows(self, at, spacing, warmup_s, 100.0)

    def learned_windows(self, at: Ints) -> Floats:
        """Return how many windows stand behind each baseline."""
        windows: Floats = self.table["n"][at]
        return windows

    def refresh(self, at: At) -> None:
        """Do nothing: this model learns by window."""

    def relearn(self, at: Ints, age: Floats) -> None:
        """Start the evidence afresh; the level has followed all along and is kept."""
        self.table.reset(at, ("r",))
        self.table["born"][at] = age

    def best(self, i: int, run: Run, *, up: bool) -> int:
        """Return the alternative of the greater surprise."""
        del i, run
        return 0 if up else 2

    def describe(self, i: int, run: Run, *, best: int, up: bool) -> Description:
        """Explain by the level and the scale of what is usual."""
        del best, up
        t = self.table
        n = max(float(run.statistics[2]), 1.0)
        after = float(run.statistics[0]) / n
        before = float(t["last"][i] - t["last_residual"][i])
        half = 1.96 * float(t["scale"][i]) / np.sqrt(n)
        return Description(
            before,
            after,
            {
                "expected now": before,
                "usual deviation": float(t["scale"][i]),
                "windows learned": float(t["n"][i]),
                "windows since onset": n,
                "effect, 95 % interval": (
                    f"{after - before - half:.4g} .. {after - before + half:.4g}"
                ),
            },
        )
