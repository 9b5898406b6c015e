"""Any other number: how surprising one window is for its stream, at a threshold from experience.

Three parts. `seasons` says what was expected, `surprise` how rare such a distance is on this
stream, `peaks` which surprise the class has shown to be rare enough for the budget. What comes
close together is one episode: it fires once, when it first climbs beyond the threshold, and ends
when the stream is calm, at its old level ("resolved") or at a new one ("adopted").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from detector import seasons, surprise
from detector.bank import Bank, Description, Floats, Ints, Moment, Obs, Outcome
from detector.peaks import LOW, WEEK_S, Peaks, PooledTable
from detector.seasons import Forecast
from detector.table import Column

LEAST_WINDOWS = 100.0
LOST_S = 3600.0
"""After a gap this long, nothing is known of the fast level: the next window is not judged."""
NATS_AT_COMMON = float(-np.log(1.0 - surprise.COMMON))
MIDDLE = 4.0
"""Surprise that scores 0.5."""


class GaugeBank(Bank):
    """Streams of numbers of which nothing is known but their past.

    The evidence of a finding is -ln p of the stream's Pareto tail. There is no sum over windows:
    on labelled curves it found nothing more at the same rate of false alerts, because slow
    unlabelled drift adds up too.

    Observations: `value`, `time` (epoch s) and `spacing` (s), float64[m].
    Statistics: value, value**2, windows.
    """

    stats = 3
    extras = 1
    capped = False
    up = np.array([True, False])
    columns: ClassVar[Mapping[str, Column]] = {
        **seasons.COLUMNS,
        **surprise.COLUMNS,
        "expected": Column("f8"),
        "origin": Column("f8"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.peaks = Peaks()
        self.table = PooledTable(self.table.columns, self.peaks)

    def update(self, at: Ints, obs: Obs, moment: Moment) -> Outcome:
        """Take one row per stream of `at` (ascending, unique) and move on by one window."""
        t = self.table
        seen = seasons.forecast(t, at, obs)
        lost = (moment.idle > LOST_S) & (t["n"][at] > 0)
        seasons.anchor(t, at, seen, lost)
        log_z = surprise.log_score(np.where(lost, 0.0, seen.news), seen.noise)
        raw, level = surprise.surprise(t, at, log_z)
        ready, firing = self.ready(at, moment), t["fire"][at] != 0
        t["judged"][at] += ready & ~firing
        opened = self._follow_episodes(at, obs, seen, ready & (raw >= surprise.OPEN), moment)
        t["peak"][at[opened]] = np.maximum(t["peak"][at[opened]], level[opened])
        alarm = opened & ~firing & (level >= LOW)
        if alarm.any():
            spacing = moment.spacing[alarm]
            per_week = np.exp(-moment.log_c[alarm]) * WEEK_S / spacing
            alarm[alarm] = level[alarm] >= self.peaks.threshold(per_week)
        self._fire_gauges(at[alarm], seen.news[alarm], level[alarm], moment)
        resolved, adopted = self._close_episodes(at, ready, moment)
        seasons.learn(t, at, obs, seen)
        surprise.learn(t, at, log_z, obs["spacing"])
        away = (level - MIDDLE) / MIDDLE
        score = 0.5 + 0.5 * away / (1.0 + np.abs(away))
        return Outcome(at[alarm], resolved, adopted, score, float("nan"))

    def _follow_episodes(
        self, at: Ints, obs: Obs, seen: Forecast, hit: NDArray[np.bool_], moment: Moment
    ) -> NDArray[np.bool_]:
        """Begin and prolong episodes; return which streams of `at` are in one and surprise."""
        t = self.table
        begins = hit & np.isnan(t["run_start"][at])
        new = at[begins]
        t["run_start"][new] = moment.time
        t["episodes"][new] += 1.0
        t["run"][new], t["peak"][new] = 0.0, 0.0
        t["expected"][new] = (seen.value - seen.news)[begins]
        t["origin"][new] = t["fast"][new]
        t["calm"][at] = np.where(hit, 0.0, t["calm"][at] + 1.0)
        t["run"][at[hit]] += self.statistics(at, obs)[hit]
        return hit

    def _fire_gauges(self, at: Ints, news: Floats, level: Floats, moment: Moment) -> None:
        t = self.table
        t["fire"][at] = np.where(news > 0, 1, -1)
        t["run_up"][at] = news > 0
        t["best"][at] = news <= 0
        t["onset"][at] = t["run_start"][at]
        t["detected"][at] = moment.end
        t["nats"][at] = NATS_AT_COMMON + level

    def _close_episodes(
        self, at: Ints, ready: NDArray[np.bool_], moment: Moment
    ) -> tuple[Ints, Ints]:
        """End the episodes of streams that are calm; return which findings that ends, and how."""
        t = self.table
        limit = np.maximum(surprise.CLOSE_WINDOWS, surprise.CLOSE_S / moment.spacing)
        over = ~np.isnan(t["run_start"][at]) & (t["calm"][at] >= limit)
        done = at[over]
        watched = float(moment.spacing[ready].sum())
        self.peaks.add(moment.time, watched, t["peak"][done])
        fired = done[t["fire"][done] != 0]
        after = t["run"][fired, 0] / np.maximum(t["run"][fired, 2], 1.0)
        change = np.abs(after - t["expected"][fired])
        stays = np.abs(t["fast"][fired] - t["origin"][fired]) >= 0.5 * change
        resolved, adopted = fired[~stays], fired[stays]
        self._end(fired, moment.end)
        t["run_start"][done] = np.nan
        return resolved, adopted

    def close(self, at: Ints, time: float) -> None:
        """End the changes of streams `at`, for a reason outside their own rows."""
        self._end(at, time)
        self.table["run_start"][at] = np.nan

    def set_back(self, seconds: float) -> None:
        """Move what is remembered of times, because the clock was set back."""
        super().set_back(seconds)
        self.peaks.set_back(seconds)

    def learned_windows(self, at: Ints) -> Floats:
        """Return how many windows stand behind each baseline."""
        windows: Floats = self.table["n"][at]
        return windows

    def ready(self, at: Ints, moment: Moment) -> NDArray[np.bool_]:
        """Need the warm-up in windows of its own, and 100 of them at least."""
        return self.enough_windows(at, moment, LEAST_WINDOWS)

    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[m, 3] as the class says."""
        return np.stack([obs["value"], obs["value"] ** 2, np.ones(len(at))], axis=1)

    def log_l(self, at: Ints, obs: Obs) -> Floats:
        """Return nothing: surprise is not a likelihood ratio."""
        del obs
        return np.zeros((len(at), len(self.up)))

    def block_extras(self, at: Ints, block: Floats, *, long: bool) -> Floats:
        """Return nothing: this model learns by window."""
        del block, long
        return np.zeros((len(at), self.extras))

    def refresh(self, at: Ints) -> None:
        """Do nothing: this model learns by window."""

    def relearn(self, at: Ints, age: Floats) -> None:
        """Keep what is known: the fast level has followed the change already."""
        self.table["born"][at] = age

    def describe(self, i: int, run: Floats) -> Description:
        """Explain by what was expected and by the noise about it."""
        t = self.table
        n = max(float(run[2]), 1.0)
        after, before = float(run[0]) / n, float(t["expected"][i])
        half = 1.96 * float(t["noise"][i]) / np.sqrt(n)
        return Description(
            before,
            after,
            {
                "expected now": before,
                "usual deviation": float(t["noise"][i]),
                "windows learned": float(t["n"][i]),
                "windows since onset": n,
                "effect, 95 % interval": (
                    f"{after - before - half:.4g} .. {after - before + half:.4g}"
                ),
            },
        )
