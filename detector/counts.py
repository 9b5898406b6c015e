"""Counts of events per window: connections, requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from detector import evidence
from detector.bank import BLOCK, SUPER, Bank, Description, Floats, Ints, Moment, Obs
from detector.table import Column
from detector.wander import Wander, wander

WIDEST = float(np.log(3.0))
"""Widest band, ln: the mean of a window may be off by a factor of three without a change."""
FLOOR_RATE = 0.3
"""Events per second that are nobody's news, whatever the baseline."""


class CountBank(Bank):
    """Negative binomial counts with a mean that may wander inside a band.

    The null is "the mean of this window, given the past, lies inside [mu / w, mu * w]" and the
    likelihood ratios are taken from the band's edge, which is valid for every mean inside
    because they are monotone in it. The spread between single windows goes into the dispersion
    of the negative binomial; the wander of block means, which a model of independent windows
    would take for a change, goes into the band.

    Observations: `number` (events) and `exposure` (seconds), float64[m].
    Statistics: events, rate**2, seconds, rate, windows.
    """

    stats = 5
    extras = 4
    factor = np.array([1.3, 1.8, 3.0, 8.0, 0.6, 0.3, 0.05])
    up = factor > 1.0
    columns: ClassVar[Mapping[str, Column]] = {
        "mean": Column("f8"),
        "band": Column("f8", (), 1.0),
        "upper": Column("f8", (), 1.0),
        "shape": Column("f8", (), 1.0),
    }

    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[m, 5] as the class says."""
        number, exposure = obs["number"], obs["exposure"]
        rate = number / exposure
        return np.stack([number, rate**2, exposure, rate, np.ones(len(at))], axis=1)

    def log_l(self, at: Ints, obs: Obs) -> Floats:
        """Return negative binomial ratios: increases from the upper edge, decreases the lower."""
        t, exposure = self.table, obs["exposure"]
        edge = np.where(
            self.up,
            (t["upper"][at] * exposure)[:, None],
            (t["mean"][at] / t["band"][at] * exposure)[:, None],
        )
        return evidence.negative_binomial(
            obs["number"][:, None],
            np.maximum(edge, 1e-9),
            t["shape"][at][:, None],
            self.factor,
        )

    def ready(self, at: Ints, moment: Moment) -> NDArray[np.bool_]:
        """Need the warm-up in windows of its own, and 20 of them at least."""
        return self.enough_windows(at, moment, 20.0)

    def block_extras(self, at: Ints, block: Floats, *, long: bool) -> Floats:
        """Return sums of squared block rates and their number, for blocks or super-blocks."""
        rate = block[:, 0] / block[:, 2]
        zero, one = np.zeros(len(at)), np.ones(len(at))
        columns = [zero, zero, rate**2, one] if long else [rate**2, one, zero, zero]
        return np.stack(columns, axis=1)

    def clip_block(self, at: Ints, block: Floats) -> Floats:
        """Keep one block's rate within the band's square of the baseline."""
        mean, band = self.table["mean"][at], self.table["band"][at]
        rate = block[:, 0] / block[:, 2]
        least, most = mean / band**2, np.maximum(mean * band**2, self.table["upper"][at])
        scale = np.where(rate > 0, np.clip(rate, least, most) / np.maximum(rate, 1e-9), 1.0)
        clipped = block.copy()
        clipped[:, 0] *= scale
        clipped[:, 1] *= scale**2
        clipped[:, 3] *= scale
        return clipped

    def _wander(self, at: Ints) -> tuple[Floats, Wander]:
        """Return the mean rate and what the baseline says about its spread."""
        base, extra = self.table["base"][at], self.table["extra"][at]
        windows, seconds = np.maximum(base[:, 4], 1e-9), np.maximum(base[:, 2], 1e-9)
        mean = base[:, 0] / seconds
        level = base[:, 3] / windows
        single = np.maximum(base[:, 1] / windows - level**2, 0.0)
        blocks = np.maximum(extra[:, 0] / np.maximum(extra[:, 1], 1.0) - level**2, 0.0)
        supers = np.maximum(extra[:, 2] / np.maximum(extra[:, 3], 1.0) - level**2, 0.0)
        scale = np.maximum(mean, 1e-9) ** 2
        return mean, wander(single / scale, blocks / scale, supers / scale, windows, extra)

    def refresh(self, at: Ints) -> None:
        """Recompute mean, band and shape."""
        t = self.table
        base = t["base"][at]
        mean, spread = self._wander(at)
        windows, seconds = np.maximum(base[:, 4], 1.0), np.maximum(base[:, 2], 1e-9)
        poisson = windows / np.maximum(mean * seconds, 1e-9)
        slow = np.maximum(spread.slow, 0.0)
        width = np.sqrt(slow + (poisson + spread.fast) / windows)
        # Short history, wide band: a minute of traffic does not show how it wanders
        floor = 0.18 + 0.32 * np.sqrt(60.0 / np.maximum(windows, 60.0))
        band = np.exp(np.clip(2.5 * width, floor, WIDEST))
        # Poisson's upper 99 % limit, for the streams where nearly nothing has been seen
        unseen = (base[:, 0] + 4.6 + 2.33 * np.sqrt(base[:, 0])) / seconds
        t["mean"][at], t["band"][at] = mean, band
        t["upper"][at] = np.maximum(np.maximum(mean * band, unseen), FLOOR_RATE)
        # The Poisson share is not dispersion; the prior is a jitter of 20 %
        phi = np.maximum(spread.fast - poisson, 0.0)
        phi = (windows * phi + 30.0 * 0.04) / (windows + 30.0)
        # Wander that no band covers (a job that runs for seconds every minute) is dispersion too,
        # of as many windows as a super-block has
        beyond = np.maximum(slow - (WIDEST / 2.5) ** 2, 0.0)
        phi = np.maximum(phi, BLOCK * SUPER * beyond)
        phi = phi * (1.0 + 1.64 * np.sqrt(2.0 / np.maximum(windows, 10.0)))
        t["shape"][at] = 1.0 / np.clip(phi, 0.003, 1e3)

    def describe(self, i: int, run: Floats) -> Description:
        """Explain by rates, the dispersion and a conditional test of two Poisson rates."""
        from scipy import stats  # noqa: PLC0415 - half a second, and only findings need it

        t, base = self.table, self.table["base"][i]
        before, after = float(t["mean"][i]), float(run[0] / max(run[2], 1e-9))
        events = round(run[0] + base[0])
        share = run[2] / max(run[2] + base[2], 1e-9)
        p = stats.binomtest(round(run[0]), events, share).pvalue if events else 1.0
        error = np.sqrt(1.0 / max(run[0], 0.5) + 1.0 / max(base[0], 0.5))
        ratio = (run[0] + 0.5) / max(run[2], 1e-9) / ((base[0] + 0.5) / max(base[2], 1e-9))
        return Description(
            before,
            after,
            {
                "baseline": before,
                "band": f"x{1 / t['band'][i]:.3g} .. x{t['upper'][i] / max(before, 1e-9):.3g}",
                "dispersion": float(1.0 / t["shape"][i]),
                "windows learned": float(base[4]),
                "events since onset": float(run[0]),
                "effect, 95 % interval": (
                    f"x{ratio * np.exp(-1.96 * error):.3g} .. x{ratio * np.exp(1.96 * error):.3g}"
                ),
                "p, two Poisson rates (exact, ignores bursts)": float(p),
            },
        )
