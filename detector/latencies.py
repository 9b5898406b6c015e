"""Latencies as distributions: how many samples lie beyond the baseline's shifted quantiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detector import evidence
from detector.bank import Bank, Description, Floats, Ints, Moment, Obs
from detector.table import Column
from detector.wander import wander
from probes.histogram import bucket_of, lower_edge_s

FOLD = 4
"""Buckets of the probes per bin of the baseline: a bin is at most 25 % wide."""
FIRST_BIN = 20
"""The baseline begins at 256 ns and, with BINS bins, ends near 1,000 s."""
BINS = 128
EDGES_S = lower_edge_s((np.arange(BINS + 1) + FIRST_BIN) * FOLD)
NEVER = 10_000
"""A bucket that no sample reaches: the statistic is switched off."""

LEVELS = np.array([0.5, 0.9, 0.99])
EXTRA_SHIFT = np.array([1.0, 1.25, 1.6])
FLOOR_S = np.array([0.3e-3, 1e-3, 5e-3])
"""Least shift of each quantile that is news, seconds: a busy host moves a median of 60 us on
loopback to 200 us by scheduling alone, and a preempted thread waits for time slices of 3-4 ms."""
DESIGN: Mapping[str, float] = {"rtt": 4.0, "connect_latency": 1.5, "request_latency": 1.5}
"""Samples per independent sample. The kernel's rtt is smoothed and stays from window to window."""


class LatencyBank(Bank):
    """Exceedances of shifted quantiles, in both directions.

    If a latency has not moved by more than the band's factor, at most half of its samples lie
    beyond the median times that factor, a tenth beyond the 90 % quantile's, and so on: the band
    is a shift that a user would notice, and the null is binomial whatever the distribution
    (the reduction is that of NP-FOCuS, Romano et al. 2023). Decreases are tested at the median.

    Observations: COO entries `row` (index into the rows given), `bucket`, `number`; per row
    `trials` (samples) and `median` (s).
    Statistics: 128 bins, ln median, (ln median)**2, windows.
    """

    stats = BINS + 3
    extras = 6
    which = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3])
    null = np.array([0.5, 0.5, 0.1, 0.1, 0.1, 0.02, 0.02, 0.02, 0.5, 0.5])
    other = np.array([0.75, 0.95, 0.3, 0.7, 0.97, 0.1, 0.5, 0.95, 0.75, 0.95])
    up = which < 3
    columns: ClassVar[Mapping[str, Column]] = {
        "samples": Column("f8"),
        "edge": Column("i4", (4,), NEVER),
        "prior": Column("f8", (), 1.5),
        "design": Column("f8", (), 1.5),
        "band": Column("f8", (), 2.0),
    }

    def set_design(self, at: Ints, signals: list[str]) -> None:
        """Set the prior design effects of new streams by the names of their signals."""
        self.table["prior"][at] = [DESIGN.get(signal, 1.5) for signal in signals]
        self.refresh(at)

    def relearn(self, at: Ints, age: Floats) -> None:
        """Forget the baselines, but not which signal it is."""
        prior = self.table["prior"][at].copy()
        super().relearn(at, age)
        self.table["prior"][at] = prior
        self.refresh(at)

    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[m, 131] as the class says."""
        m = len(at)
        bins = np.clip(obs["bucket"] // FOLD - FIRST_BIN, 0, BINS - 1)
        cells = np.bincount(obs["row"] * BINS + bins, weights=obs["number"], minlength=m * BINS)
        median = np.log(np.maximum(obs["median"], 1e-9))[:, None]
        return np.hstack([cells.reshape(m, BINS), median, median**2, np.ones((m, 1))])

    def log_l(self, at: Ints, obs: Obs) -> Floats:
        """Return tempered binomial ratios of the exceedance counts."""
        edge, row, bucket = self.table["edge"][at], obs["row"], obs["bucket"]
        hits = np.empty((len(at), 4))
        for q in range(4):
            beyond = bucket >= edge[row, q] if q < 3 else bucket < edge[row, q]
            hits[:, q] = np.bincount(row, weights=obs["number"] * beyond, minlength=len(at))
        ratio = evidence.binomial(
            hits[:, self.which], obs["trials"][:, None], self.null, self.other
        )
        tempered: Floats = ratio / self.table["design"][at][:, None]
        return tempered

    def ready(self, at: Ints, moment: Moment) -> NDArray[np.bool_]:
        """Need 20 samples in 8 windows, and the warm-up since learning began."""
        t = self.table
        watched = moment.age - t["born"][at] >= moment.warmup_s
        done: NDArray[np.bool_] = (
            watched & (self.learned_windows(at) >= 8.0) & (t["samples"][at] >= 20.0)
        )
        return done

    def block_extras(self, at: Ints, block: Floats, *, long: bool) -> Floats:
        """Return squared block means of ln median, and the excess chi-square at the median."""
        level = block[:, BINS] / block[:, -1]
        out = np.zeros((len(at), 6))
        if long:
            out[:, 2], out[:, 3] = level**2, 1.0
            return out
        out[:, 0], out[:, 1] = level**2, 1.0
        trials = block[:, :BINS].sum(axis=1)
        edge = self.table["edge"][at, 0] // FOLD - FIRST_BIN
        above = np.where(np.arange(BINS) > edge[:, None], block[:, :BINS], 0.0).sum(axis=1)
        excess = np.maximum(above - 0.5 * trials, 0.0)
        out[:, 4] = np.minimum(excess**2 / np.maximum(0.25 * trials, 1e-9), 50.0)
        out[:, 5] = 1.0
        return out

    def refresh(self, at: Ints) -> None:
        """Recompute band, design effect and the four edges."""
        t = self.table
        base, extra = t["base"][at], t["extra"][at]
        windows = np.maximum(base[:, -1], 1.0)
        level = base[:, BINS] / windows
        single = np.maximum(base[:, BINS + 1] / windows - level**2, 0.0)
        blocks = np.maximum(extra[:, 0] / np.maximum(extra[:, 1], 1.0) - level**2, 0.0)
        supers = np.maximum(extra[:, 2] / np.maximum(extra[:, 3], 1.0) - level**2, 0.0)
        spread = wander(single, blocks, supers, windows, extra)
        floor = 0.27 + 0.35 * np.sqrt(60.0 / np.maximum(windows, 60.0))
        band = np.exp(np.clip(2.5 * np.sqrt(spread.slow), floor, np.log(4.0)))
        design = t["prior"][at] * np.maximum(2.0 * extra[:, 4] + 20.0, 20.0) / (extra[:, 5] + 20.0)
        design = np.maximum(design, t["prior"][at])
        t["band"][at], t["design"][at] = band, design
        trials = base[:, :BINS].sum(axis=1)
        t["samples"][at] = trials
        alone = np.maximum(trials / design, 1e-9)
        edge = np.full((len(at), 4), NEVER, dtype=np.int32)
        for q, share in enumerate(LEVELS):
            sure = share + 2.33 * np.sqrt(share * (1.0 - share) / alone)
            value = quantiles(base[:, :BINS], np.minimum(sure, 1.0))
            moved = np.maximum(value * band * EXTRA_SHIFT[q], value + FLOOR_S[q])
            known = sure < 1.0 - 0.5 / np.maximum(trials, 1.0)
            edge[known, q] = bucket_of(np.nan_to_num(moved[known]) * 1e9) + 1
        sure = 0.5 - 2.33 * np.sqrt(0.25 / alone)
        value = quantiles(base[:, :BINS], np.maximum(sure, 0.0))
        moved = np.minimum(value / band, value - FLOOR_S[0])
        edge[:, 3] = np.where(
            (sure > 0) & (moved > 0), bucket_of(np.maximum(np.nan_to_num(moved), 0.0) * 1e9), 0
        )
        t["edge"][at] = edge

    def describe(self, i: int, run: Floats) -> Description:
        """Explain by the quantile that moved, with a two-sample Kolmogorov-Smirnov test."""
        from scipy import stats  # noqa: PLC0415 - half a second, and only findings need it

        t, base = self.table, self.table["base"][i, :BINS]
        new, share = run[:BINS], float(LEVELS[self.which[t["best"][i]] % 3])
        if self.up[t["best"][i]] and bucket_of(_quantile(new, 0.5) * 1e9) >= t["edge"][i, 0]:
            share = 0.5  # The median moved too, and says more to a reader than a tail
        n, m = float(base.sum()), float(new.sum())
        gap = np.abs(np.cumsum(base) / max(n, 1.0) - np.cumsum(new) / max(m, 1.0)).max()
        half = 1.96 * np.sqrt(share * (1.0 - share) / max(m / t["design"][i], 1.0))
        low, high = _quantile(new, max(share - half, 0.0)), _quantile(new, min(share + half, 1.0))
        numbers: dict[str, Any] = {
            "quantile": share,
            "baseline": _quantile(base, share),
            "baseline median": _quantile(base, 0.5),
            "median since onset": _quantile(new, 0.5),
            "baseline q99": _quantile(base, 0.99),
            "q99 since onset": _quantile(new, 0.99),
            "band": f"x{t['band'][i]:.3g}",
            "design effect": float(t["design"][i]),
            "samples learned": n,
            "samples since onset": m,
            "effect, 95 % interval": f"{low:.3g} s .. {high:.3g} s",
            "p, Kolmogorov-Smirnov": float(
                stats.kstwobign.sf(gap * np.sqrt(n * m / max(n + m, 1.0)))
            ),
        }
        return Description(_quantile(base, share), _quantile(new, share), numbers)


def quantiles(bins: Floats, share: Floats) -> Floats:
    """Return one quantile per row of binned samples, seconds; NaN for an empty row.

    Args:
        bins: float64[m, BINS], samples per bin.
        share: float64[m], the quantile wanted of each row.
    """
    upto = np.cumsum(bins, axis=1)
    rank = share * upto[:, -1]
    at = np.minimum((upto < rank[:, None]).sum(axis=1), BINS - 1)
    row = np.arange(len(bins))
    inside = (rank - (upto[row, at] - bins[row, at])) / np.maximum(bins[row, at], 1e-300)
    value = EDGES_S[at] + np.clip(inside, 0.0, 1.0) * (EDGES_S[at + 1] - EDGES_S[at])
    found: Floats = np.where(upto[:, -1] > 0, value, np.nan)
    return found


def _quantile(bins: Floats, share: float) -> float:
    return float(quantiles(bins[None, :], np.array([share]))[0])
