"""Amounts on a logarithmic scale: bytes per second, and latencies known only by their median."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from detector import evidence
from detector.bank import Bank, Description, Floats, Ints, Moment, Obs
from detector.table import Column
from detector.wander import wander
from probes.window import Kind, kind_of

OFFSET: Mapping[Kind, float] = {Kind.SUM: 64.0, Kind.LATENCY: 0.3e-3}
"""Added before the logarithm (B/s, s): what is small against it is noise, and 0 is finite."""
LEAST_SD = 0.05
CLIP = 4.0
"""Most that one window may lie beyond the band, in standard deviations: tails are not normal."""


class LevelBank(Bank):
    """A wandering level with robust normal scores of its logarithm.

    Sums are not counts of independent events, so their spread says nothing about their mean;
    after the logarithm a few standard deviations, a band for the wander and a clip do.

    Observations: `value`, float64[m] (B/s or s).
    Statistics: y, y**2, windows, where y = ln(value + offset).
    """

    stats = 3
    extras = 4
    shift = np.array([1.0, 2.5, -1.0, -2.5])
    up = shift > 0.0
    columns: ClassVar[Mapping[str, Column]] = {
        "offset": Column("f8", (), 64.0),
        "level": Column("f8"),
        "sd": Column("f8", (), 1.0),
        "band": Column("f8", (), 1.0),
    }

    def set_offset(self, at: Ints, signals: list[str]) -> None:
        """Set the offsets of new streams by the names of their signals."""
        self.table["offset"][at] = [OFFSET.get(kind_of(signal), 1.0) for signal in signals]

    def relearn(self, at: Ints, age: Floats) -> None:
        """Forget the baselines, but not which signal it is."""
        offset = self.table["offset"][at].copy()
        super().relearn(at, age)
        self.table["offset"][at] = offset

    def _y(self, at: Ints, obs: Obs) -> Floats:
        y: Floats = np.log(np.maximum(obs["value"], 0.0) + self.table["offset"][at])
        return y

    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[m, 3] as the class says."""
        y = self._y(at, obs)
        return np.stack([y, y**2, np.ones(len(at))], axis=1)

    def log_l(self, at: Ints, obs: Obs) -> Floats:
        """Return normal ratios of the distance from the band's nearer edge."""
        t = self.table
        away, band, sd = self._y(at, obs) - t["level"][at], t["band"][at], t["sd"][at]
        above = np.minimum((away - band) / sd, CLIP)
        below = np.maximum((away + band) / sd, -CLIP)
        return np.hstack(
            [
                evidence.normal(above, self.shift[self.up]),
                evidence.normal(below, self.shift[~self.up]),
            ]
        )

    def ready(self, at: Ints, moment: Moment) -> NDArray[np.bool_]:
        """Need the warm-up in windows of its own, and 20 of them at least."""
        return self.enough_windows(at, moment, 20.0)

    def block_extras(self, at: Ints, block: Floats, *, long: bool) -> Floats:
        """Return sums of squared block means and their number, for blocks or super-blocks."""
        mean = block[:, 0] / block[:, 2]
        zero, one = np.zeros(len(at)), np.ones(len(at))
        columns = [zero, zero, mean**2, one] if long else [mean**2, one, zero, zero]
        return np.stack(columns, axis=1)

    def clip_block(self, at: Ints, block: Floats) -> Floats:
        """Move a block that lies beyond twice the band back to there."""
        t, n = self.table, block[:, 2]
        mean = block[:, 0] / n
        width = 2.0 * t["band"][at]
        target = np.clip(mean, t["level"][at] - width, t["level"][at] + width)
        clipped = block.copy()
        clipped[:, 0] = target * n
        # The spread about the block's mean stays what it was
        clipped[:, 1] = block[:, 1] - n * mean**2 + n * target**2
        return clipped

    def refresh(self, at: Ints) -> None:
        """Recompute level, spread and band."""
        t = self.table
        base, extra = t["base"][at], t["extra"][at]
        windows = np.maximum(base[:, 2], 1.0)
        level = base[:, 0] / windows
        single = np.maximum(base[:, 1] / windows - level**2, 0.0)
        blocks = np.maximum(extra[:, 0] / np.maximum(extra[:, 1], 1.0) - level**2, 0.0)
        supers = np.maximum(extra[:, 2] / np.maximum(extra[:, 3], 1.0) - level**2, 0.0)
        spread = wander(single, blocks, supers, windows, extra)
        fast = (windows * spread.fast + 30.0 * 0.15**2) / (windows + 30.0)
        fast = fast * (1.0 + 1.64 * np.sqrt(2.0 / np.maximum(windows, 10.0)))
        floor = 0.26 + 0.40 * np.sqrt(60.0 / np.maximum(windows, 60.0))
        t["level"][at] = level
        t["sd"][at] = np.maximum(np.sqrt(fast), LEAST_SD)
        t["band"][at] = np.maximum(2.5 * np.sqrt(spread.slow + spread.fast / windows), floor)

    def describe(self, i: int, run: Floats) -> Description:
        """Explain by geometric means, with Welch's test of the logarithms."""
        from scipy import stats  # noqa: PLC0415 - half a second, and only findings need it

        t, base = self.table, self.table["base"][i]
        n = max(float(run[2]), 1.0)
        new, offset = float(run[0]) / n, float(t["offset"][i])
        before, after = float(t["level"][i]), new
        sd = float(t["sd"][i])
        own = float(np.sqrt(max(run[1] / n - new**2, 0.0)))
        p = stats.ttest_ind_from_stats(
            new, max(own, LEAST_SD), max(int(n), 2), before, sd, max(int(base[2]), 2), False
        ).pvalue
        half = 1.96 * sd / np.sqrt(n)
        return Description(
            max(float(np.exp(before)) - offset, 0.0),
            max(float(np.exp(after)) - offset, 0.0),
            {
                "baseline, geometric mean": max(float(np.exp(before)) - offset, 0.0),
                "band": f"x{np.exp(t['band'][i]):.3g}",
                "standard deviation of ln": sd,
                "windows learned": float(base[2]),
                "windows since onset": n,
                "effect, 95 % interval": (
                    f"x{np.exp(new - before - half):.3g} .. x{np.exp(new - before + half):.3g}"
                ),
                "p, Welch's test of ln": float(p),
            },
        )
