"""Amounts on a logarithmic scale: bytes per second, and latencies known only by their median."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detector.bank import Bank, Description, Run
from detector.blocks import BLOCK, single_variance
from detector.counts import enough_windows, log_rarity, prior_of, remembered, unknown
from detector.parts import At, Obs
from detector.settings import DetectorSettings
from detector.table import Column
from detector.wander import ERRORS, wander
from probes.window import Kind, kind_of

Floats = NDArray[Any]
Ints = NDArray[np.int64]

OFFSET: Mapping[Kind, float] = {Kind.SUM: 64.0, Kind.LATENCY: 0.3e-3}
"""Added before the logarithm (B/s, s): what is small against it is noise, and 0 is finite."""
LEAST_SD = 0.05
CLIP = np.float32(4.0)
"""Most that one window may lie beyond the band, in standard deviations: tails are not normal."""
PRIOR_SD, PRIOR_WINDOWS = 0.15, 30.0


class LevelBank(Bank):
    """A wandering level with robust normal scores of its logarithm.

    Sums are not counts of independent events, so their spread says nothing about their mean;
    after the logarithm a few standard deviations, a band for the wander and a clip do. A window
    of nothing lies far out on that scale, and is no rarer for it than such windows are: it counts
    no more than that, as among counts.

    Observations: `value` (B/s or s). Learned: y, y**2, windows of nothing, windows, where
    y = ln(value + offset).
    """

    moments = 4

    shift = np.array([1.0, 2.5, -1.0, -2.5], np.float32)
    up = shift > 0.0
    columns: ClassVar[Mapping[str, Column]] = {
        "offset": Column("f4", (), 64.0),
        "least": Column("f4"),
        "level": Column("f4"),
        "sd": Column("f4", (), 1.0),
        "band": Column("f4", (), 1.0),
        "upper": Column("f4"),
        "lower": Column("f4"),
        "pause": Column("f4"),
    }
    kept = ("offset", "least")
    _half_square = (0.5 * shift * shift)[:, None]

    def configure(self, at: Ints, signals: Sequence[str], settings: DetectorSettings) -> None:
        """Set the offset before the logarithm, and the least change that is news."""
        t = self.table
        t["offset"][at] = [OFFSET.get(kind_of(signal), 1.0) for signal in signals]
        t["least"][at] = [np.log1p(settings.least_change(signal)) for signal in signals]

    def _y(self, at: At, obs: Obs) -> Floats:
        y: Floats = np.log(np.maximum(obs.value, np.float32(0.0)) + self.table["offset"][at])
        return y

    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[3, m] as the class says."""
        y = self._y(at, obs).astype(np.float64)
        return np.stack([y, y**2, np.ones(len(y))])

    def log_l(self, at: At, obs: Obs) -> Floats:
        """Return normal ratios of the distance from the band's nearer edge."""
        t = self.table
        y, sd = self._y(at, obs), t["sd"][at]
        ratio = np.empty((4, len(y)), np.float32)
        ratio[:2] = np.minimum((y - t["upper"][at]) / sd, CLIP)
        ratio[2:] = np.maximum((y - t["lower"][at]) / sd, -CLIP)
        ratio *= self.shift[:, None]
        ratio -= self._half_square
        if len(empty := np.flatnonzero(obs.value == 0.0)):
            ratio[2:, empty] = np.minimum(ratio[2:, empty], t["pause"][at][empty])
        return ratio

    def absorb(self, at: At, obs: Obs) -> None:
        """Add a window to the block that is open."""
        current, y = self.table["current"], self._y(at, obs)
        current[0, at] += y
        current[1, at] += y * y
        current[2, at] += obs.value == 0.0
        current[3, at] += np.float32(1.0)

    def ready(self, at: At, age: Floats, spacing: Floats, warmup_s: float) -> NDArray[np.bool_]:
        """Need the warm-up in windows of its own, and 20 of them at least."""
        del age
        return enough_windows(self, at, spacing, warmup_s, 20.0)

    def strayed(self, run: Floats) -> Floats:
        """Return float32[m]: two standard deviations of the logarithms."""
        n = np.maximum(run[-1], 1.0)
        off: Floats = 2.0 * np.sqrt(np.maximum(run[1] / n - (run[0] / n) ** 2, 0.0))
        return off

    def clipped(self, at: At, block: list[Floats]) -> list[Floats]:
        """Move a block that lies beyond twice the band back to there."""
        t, (first, second, empty, n) = self.table, block[0]
        mean, level, width = first / n, t["level"][at], 2.0 * t["band"][at]
        target = np.clip(mean, level - width, level + width)
        # The spread about the block's mean stays what it was
        square = second + n * (target**2 - mean**2)
        return [np.stack([target * n, square, empty, n]), *block[1:]]

    def refresh(self, at: At) -> None:
        """Recompute level, spread and band."""
        t, base = self.table, self.table["base"][:, at]
        windows = np.maximum(base[3], 1.0)
        level = base[0] / windows
        single = single_variance(level, base[1] / windows, windows)
        wandered, seen = wander(t["spread"][:, at]), t["spread"][4, at]
        fast = (windows * single + PRIOR_WINDOWS * PRIOR_SD**2) / (windows + PRIOR_WINDOWS)
        fast = fast * (1.0 + 1.64 * np.sqrt(2.0 / np.maximum(windows, 10.0)))
        error = single / remembered(windows, seen)
        reach = ERRORS * np.sqrt(wandered.slow + prior_of(seen / BLOCK) + error)
        band = t["least"][at] + np.maximum(reach, unknown(seen))
        up, down = self.seasons.widening(at)
        t["level"][at], t["band"][at] = level, band
        t["sd"][at] = np.maximum(np.sqrt(fast), LEAST_SD)
        edges = self.seasons.within(at, level + band + up, level - band - down)
        t["upper"][at], t["lower"][at] = edges
        t["pause"][at] = log_rarity(base[2], windows)

    def best(self, i: int, run: Run, *, up: bool) -> int:
        """Return the alternative of greatest likelihood."""
        t = self.table
        mean = run.statistics[0] / max(run.statistics[2], 1.0)
        away = (mean - t["upper" if up else "lower"][i]) / t["sd"][i]
        total = away * self.shift - self._half_square[:, 0]
        return int(np.where(self.up == up, total, -np.inf).argmax())

    def describe(self, i: int, run: Run, *, best: int, up: bool) -> Description:
        """Explain by geometric means, with Welch's test of the logarithms."""
        from scipy import stats  # noqa: PLC0415 - half a second, and only findings need it

        del best, up
        t, learned = self.table, float(self.table["base"][3, i])
        n = max(float(run.statistics[2]), 1.0)
        new, offset = float(run.statistics[0]) / n, float(t["offset"][i])
        old = float(t["level"][i])
        sd = float(t["sd"][i])
        own = float(np.sqrt(max(run.statistics[1] / n - new**2, 0.0)))
        p = stats.ttest_ind_from_stats(
            new, max(own, LEAST_SD), max(int(n), 2), old, sd, max(int(learned), 2), False
        ).pvalue
        half = 1.96 * sd / np.sqrt(n)
        before = max(float(np.exp(old)) - offset, 0.0)
        return Description(
            before,
            max(float(np.exp(new)) - offset, 0.0),
            {
                "baseline, geometric mean": before,
                "band": f"x{np.exp(t['band'][i]):.3g}",
                "standard deviation of ln": sd,
                "windows learned": learned,
                "windows since onset": n,
                "effect, 95 % interval": (
                    f"x{np.exp(new - old - half):.3g} .. x{np.exp(new - old + half):.3g}"
                ),
                "p, Welch's test of ln": float(p),
            },
        )
