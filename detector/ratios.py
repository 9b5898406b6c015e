"""Shares of attempts: connect errors, resets, retransmits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detector.bank import Bank, Description, Run
from detector.parts import At, Obs
from detector.settings import DetectorSettings
from detector.table import Column

Floats = NDArray[Any]
Ints = NDArray[np.int64]

PRIOR_HITS, PRIOR_TRIALS = 0.5, 5.0
"""Beta(0.5, 4.5): what is believed of a stream without a single attempt."""
PRIOR_BLOCKS = 10.0
LEAST_SHARE = 1e-3
"""No edge of a band lies lower: rarer failures cannot be told from none in useful time."""
MOST = 0.8
"""Edge of the band above which an increase is not tested: where nearly all fail already (a client
that closes by reset), more is not news."""
UNTESTED = np.float32(30.0)
MOST_TRIALS = 1e5


class RatioBank(Bank):
    """Binomial events of known denominators; only increases are reported.

    Conditional on the attempts, so a change of traffic is no evidence, and a window with one
    attempt is worth one attempt. The null's edge is 1.5 times the odds of the baseline's upper
    99 % limit, so a stream with a handful of attempts has a wide one and needs no special case.
    Attempts that fail together (a retry storm) count less: the evidence is divided by a design
    effect, Pearson's chi-square per block about the share that was learned.

    Observations: `value` (hits) and `trials`. Learned: hits, trials, windows.
    """

    odds = np.array([2.0, 4.0, 16.0, 64.0, 256.0], np.float32)
    up = odds > 1.0
    seasonal = False
    columns: ClassVar[Mapping[str, Column]] = {
        "floor": Column("f4", (), 0.02),
        "edge": Column("f4", (), 0.5),
        "design": Column("f4", (), 1.0),
        "slope": Column("f4", (5,)),
        "excess": Column("f4", (2,)),
    }
    kept = ("floor",)
    _log_odds = np.log(odds)[:, None]

    def configure(self, at: Ints, signals: Sequence[str], settings: DetectorSettings) -> None:
        """Set the share below which a signal is nobody's news."""
        least = [max(settings.least_change(signal), LEAST_SHARE) for signal in signals]
        self.table["floor"][at] = least

    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[3, m] as the class says."""
        ones = np.ones(len(at))
        return np.stack([obs.value.astype(np.float64), obs.trials.astype(np.float64), ones])

    def log_l(self, at: At, obs: Obs) -> Floats:
        """Return tempered binomial ratios from the edge."""
        t = self.table
        # More attempts than this in a window are no more evidence: single precision ends there
        design = t["design"][at] * np.maximum(obs.trials * np.float32(1.0 / MOST_TRIALS), 1.0)
        # `evidence.binomial` of odds e/(1-e) against o times those: hits ln o - trials ln(1-e+e o)
        ratio: Floats = t["slope"][:, at] * (obs.trials / design)
        np.subtract(self._log_odds * (obs.value / design), ratio, out=ratio)
        return ratio

    def absorb(self, at: At, obs: Obs) -> None:
        """Add a window to the block that is open."""
        current = self.table["current"]
        current[0, at] += obs.value
        current[1, at] += obs.trials
        current[2, at] += np.float32(1.0)

    def ready(self, at: At, age: Floats, spacing: Floats, warmup_s: float) -> NDArray[np.bool_]:
        """Need the pair to have been watched for the warm-up; the prior covers the rest."""
        del spacing
        done: NDArray[np.bool_] = age - self.table["born"][at] >= warmup_s
        return done

    def count_block(self, at: At, block: list[Floats]) -> None:
        """Add Pearson's chi-square of a block about the share so far, and the number of blocks."""
        t = self.table
        hits, trials, windows = block[0]
        fade = 1.0 - windows / np.maximum(t["base"][2, at], windows)
        learned, attempts, _ = t["base"][:, at]
        share = (learned + PRIOR_HITS) / (attempts + PRIOR_TRIALS)
        expected = trials * share
        square = (hits - expected) ** 2 / np.maximum(expected * (1.0 - share), 1e-9)
        # Faded as the baseline is, once that is full; one block can at most say "all are one"
        full = t["base"][2, at] >= 0.95 * self.memory
        old = t["excess"][:, at] * np.where(full, fade, 1.0)
        t["excess"][:, at] = old + np.stack([np.minimum(square, 50.0), np.ones_like(square)])

    def refresh(self, at: At) -> None:
        """Recompute the edge and the design effect."""
        t = self.table
        (hits, attempts, _), extra = t["base"][:, at], t["excess"][:, at]
        blocks = extra[1] + PRIOR_BLOCKS
        beyond = np.maximum((extra[0] - extra[1]) / blocks, 0.0)
        # The upper limit of what clumps add: an optimistic one costs the budget. Where they are
        # rare, few blocks tell of them
        rare = (1.0 + beyond) / np.maximum(hits, 1.0)
        design = 1.0 + beyond * (1.0 + 2.33 * np.sqrt(2.0 / blocks + rare))
        trials = attempts / design + PRIOR_TRIALS
        share = (hits / design + PRIOR_HITS) / trials
        z2 = 2.33**2
        spread = 2.33 * np.sqrt(share * (1.0 - share) / trials + z2 / (4.0 * trials**2))
        upper = (share + z2 / (2.0 * trials) + spread) / (1.0 + z2 / trials)
        odds = 1.5 * upper / np.maximum(1.0 - upper, 1e-6)
        edge = np.maximum(odds / (1.0 + odds), t["floor"][at])
        t["design"][at], t["edge"][at] = design, edge
        slope = np.log1p(edge * (self.odds[:, None] - 1.0))
        t["slope"][:, at] = np.where(edge > MOST, UNTESTED, slope)

    def best(self, i: int, run: Run, *, up: bool) -> int:
        """Return the alternative of greatest likelihood."""
        del up
        hits, trials = run.statistics[:2]
        return int((self._log_odds[:, 0] * hits - self.table["slope"][:, i] * trials).argmax())

    def describe(self, i: int, run: Run, *, best: int, up: bool) -> Description:
        """Explain by shares, with Fisher's exact test of the two tables."""
        from scipy import stats  # noqa: PLC0415 - half a second, and only findings need it

        del best, up
        t, base = self.table, self.table["base"][:, i].astype(np.float64)
        hits, trials = round(run.statistics[0]), round(run.statistics[1])
        before = float(base[0] / base[1]) if base[1] > 0 else 0.0
        after = float(run.statistics[0] / max(run.statistics[1], 1e-9))
        table = np.array(
            [[hits, trials - hits], [round(base[0]), round(base[1] - base[0])]], dtype=np.int64
        )
        p = stats.fisher_exact(np.maximum(table, 0), alternative="greater").pvalue
        interval = stats.binomtest(hits, max(trials, 1)).proportion_ci(method="wilson")
        return Description(
            before,
            after,
            {
                "baseline": before,
                "attempts learned": float(base[1]),
                "edge of the band": float(t["edge"][i]),
                "design effect": float(t["design"][i]),
                "attempts since onset": float(trials),
                "effect, 95 % interval": f"{interval.low:.3g} .. {interval.high:.3g}",
                "p, Fisher's exact test": float(p),
            },
        )
