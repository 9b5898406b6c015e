"""Shares of attempts: connect errors, resets, retransmits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from detector import evidence
from detector.bank import Bank, Description, Floats, Ints, Moment, Obs
from detector.table import Column

FLOOR: Mapping[str, float] = {"connect_errors": 0.02, "resets": 0.05, "retransmits": 0.0075}
"""Share below which a signal is nobody's news: single failures, the odd tail loss."""
PRIOR_HITS, PRIOR_TRIALS = 0.5, 5.0
"""Beta(0.5, 4.5): what is believed of a stream without a single attempt."""
PRIOR_BLOCKS = 20.0
MOST = 0.8
"""Edge of the band above which an increase is not tested."""


class RatioBank(Bank):
    """Binomial events of known denominators; only increases are reported.

    Conditional on the attempts, so a change of traffic is no evidence, and a window with one
    attempt is worth one attempt. The null's edge is 1.5 times the odds of the baseline's upper
    99 % limit, so a stream with a handful of attempts has a wide one and needs no special case.
    Attempts that fail together (a retry storm) count less: the evidence is divided by a design
    effect, Pearson's chi-square per block of what exceeds the edge.

    Observations: `hits` and `trials`, float64[m].
    Statistics: hits, trials, windows.
    """

    stats = 3
    extras = 2
    odds = np.array([2.0, 4.0, 16.0, 64.0, 256.0])
    up = odds > 1.0
    columns: ClassVar[Mapping[str, Column]] = {
        "floor": Column("f8", (), 0.02),
        "edge": Column("f8", (), 0.5),
        "design": Column("f8", (), 1.0),
    }

    def set_floor(self, at: Ints, signals: list[str]) -> None:
        """Set the floors of new streams by the names of their signals."""
        self.table["floor"][at] = [FLOOR.get(signal, 0.02) for signal in signals]
        self.refresh(at)

    def relearn(self, at: Ints, age: Floats) -> None:
        """Forget the baselines, but not which signal it is."""
        floor = self.table["floor"][at].copy()
        super().relearn(at, age)
        self.table["floor"][at] = floor
        self.refresh(at)

    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[m, 3] as the class says."""
        return np.stack([obs["hits"], obs["trials"], np.ones(len(at))], axis=1)

    def log_l(self, at: Ints, obs: Obs) -> Floats:
        """Return tempered binomial ratios from the edge."""
        edge = self.table["edge"][at][:, None]
        other = np.minimum(edge * self.odds / (1.0 - edge + edge * self.odds), 1.0 - 1e-12)
        hits, trials = obs["hits"][:, None], obs["trials"][:, None]
        ratio = evidence.binomial(hits, trials, edge, other)
        tempered: Floats = ratio / self.table["design"][at][:, None]
        return tempered

    def ready(self, at: Ints, moment: Moment) -> NDArray[np.bool_]:
        """Need the pair to have been watched for the warm-up; the prior covers the rest."""
        done: NDArray[np.bool_] = moment.age - self.table["born"][at] >= moment.warmup_s
        return done

    def block_extras(self, at: Ints, block: Floats, *, long: bool) -> Floats:
        """Return Pearson's chi-square of the excess over the edge, and the number of blocks."""
        if long:
            return np.zeros((len(at), 2))
        edge = self.table["edge"][at]
        expected = block[:, 1] * edge
        excess = np.maximum(block[:, 0] - expected, 0.0)
        square = excess**2 / np.maximum(expected * (1.0 - edge), 1e-9)
        # One block can at most say "all attempts are one"
        return np.stack([np.minimum(square, 50.0), np.ones(len(at))], axis=1)

    def refresh(self, at: Ints) -> None:
        """Recompute the edge and the design effect."""
        t = self.table
        base, extra = t["base"][at], t["extra"][at]
        # Twice: the excess is one-sided, and under the null half of the chi-square
        design = (2.0 * extra[:, 0] + PRIOR_BLOCKS) / (extra[:, 1] + PRIOR_BLOCKS)
        design = np.maximum(design, 1.0)
        trials = base[:, 1] / design + PRIOR_TRIALS
        share = (base[:, 0] / design + PRIOR_HITS) / trials
        z2 = 2.33**2
        spread = 2.33 * np.sqrt(share * (1.0 - share) / trials + z2 / (4.0 * trials**2))
        upper = (share + z2 / (2.0 * trials) + spread) / (1.0 + z2 / trials)
        odds = 1.5 * upper / np.maximum(1.0 - upper, 1e-9)
        edge = np.maximum(odds / (1.0 + odds), t["floor"][at])
        t["design"][at] = design
        # Where nearly all fail already (a client that closes by reset), more is not news
        t["edge"][at] = np.where(edge > MOST, 1.0 - 1e-9, edge)

    def describe(self, i: int, run: Floats) -> Description:
        """Explain by shares, with Fisher's exact test of the two tables."""
        from scipy import stats  # noqa: PLC0415 - half a second, and only findings need it

        t, base = self.table, self.table["base"][i]
        before = float(base[0] / base[1]) if base[1] > 0 else 0.0
        after = float(run[0] / max(run[1], 1e-9))
        hits, trials = round(run[0]), round(run[1])
        table = np.array(
            [[hits, trials - hits], [round(base[0]), round(base[1] - base[0])]], dtype=np.int64
        )
        p = stats.fisher_exact(table, alternative="greater").pvalue
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
