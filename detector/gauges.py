"""Any other number: how surprising one window is for its stream, at a threshold from experience.

Three parts. `forecast` says what was expected, `surprise` how rare such a distance is on this
stream, `peaks` which surprise the class has shown to be rare enough for the budget. What comes
close together is one episode: it fires once, when it first climbs beyond the threshold, and ends
when the stream is calm, at its old level ("resolved") or at a new one ("adopted").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detector import forecast, surprise
from detector.bank import Bank, Description, Run
from detector.blocks import FIRING, JUDGED, LEARNING
from detector.counts import enough_windows
from detector.episodes import Outcome
from detector.forecast import Forecast
from detector.parts import At, Moment, Obs, parts, rows_of
from detector.peaks import LOW, WEEK_S, Peaks, PooledTable
from detector.settings import DetectorSettings
from detector.table import Column

Floats = NDArray[Any]
Ints = NDArray[np.int64]

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

    Observations: `exact`.
    """

    seasonal = False
    up = np.array([True, False])
    columns: ClassVar[Mapping[str, Column]] = {
        **forecast.COLUMNS,
        **surprise.COLUMNS,
        "expected": Column("f8"),
        "origin": Column("f8"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.peaks = Peaks()
        self.table = PooledTable(self.table.columns, self.peaks)

    @property
    def habits(self) -> bool:
        """Say yes: `detector.surprise` remembers episodes."""
        return True

    def configure(self, at: Ints, signals: Sequence[str], settings: DetectorSettings) -> None:
        """Do nothing: the stream's own scatter decides what is news."""

    def update(self, at: Ints, obs: Obs, moment: Moment) -> Outcome:
        """Take one row per stream of `at` (ascending, unique) and move on by one window."""
        fired = []
        scores = np.zeros(len(at)) if moment.scored else np.zeros(0)
        judged, allowed, watched_s = 0, 0.0, 0.0
        for low, high, part in parts(at):
            now, live = moment.part(low, high), self.table["live"]
            spacing = now.spacing.astype(np.float64)
            seen, log_z = self._read(part, obs.exact[low:high], now)
            raw, level = surprise.surprise(self.table, part, log_z)
            ready = self.ready(part, np.zeros(0), spacing, now.warmup_s)
            firing = live[part] == FIRING
            live[part] = np.where(firing, FIRING, np.where(ready, JUDGED, LEARNING))
            quiet = ready & ~firing
            self.table["judged"][part] += quiet
            opened = np.flatnonzero(ready & (raw >= surprise.OPEN))
            if len(opened):
                fired.append(self._follow_episodes(part, opened, (seen, level, quiet), now))
            judged += int(np.count_nonzero(quiet))
            allowed += now.allowed(quiet)
            watched_s += float(np.broadcast_to(spacing, len(ready)).sum(where=ready))
            forecast.learn(self.table, part, seen, moment.time, spacing)
            surprise.learn(self.table, part, log_z, spacing)
            if moment.scored:
                away = (level - MIDDLE) / MIDDLE
                scores[low:high] = 0.5 + 0.5 * away / (1.0 + np.abs(away))
        resolved, adopted = self._close_episodes(at, watched_s, moment)
        alarmed = np.concatenate([*fired, np.zeros(0, np.int64)])
        return Outcome(alarmed, resolved, adopted, scores, float("nan"), judged, allowed)

    def _read(self, at: At, exact: Floats, now: Moment) -> tuple[Forecast, Floats]:
        """Return how windows compare with what was expected, and their scores, ln z."""
        seen = forecast.forecast(self.table, at, exact, now.time)
        if now.idle is None or not (now.idle > LOST_S).any():
            return seen, surprise.log_score(seen.news, seen.noise)
        lost = (now.idle > LOST_S) & (self.table["n"][at] > 0)
        forecast.anchor(self.table, rows_of(at, np.flatnonzero(lost)), seen.residual[lost])
        return seen, surprise.log_score(np.where(lost, 0.0, seen.news), seen.noise)

    def _follow_episodes(
        self,
        at: At,
        opened: Ints,
        of_part: tuple[Forecast, Floats, NDArray[np.bool_]],
        now: Moment,
    ) -> Ints:
        """Begin and prolong episodes of the rows that surprise; return the streams that fire.

        Args:
            at: the streams of the part.
            opened: int64[k], its rows that surprise.
            of_part: of all its rows: what was expected, surprise after habit, whether a row may
                fire.
            now: the window.
        """
        seen, level, quiet = of_part
        t, e = self.table, self.episodes.table
        streams, value, level = rows_of(at, opened), seen.value[opened], level[opened]
        rows = self.episodes.rows_for(streams)
        begins = np.isnan(e["start"][rows])
        new, fresh = rows[begins], streams[begins]
        e["start"][new], e["run"][:, new], e["seconds"][new] = now.time, 0.0, 0.0
        e["up"][new] = seen.news[opened][begins] > 0
        t["episodes"][fresh] += 1.0
        t["peak"][fresh] = 0.0
        t["expected"][fresh] = (value - seen.news[opened])[begins]
        t["origin"][fresh] = t["fast"][fresh]
        e["run"][:, rows] += np.stack([value, value**2, np.ones_like(value)])
        e["seconds"][rows] += now.spacing_of(opened)
        e["calm"][rows] = -1.0  # of this window
        t["peak"][streams] = np.maximum(t["peak"][streams], level)
        alarm = np.flatnonzero(quiet[opened] & (level >= LOW))
        if len(alarm):
            which = opened[alarm]
            per_week = WEEK_S / now.spacing_of(which) * np.exp(-now.log_c_of(which))
            alarm = alarm[level[alarm] >= self.peaks.threshold(per_week.astype(np.float64))]
            self._fire_gauges(rows[alarm], level[alarm], now)
        return streams[alarm]

    def _fire_gauges(self, rows: Ints, level: Floats, moment: Moment) -> None:
        e = self.episodes.table
        up = e["up"][rows] > 0
        e["fire"][rows], e["best"][rows] = np.where(up, 1, -1), ~up
        e["onset"][rows], e["detected"][rows] = e["start"][rows], moment.end
        e["nats"][rows] = NATS_AT_COMMON + level
        self.table["live"][e["of"][rows]] = FIRING

    def _close_episodes(self, at: Ints, watched_s: float, moment: Moment) -> tuple[Ints, Ints]:
        """End the episodes of streams that are calm; return which findings that ends, and how."""
        t, e = self.table, self.episodes.table
        here, rows = self.episodes.present(at)
        e["calm"][here] += 1.0
        spacing = moment.spacing_of(rows)
        limit = np.maximum(surprise.CLOSE_WINDOWS, surprise.CLOSE_S / spacing)
        over = here[~np.isnan(e["start"][here]) & (e["calm"][here] >= limit)]
        self.peaks.add(moment.time, watched_s, t["peak"][e["of"][over]])
        fired = over[e["fire"][over] != 0]
        streams = e["of"][fired]
        after = e["run"][0, fired] / np.maximum(e["run"][2, fired], 1.0)
        change = np.abs(after - t["expected"][streams])
        stays = np.abs(t["fast"][streams] - t["origin"][streams]) >= 0.5 * change
        self.episodes.end(self, fired, moment.end)
        e["start"][over] = np.nan
        self.episodes.prune(moment.end)
        return streams[~stays], streams[stays]

    def learned_windows(self, at: At) -> Floats:
        """Return how many windows stand behind each baseline."""
        windows: Floats = self.table["n"][at]
        return windows

    def ready(self, at: At, age: Floats, spacing: Floats, warmup_s: float) -> NDArray[np.bool_]:
        """Need the warm-up in windows of its own, and 100 of them at least."""
        del age
        return enough_windows(self, at, spacing, warmup_s, LEAST_WINDOWS)

    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[3, m]: value, value**2, 1."""
        return np.stack([obs.exact, obs.exact**2, np.ones(len(at))])

    def log_l(self, at: At, obs: Obs) -> Floats:
        """Return zeros: surprise is not a likelihood ratio."""
        del at
        return np.zeros((len(self.up), len(obs.exact)), np.float32)

    def absorb(self, at: At, obs: Obs) -> None:
        """Do nothing: `update` learns."""

    def refresh(self, at: At) -> None:
        """Do nothing: this model learns by window."""

    def relearn(self, at: Ints, age: Floats) -> None:
        """Keep what is known: the fast level has followed the change already."""
        self.table["born"][at] = age

    def best(self, i: int, run: Run, *, up: bool) -> int:
        """Return the direction: there is no other alternative."""
        del i, run
        return 0 if up else 1

    def set_back(self, seconds: float) -> None:
        """Move what is remembered of times, because the clock was set back."""
        super().set_back(seconds)
        self.peaks.set_back(seconds)

    def describe(self, i: int, run: Run, *, best: int, up: bool) -> Description:
        """Explain by what was expected and by the noise about it."""
        del best, up
        t = self.table
        n = max(float(run.statistics[2]), 1.0)
        after, before = float(run.statistics[0]) / n, float(t["expected"][i])
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
