"""Latencies as distributions: how many samples lie beyond the baseline's shifted quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detector import bins as binned
from detector.bank import Bank, Description, Run
from detector.bins import BINS
from detector.blocks import BLOCK, HELD_BACK, single_variance
from detector.counts import prior_of, unknown
from detector.parts import At, Obs, rows_of
from detector.settings import DetectorSettings
from detector.table import Column
from detector.wander import wander_by_steps
from probes.histogram import bucket_of, lower_edge_s

Floats = NDArray[Any]
Ints = NDArray[np.int64]

NEVER = 32_000
"""A bucket that no sample reaches: the statistic is switched off."""
UNSEEN = -20_000
"""Origin of a stream without a sample."""
LEVELS = np.array([0.5, 0.9, 0.99])
EXTRA_SHIFT = np.array([1.0, 1.25, 1.6])
FLOOR_S = np.array([0.3e-3, 1e-3, 5e-3])
"""Least shift of each quantile that is news, seconds: a busy host moves a median of 60 us on
loopback to 200 us by scheduling alone, and a preempted thread waits for time slices of 3-4 ms."""
LATE_S: Mapping[str, float] = {"rtt": 0.05}
"""What a sample may be late by for another reason: who has no answer yet acknowledges after 40 ms
and a tick of the kernel, so a round trip says less of the way than of the server up to there.
Source: TCP_DELACK_MIN, include/net/tcp.h."""
ONE_SIDED = frozenset({"rtt", "connect_latency"})
"""Nobody's news when they fall. The kernel's rtt even falls when a server gets slow, as soon as
the delayed-ACK timer sends the ACK that would have ridden on the answer."""
DESIGN: Mapping[str, float] = {"rtt": 4.0, "connect_latency": 1.5, "request_latency": 1.5}
"""Samples per independent sample. The kernel's rtt is smoothed and stays from window to window."""
WIDEST = float(np.log(4.0))
MOST_PER_WINDOW = 4000.0
"""Samples of a window that are learned from; of more, as many in the same proportions."""
PRIOR_BLOCKS = 20.0
PRIOR_SD, PRIOR_WINDOWS, LEAST_SD, CLIP = 0.15, 30.0, 0.05, np.float32(4.0)
"""Of ln of a window's median about the baseline, as for amounts (`detector.levels`)."""
SETTLED = 480.0
"""Windows up to which a baseline may follow its band at any speed."""

RUN_FOLD, RUN_FIRST, RUN_BINS = 4, 20, 128
"""Of changes that are told: bins of four buckets each, from 256 ns to near 1,000 s."""
RUN_EDGES_S = lower_edge_s((np.arange(RUN_BINS + 1) + RUN_FIRST) * RUN_FOLD)


class LatencyBank(Bank):
    """Exceedances of shifted quantiles, in both directions.

    If a latency has not moved by more than the band's factor, at most half of its samples lie
    beyond the median times that factor, a tenth beyond the 90 % quantile's, and so on: the band
    is a shift that a user would notice, and the null is binomial whatever the distribution
    (the reduction is that of NP-FOCuS, Romano et al. 2023). Decreases are tested at the median.
    Exceedances say nothing of how far beyond they are, so the shift of the median itself is tested
    too, against its own scatter.

    Observations: `value` (median, s), `trials` (samples), `entries`. Learned: ln median,
    (ln median)**2, windows, and the histogram in `detector.bins`.
    """

    run = RUN_BINS + 2
    # The requests of a window that fall into a stall of a busy host are slow together
    pause_s = 5.0
    which = np.array([0, 0, 1, 1, 2, 2, 3])
    null = np.array([0.5, 0.5, 0.1, 0.1, 0.02, 0.02, 0.5])
    other = np.array([0.62, 0.92, 0.22, 0.8, 0.08, 0.55, 0.8])
    shift = np.array([1.0, 2.5], np.float32)
    # the exceedances, then the shifts of the median
    up = np.concatenate([which < 3, shift > 0.0])
    falls = False
    by_steps = True
    columns: ClassVar[Mapping[str, Column]] = {
        "open": Column("u2", (BINS,)),
        "waiting": Column("u2", (BINS,)),
        "bins": Column("f4", (BINS,)),
        "origin": Column("i2", (), UNSEEN),
        "edge": Column("i2", (4,), NEVER),
        "upper": Column("f4"),
        "sd": Column("f4", (), 1.0),
        "falls": Column("i1"),
        "least": Column("f2"),
        "prior": Column("f2", (), 1.5),
        "late": Column("f2"),
        "design": Column("f4", (), 1.5),
        "band": Column("f4", (), 1.0),
        "excess": Column("f4", (2,)),
        "before": Column("f4", (3,), np.nan),
        "anchor": Column("f4", (), np.nan),
        "since": Column("i1"),
    }
    kept = ("falls", "least", "prior", "late")
    carried = (("open", "waiting", "bins"),)
    _half_square = (0.5 * shift * shift)[:, None]
    _log_null = np.log((1.0 - other) / (1.0 - null)).astype(np.float32)[:, None]
    _log_odds = (np.log(other / null) - np.log((1.0 - other) / (1.0 - null))).astype(np.float32)

    def configure(self, at: Ints, signals: Sequence[str], settings: DetectorSettings) -> None:
        """Set the prior design effect and the least change that is news."""
        t = self.table
        t["falls"][at] = [signal not in ONE_SIDED for signal in signals]
        t["prior"][at] = [DESIGN.get(signal, 1.5) for signal in signals]
        t["late"][at] = [LATE_S.get(signal, 0.0) for signal in signals]
        t["least"][at] = [np.log1p(settings.least_change(signal)) for signal in signals]

    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[130, m]: samples by absolute bins, ln median, 1."""
        m, entries = len(at), obs.entries
        out = np.ones((self.run, m))
        out[RUN_BINS] = np.log(np.maximum(obs.value, 1e-9))
        where = weights = np.zeros(0, np.int64)
        if entries is not None:
            row, bucket, weights = entries.flat
            place = np.clip(bucket // RUN_FOLD - RUN_FIRST, 0, RUN_BINS - 1).astype(np.int64)
            where = place * m + row
        cells = np.bincount(where, weights, RUN_BINS * m)
        out[:RUN_BINS] = cells.reshape(RUN_BINS, m)
        return out

    def log_l(self, at: At, obs: Obs) -> Floats:
        """Return tempered binomial ratios of the exceedance counts."""
        t, m, entries = self.table, len(obs.value), obs.entries
        edge, design = t["edge"][:, at], t["design"][at]
        ratio = np.empty((len(self.up), m), np.float32)
        np.multiply(self._log_null, obs.trials / design, out=ratio[: len(self.which)])
        # Normal ratios of the median's distance from the band, clipped, as its tails are not
        away = np.log(np.maximum(obs.value, np.float32(1e-9))) - t["upper"][at]
        np.minimum(away / t["sd"][at], CLIP, out=away)
        ratio[len(self.which) :] = self.shift[:, None] * away - self._half_square
        if entries is None:
            return ratio
        _, bucket, number = entries.flat
        for q in range(4):
            limit = np.repeat(edge[q], entries.length)
            beyond = bucket >= limit if q < 3 else bucket < limit
            # Of all rows up to each, so that one pass over the entries gives every row's
            upto = np.cumsum(number * beyond)[entries.upto - 1]
            hits = np.diff(upto, prepend=0).astype(np.float32)
            hits /= design
            for k in np.flatnonzero(self.which == q).tolist():
                ratio[k] += self._log_odds[k] * hits
        return ratio

    def absorb(self, at: At, obs: Obs) -> None:
        """Add a window to the block that is open."""
        t, entries = self.table, obs.entries
        middle = np.log(np.maximum(obs.value, np.float32(1e-9)))
        current = t["current"]
        current[0, at] += middle
        current[1, at] += middle * middle
        current[2, at] += np.float32(1.0)
        if entries is None:
            return
        unseen = np.flatnonzero(t["origin"][at] == UNSEEN)
        if len(unseen):
            middle_ns = obs.value[unseen].astype(np.float64) * 1e9
            t["origin"][rows_of(at, unseen)] = bucket_of(middle_ns) - binned.MIDDLE
        row, bucket, number = entries.flat
        if obs.trials.max(initial=0.0) > MOST_PER_WINDOW:
            scale = np.minimum(MOST_PER_WINDOW / obs.trials, 1.0)
            number = np.floor(number.astype(np.float32) * scale[row])
        place = binned.bin_of(bucket, np.repeat(t["origin"][at], entries.length))
        flat, room = t.flat("open")
        np.add.at(flat, place * room + rows_of(at, row), number.astype(np.uint16))

    def ready(self, at: At, age: Floats, spacing: Floats, warmup_s: float) -> NDArray[np.bool_]:
        """Need 20 samples in 8 windows, and the warm-up since learning began."""
        del spacing
        t = self.table
        samples = t["bins"][:, at].sum(axis=0)
        enough = (self.learned_windows(at) >= 8.0) & (samples >= 20.0)
        done: NDArray[np.bool_] = (age - t["born"][at] >= warmup_s) & enough
        return done

    def admits(self, at: At, block: Floats, moved: Floats) -> NDArray[np.bool_]:
        """Keep from the baseline what would raise it by more than the least change in an hour.

        A baseline that follows at any speed never sees a leak. A young one follows within its
        band; what lies beyond is learned when it lasts.
        """
        del moved
        t, hour = self.table, int(self.seasons.time // 3600.0)
        level = t["base"][0, at] / np.maximum(t["base"][2, at], 1.0)
        anchor = t["anchor"][at]
        young = np.isnan(anchor) | (t["base"][2, at] < SETTLED)
        turned = (t["since"][at] != hour % 120) & ~young
        followed = np.fmin(level, anchor + t["least"][at])
        t["anchor"][at] = anchor = np.where(young, level, np.where(turned, followed, anchor))
        t["since"][at] = hour % 120
        limit = np.where(young, t["upper"][at], anchor + t["least"][at])
        admitted: NDArray[np.bool_] = block[0] / block[2] <= limit
        waits = young & ~admitted
        lasts = waits & (t["held_back"][at] >= HELD_BACK)
        t["held_back"][at] += waits & ~lasts
        return admitted | lasts

    def count_block(self, at: At, block: list[Floats]) -> None:
        """Add the excess chi-square at the median's edge, and the number of blocks."""
        t, cells = self.table, block[1].astype(np.float32)
        trials = cells.sum(axis=0)
        edge = t["edge"][0, at].astype(np.float32) - t["origin"][at]
        above = np.where(binned.LOWER[:-1, None] >= edge, cells, 0.0).sum(axis=0)
        excess = np.maximum(above - 0.5 * trials, 0.0)
        square = np.minimum(excess**2 / np.maximum(0.25 * trials, 1e-9), 50.0)
        full = t["base"][2, at] >= 0.95 * self.memory
        fade = 1.0 - block[0][2] / np.maximum(t["base"][2, at], block[0][2])
        old = t["excess"][:, at] * np.where(full, fade, 1.0)
        t["excess"][:, at] = old + np.stack([square, np.ones_like(square)])

    def refresh(self, at: At) -> None:
        """Recompute band, design effect and the four edges."""
        t = self.table
        upto = self._recentred(at)
        base = t["base"][:, at]
        windows = np.maximum(base[2], 1.0)
        single = single_variance(base[0] / windows, base[1] / windows, windows)
        slow = wander_by_steps(single, t["spread"][:, at]) + prior_of(t["spread"][1, at])
        wandered = np.maximum(2.5 * np.sqrt(slow), unknown(BLOCK * t["spread"][1, at]))
        band = t["least"][at] + np.minimum(wandered, WIDEST)
        blocks = t["excess"][1, at] + PRIOR_BLOCKS
        design = t["prior"][at] * np.maximum(2.0 * t["excess"][0, at] + PRIOR_BLOCKS, PRIOR_BLOCKS)
        design = np.maximum(design / blocks, t["prior"][at])
        t["band"][at], t["design"][at] = band, design
        up, _ = self.seasons.widening(at)
        level = base[0] / windows
        # Samples that fall together move the median of a window as they move its exceedances
        fast = (windows * single + PRIOR_WINDOWS * PRIOR_SD**2) / (windows + PRIOR_WINDOWS)
        fast = fast * (1.0 + 1.64 * np.sqrt(2.0 / np.maximum(windows, 10.0)))
        t["sd"][at] = np.maximum(np.sqrt(fast), LEAST_SD) * np.sqrt(design / 1.5)
        floor = np.maximum(FLOOR_S[0], t["late"][at])
        t["upper"][at] = np.maximum(level + band + up, np.log(np.exp(level) + floor))
        t["edge"][:, at] = self._edges(at, upto, band + up, band)

    def _edges(self, at: At, upto: Floats, rise: Floats, fall: Floats) -> Ints:
        """Return int[4, m]: the buckets from which a sample counts as beyond each quantile."""
        t, trials = self.table, upto[-1]
        alone, origin = np.maximum(trials / t["design"][at], 1e-9), t["origin"][at]
        edge = np.full((4, len(trials)), NEVER, np.int64)
        for q, share in enumerate(LEVELS):
            sure = share + 2.33 * np.sqrt(share * (1.0 - share) / alone)
            value = binned.seconds(origin + binned.quantiles(upto, np.minimum(sure, 1.0)))
            floor = np.maximum(FLOOR_S[q], t["late"][at])
            moved = np.maximum(value * np.exp(rise) * EXTRA_SHIFT[q], value + floor)
            known = sure < 1.0 - 0.5 / np.maximum(trials, 1.0)
            edge[q, known] = bucket_of(moved[known] * 1e9) + 1
        sure = 0.5 - 2.33 * np.sqrt(0.25 / alone)
        value = binned.seconds(origin + binned.quantiles(upto, np.maximum(sure, 0.0)))
        moved = np.minimum(value * np.exp(-fall), value - FLOOR_S[0])
        told = (t["falls"][at] > 0) & (sure > 0) & (moved > 0)
        edge[3] = np.where(told, bucket_of(np.maximum(moved, 0.0) * 1e9), 0)
        return np.minimum(edge, NEVER)

    def _recentred(self, at: At) -> Floats:
        """Return the summed bins, after moving those whose median has left the fine ones."""
        t = self.table
        upto = binned.summed(t["bins"][:, at])
        median = binned.quantiles(upto, np.full(upto.shape[1], 0.5, np.float32))
        off = (median < binned.EARLIEST) | (median > binned.LATEST)
        off &= upto[-1] > 0
        if not off.any():
            return upto
        who = rows_of(at, np.flatnonzero(off))
        shift = np.rint(median[off] - binned.MIDDLE).astype(np.int64)
        for name in ("open", "waiting", "bins"):
            t[name][:, who] = binned.rebinned(t[name][:, who], shift)
        t["origin"][who] += shift.astype(np.int16)
        return binned.summed(t["bins"][:, at])

    def best(self, i: int, run: Run, *, up: bool) -> int:
        """Return the alternative of greatest likelihood."""
        cells = run.statistics[:RUN_BINS]
        middle = (np.arange(RUN_BINS) + RUN_FIRST) * RUN_FOLD + RUN_FOLD // 2
        edge = self.table["edge"][:, i].astype(np.int64)
        hits = np.array([cells[middle >= e].sum() for e in edge])
        hits[3] = cells[middle < edge[3]].sum()
        total = self._log_odds * hits[self.which] + self._log_null[:, 0] * cells.sum()
        mine = self.up[: len(self.which)] == up
        return int(np.where(mine, total, -np.inf).argmax())

    def describe(self, i: int, run: Run, *, best: int, up: bool) -> Description:
        """Explain by the quantile that moved, with a two-sample Kolmogorov-Smirnov test."""
        from scipy import stats  # noqa: PLC0415 - half a second, and only findings need it

        t, new = self.table, run.statistics[:RUN_BINS]
        share = float(LEVELS[self.which[best] % 3])
        if up and bucket_of(_run_quantile(new, 0.5) * 1e9) >= t["edge"][0, i]:
            share = 0.5  # The median moved too, and says more to a reader than a tail
        n, m = float(t["bins"][:, i].sum()), float(new.sum())
        half = 1.96 * np.sqrt(share * (1.0 - share) / max(m / float(t["design"][i]), 1.0))
        low = _run_quantile(new, max(share - half, 0.0))
        high = _run_quantile(new, min(share + half, 1.0))
        before, after = self._quantile(i, share), _run_quantile(new, share)
        numbers: dict[str, float | str] = {
            "quantile": share,
            "baseline": before,
            "baseline median": self._quantile(i, 0.5),
            "median since onset": _run_quantile(new, 0.5),
            "baseline q99": self._quantile(i, 0.99),
            "q99 since onset": _run_quantile(new, 0.99),
            "band": f"x{np.exp(t['band'][i]):.3g}",
            "design effect": float(t["design"][i]),
            "samples learned": n,
            "samples since onset": m,
            "effect, 95 % interval": f"{low:.3g} s .. {high:.3g} s",
            "p, Kolmogorov-Smirnov": float(
                stats.kstwobign.sf(self._gap(i, new) * np.sqrt(n * m / max(n + m, 1.0)))
            ),
        }
        return Description(before, after, numbers)

    def _gap(self, i: int, new: Floats) -> float:
        """Return the greatest distance of the two distribution functions, at the bins' edges."""
        t = self.table
        base = np.cumsum(t["bins"][:, i], dtype=np.float64)
        edges_s = binned.seconds(binned.LOWER[1:-1] + float(t["origin"][i]))
        upto = np.concatenate([[0.0], np.cumsum(new)])
        there = np.interp(edges_s, RUN_EDGES_S, upto) / max(float(upto[-1]), 1.0)
        return float(np.abs(base[:-1] / max(float(base[-1]), 1.0) - there).max())

    def _quantile(self, i: int, share: float) -> float:
        t = self.table
        where = binned.quantiles(binned.summed(t["bins"][:, [i]]), np.array([share], np.float32))
        return float(binned.seconds(where + float(t["origin"][i]))[0])


def _run_quantile(cells: Floats, share: float) -> float:
    """Return a quantile of samples in absolute bins, seconds; 0.0 without a sample."""
    upto = np.concatenate([[0.0], np.cumsum(cells)])
    return float(np.interp(share * upto[-1], upto, RUN_EDGES_S)) if upto[-1] > 0 else 0.0
