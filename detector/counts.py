"""Counts of events per window: connections, requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detector.bank import Bank, Description, Run
from detector.blocks import BLOCK, SUPER, single_variance
from detector.parts import At, Obs
from detector.settings import DetectorSettings
from detector.table import Column
from detector.wander import PRIOR_BLOCKS, PRIOR_SD, allowance, lasting, wander

Floats = NDArray[Any]
Ints = NDArray[np.int64]

WIDEST = float(np.log(3.0))
"""Most that wander widens a band, ln: a factor of three."""
FLOOR_RATE = 0.3
"""Events per second that are nobody's news, whatever the baseline."""
UNKNOWN = 0.34
PRIOR_JITTER = 0.04
"""Dispersion that is believed in before any was seen: a jitter of 20 % ..."""
PRIOR_WINDOWS = 30.0
"""... with the weight of so many windows."""


class CountBank(Bank):
    """Negative binomial counts with a mean that may wander inside a band.

    The null is "the mean of this window, given the past, lies inside [lower, upper]" and the
    likelihood ratios are taken from the band's edge, which is valid for every mean inside
    because they are monotone in it. Of a window without events a ratio is at most one over the
    share of such windows, whatever the law: a job that runs now and then has pauses. The spread
    between single windows goes into the dispersion of the negative binomial; the wander of block
    means, which a model of independent windows would take for a change, goes into the band.

    Observations: `value` (events per second) and `trials` (seconds).
    Learned: rate, rate**2, windows without events, windows.
    """

    moments = 4

    factor = np.array([1.2, 1.6, 3.0, 8.0, 0.65, 0.3, 0.05], np.float32)
    up = factor > 1.0
    columns: ClassVar[Mapping[str, Column]] = {
        "least": Column("f4"),
        "width": Column("f4", (), 1.0),
        "span": Column("f4", (), 1.0),
        "mean": Column("f4"),
        "band": Column("f4"),
        "shape": Column("f4", (7,), 1.0),
        "slope": Column("f4", (7,)),
        "pause": Column("f4"),
    }
    kept = ("least", "width")
    _log_factor = np.log(factor)[:, None]

    def configure(self, at: Ints, signals: Sequence[str], settings: DetectorSettings) -> None:
        """Set the least change that is news."""
        self.table["least"][at] = [np.log1p(settings.least_change(s)) for s in signals]

    def statistics(self, at: Ints, obs: Obs) -> Floats:  # noqa: ARG002 - as other models
        """Return float64[3, m] as the class says."""
        rate = obs.value.astype(np.float64)
        return np.stack([rate, rate**2, np.ones(len(rate))])

    def log_l(self, at: At, obs: Obs) -> Floats:
        """Return negative binomial ratios: increases from the upper edge, decreases the lower."""
        t = self.table
        shape = t["shape"][:, at]
        # `evidence.negative_binomial` as (x + r) ln(rho (r + m) / (r + rho m)) - r ln rho, which
        # single precision holds for any x; the first logarithm is only computed anew by `refresh`
        ratio: Floats = t["slope"][:, at] * (obs.value * t["span"][at] + shape)
        ratio -= self._log_factor * shape
        if len(empty := np.flatnonzero(obs.value == 0.0)):
            falls = np.flatnonzero(~self.up)[:, None]
            ratio[falls, empty] = np.minimum(ratio[falls, empty], t["pause"][at][empty])
        return ratio

    def absorb(self, at: At, obs: Obs) -> None:
        """Add a window to the block that is open."""
        current, rate = self.table["current"], obs.value
        current[0, at] += rate
        current[1, at] += rate * rate
        current[2, at] += rate == 0.0
        current[3, at] += np.float32(1.0)
        self.table["width"][at] = obs.trials

    def ready(self, at: At, age: Floats, spacing: Floats, warmup_s: float) -> NDArray[np.bool_]:
        """Need the warm-up in windows of its own, and 20 of them at least."""
        del age
        return enough_windows(self, at, spacing, warmup_s, 20.0)

    def unit(self, level: Floats) -> Floats:
        """Return float32[m]: errors of a rate are relative."""
        return level

    def deviation(self, at: At, block: Floats) -> Floats:
        """Return float32[m]: ln of a block's rate over the baseline's, drawn to 0 by few events."""
        t = self.table
        usual = t["mean"][at] * t["span"][at] * block[-1] + 1.0
        moved: Floats = np.log((block[0] * t["span"][at] + 1.0) / usual)
        return moved

    def reached(self, moments: Floats) -> Floats:
        """Return float32[m]: ln of a rate."""
        level: Floats = np.log(np.maximum(super().reached(moments), 1e-9))
        return level

    def clipped(self, at: At, block: list[Floats]) -> list[Floats]:
        """Keep one block's rate within twice the band of the baseline."""
        t, moments = self.table, block[0]
        mean, reach = t["mean"][at], np.exp(2.0 * t["band"][at])
        rate = moments[0] / moments[-1]
        most = np.maximum(mean * reach, FLOOR_RATE)
        scale = np.clip(rate, mean / reach, most) / np.maximum(rate, 1e-9)
        scale = np.where(rate > 0, scale, 1.0).astype(np.float32)
        one = np.ones_like(scale)
        return [moments * np.stack([scale, scale**2, one, one]), *block[1:]]

    def refresh(self, at: At) -> None:
        """Recompute mean, band, shape and what follows from them."""
        t = self.table
        base, span = t["base"][:, at], t["width"][at]
        windows = np.maximum(base[-1], 1.0)
        mean = base[0] / windows
        scale = np.maximum(mean, 1e-9) ** 2
        spread = t["spread"][:, at]
        fast = single_variance(mean, base[1] / windows, windows) / scale
        wandered, seen = wander(spread), spread[4]
        events = base[0] * span
        poisson = 1.0 / np.maximum(mean * span, 1e-9)
        # The Poisson share is not dispersion
        phi = np.maximum(fast - poisson, 0.0)
        phi = (windows * phi + PRIOR_WINDOWS * PRIOR_JITTER) / (windows + PRIOR_WINDOWS)
        error = (poisson + phi) / remembered(windows, seen)
        reach = allowance(wandered, prior_of(seen / BLOCK), error)
        # The wander goes on about a mean that has moved by what is no news yet
        band = t["least"][at] + np.minimum(np.maximum(reach, unknown(seen)), WIDEST)
        up, down = self.seasons.widening(at)
        # Poisson's upper 99 % limit, for the streams where nearly nothing has been seen
        unseen = (events + 4.6 + 2.33 * np.sqrt(events)) / (windows * span)
        level = np.log(np.maximum(mean, 1e-9))
        over, under = self.seasons.within(at, level + band + up, level - band - down)
        upper, lower = np.maximum(np.maximum(np.exp(over), unseen), FLOOR_RATE), np.exp(under)
        # Wander that no band covers (a job that runs for seconds every minute) is dispersion too,
        # of as many windows as a super-block has
        beyond = np.maximum(wandered.slow - (WIDEST / 2.5) ** 2, 0.0)
        phi = np.maximum(phi, BLOCK * SUPER * beyond)
        phi = phi * (1.0 + 1.64 * np.sqrt(2.0 / np.maximum(windows, 10.0)))
        # What the single windows show of the wander is part of what it needs
        more = lasting(wandered, np.abs(self._log_factor)) - wandered.slow
        shape = 1.0 / np.clip(phi + np.maximum(more, 0.0), 0.003, 1e3)
        edge = np.where(self.up[:, None], upper, lower) * span
        edge = np.maximum(edge, 1e-9)
        factor = self.factor[:, None]
        t["slope"][:, at] = np.log1p((factor - 1.0) * shape / (shape + factor * edge))
        t["mean"][at], t["band"][at], t["shape"][:, at], t["span"][at] = mean, band, shape, span
        t["pause"][at] = log_rarity(base[2], windows)

    def best(self, i: int, run: Run, *, up: bool) -> int:
        """Return the alternative of greatest likelihood."""
        t = self.table
        failures = t["shape"][:, i] * run.statistics[2]
        number = run.statistics[0] * float(t["span"][i]) + failures
        total = t["slope"][:, i] * number - self._log_factor[:, 0] * failures
        return int(np.where(self.up == up, total, -np.inf).argmax())

    def describe(self, i: int, run: Run, *, best: int, up: bool) -> Description:
        """Explain by rates, the dispersion and a conditional test of two Poisson rates."""
        from scipy import stats  # noqa: PLC0415 - half a second, and only findings need it

        del best, up
        t, base = self.table, self.table["base"][:, i].astype(np.float64)
        before = float(t["mean"][i])
        after = float(run.statistics[0] / max(run.statistics[2], 1e-9))
        new, seconds = after * run.seconds, max(run.seconds, 1e-9)
        learned_s = max(float(base[-1] * t["span"][i]), 1e-9)
        old = before * learned_s
        events = round(new) + round(old)
        share = seconds / (seconds + learned_s)
        p = stats.binomtest(round(new), events, share).pvalue if events else 1.0
        error = np.sqrt(1.0 / max(new, 0.5) + 1.0 / max(old, 0.5))
        ratio = (new + 0.5) / seconds / ((old + 0.5) / learned_s)
        band = float(np.exp(t["band"][i]))
        return Description(
            before,
            after,
            {
                "baseline": before,
                "band": f"x{1 / band:.3g} .. x{band:.3g}",
                "dispersion": float(1.0 / t["shape"][:, i].max()),
                "windows learned": float(base[-1]),
                "events since onset": float(round(new)),
                "effect, 95 % interval": (
                    f"x{ratio * np.exp(-1.96 * error):.3g} .. x{ratio * np.exp(1.96 * error):.3g}"
                ),
                "p, two Poisson rates (exact, ignores bursts)": float(p),
            },
        )


def unknown(windows: Floats) -> Floats:
    """Return what is added to a band for a short history, ln: a minute does not show the wander.

    Chosen so that wobbles of 20 % with a memory of half a minute stay inside, at any age.
    """
    added: Floats = UNKNOWN * (60.0 / np.maximum(windows, 60.0)) ** 0.75
    return added


def prior_of(blocks: Floats) -> Floats:
    """Return the variance of wander that is believed in before any was seen."""
    prior: Floats = PRIOR_BLOCKS * PRIOR_SD**2 / (blocks + PRIOR_BLOCKS)
    return prior


def remembered(windows: Floats, seen: Floats) -> Floats:
    """Return how many windows of equal weight say as much as a baseline's, which fade.

    A memory that fades with each window by one in n is worth 2 n.
    """
    more = np.clip((seen - windows) / np.maximum(2.0 * windows, 1.0), 0.0, 1.0)
    equal: Floats = windows * (1.0 + more)
    return equal


def log_rarity(empty: Floats, windows: Floats) -> Floats:
    """Return the most that a window without anything may say of a fall, nats.

    No alternative makes such windows more than certain, so no ratio exceeds one over their share.
    """
    most: Floats = np.log(windows / np.maximum(empty, 1e-9))
    return most


def enough_windows(
    bank: Bank, at: At, spacing: Floats, warmup_s: float, least: float
) -> NDArray[np.bool_]:
    """Return which baselines hold `least` windows and the warm-up's length of them."""
    need = np.maximum(np.ceil(warmup_s / spacing), least)
    done: NDArray[np.bool_] = bank.learned_windows(at) >= need
    return done
