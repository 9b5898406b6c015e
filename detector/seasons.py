"""Habits: by how much a stream has moved before without anything being wrong.

The shape of the day is how far it has moved at this hour on earlier days.

A profile of means would have to be right to the minute, or it makes a step where there is none
and finds one where the traffic has not followed it (a holiday). The band is only widened, and
only in the direction, by which the stream has been seen to leave it at the same hour before; the
baseline itself follows the last hour. What was told as a change counts half, so that a nightly
job is told two or three times and then no more. A week later two thirds of it are left, which
keeps the shape of a week.

Excursions are how far rates have gone, at any hour, and come back by themselves: a job that runs
every ten minutes is told when it runs first, and again only if it does more, or does not end: what
lasts twice as long as any before is no excursion. They fade by half in twelve hours without a
further one. Latencies and failures have no such memory: that they come and go does not make them
less bad.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.parts import At, rows_of
from detector.table import Column, Table

Floats = NDArray[Any]
Ints = NDArray[np.int64]

HOURS = 24
UNIT = np.float32(1.0 / 32.0)
"""Nats per step of what is kept, as a byte: up to a factor of 50."""
KEPT = np.float32(0.95)
"""What is left of a move of yesterday."""
FADED = np.float32(2.0 ** (-1.0 / 12.0))
"""What is left of an excursion after an hour without another."""
MARGIN = np.float32(0.25)
"""The next excursion may go this much (ln) further."""
TOLD = np.float32(0.5)
"""How much of a move counts that was told as a change."""
LONGER, LEAST_LONGER = np.float32(2.0), np.float32(16.0)
"""An excursion may last so many times as long as the longest before, and so many windows more."""
MOST_WINDOWS = np.float32(2000.0)
"""Longest excursion that is counted: whole windows, as half precision holds them."""
MOST_AWAY = np.float32(2.0)
"""What has lasted so many times as long without being told is learned after all."""


class Excused(NamedTuple):
    """Blocks of some streams; bool[m] each.

    Attributes:
        away: which are an excursion or go on from one, and are not learned: they may become news.
        outlasts: which have now lasted too long for an excursion.
    """

    away: NDArray[np.bool_]
    outlasts: NDArray[np.bool_]


class Seasons:
    """Columns of a bank's table, and what is done with them.

    `rise`, `fall` (bytes, by hour of the day, UTC): moves beyond the band on earlier days; `peak`,
    `trough`: in the hour that goes on; `hour`: which one that is; `high`, `low`: the levels (ln)
    that excursions reached; NaN without one; `longest`: of them, windows; `away`: for how many
    windows one has lasted so far, negative when that was too long for one.
    """

    def __init__(self, table: Table, level: Callable[[At], Floats], *, falls: bool) -> None:
        self.table, self._level = table, level
        self.time = 0.0
        self._sides = (("rise", "peak"), ("fall", "trough")) if falls else (("rise", "peak"),)
        self._excursions = falls

    @staticmethod
    def columns(*, falls: bool) -> dict[str, Column]:
        """Return the columns that a bank's table needs."""
        columns = {"hour": Column("i1", (), -1), "rise": Column("i1", (HOURS,))}
        columns["peak"] = Column("f4")
        if falls:
            columns |= {"fall": Column("i1", (HOURS,)), "trough": Column("f4")}
            columns |= {"high": Column("f4", (), np.nan), "low": Column("f4", (), np.nan)}
            columns |= {"longest": Column("f2"), "away": Column("f2")}
        return columns

    def learn(self, at: At, moved: Floats, band: Floats, *, firing: bool = False) -> None:
        """Take one block.

        Args:
            at: streams that have a baseline.
            moved: float32[m], ln of the block's level over the baseline's.
            band: float32[m], half width of the band, ln.
            firing: whether their changes are being told.
        """
        t, hour = self.table, int(self.time % 86_400.0 // 3600.0)
        turned = t["hour"][at] != hour
        if turned.any():
            self._turn(rows_of(at, np.flatnonzero(turned)), hour)
        for sign, (kept, now) in zip((1.0, -1.0), self._sides, strict=False):
            beyond = np.maximum(np.float32(sign) * moved - band, 0.0)
            if firing:
                known = t[kept][hour, at] * UNIT
                beyond = known + TOLD * np.maximum(beyond - known, 0.0)
            t[now][at] = np.maximum(t[now][at], beyond)

    def _turn(self, at: Ints, hour: int) -> None:
        t = self.table
        before = t["hour"][at].astype(np.int64)
        if self._excursions:
            level = self._level(at)
            for reach, now in (("high", "peak"), ("low", "trough")):
                # One that came again within the hour keeps it as it is
                fades = (t[now][at] == 0.0) & ~np.isnan(t[reach][at])
                away = t[reach][at] - level
                t[reach][at] = np.where(fades, level + FADED * away, t[reach][at])
        for kept, now in self._sides:
            level = np.maximum(t[kept][before, at] * (UNIT * KEPT), t[now][at])
            steps = np.clip(np.rint(level / UNIT), 0, 127).astype(np.int8)
            seen = before >= 0
            t[kept][before[seen], at[seen]] = steps[seen]
            t[now][at] = 0.0
        t["hour"][at] = hour

    def widening(self, at: At) -> tuple[Floats, Floats]:
        """Return float32[m] twice: by how much the band is wider now, upwards and downwards, ln."""
        hours = self.time % 86_400.0 / 3600.0
        hour = int(hours)
        # What begins at the full hour may begin a little earlier
        near = (hour + 1) % HOURS if hours - hour >= 0.5 else hour
        up = np.maximum(self.table["rise"][hour, at], self.table["rise"][near, at]) * UNIT
        if len(self._sides) == 1:
            return up, np.zeros_like(up)
        down = np.maximum(self.table["fall"][hour, at], self.table["fall"][near, at]) * UNIT
        return up, down

    def within(self, at: At, upper: Floats, lower: Floats) -> tuple[Floats, Floats]:
        """Return the band's edges, ln, with the excursions inside it; float32[m] each."""
        t = self.table
        return np.fmax(upper, t["high"][at]), np.fmin(lower, t["low"][at])

    def excused(self, at: At, moved: Floats, band: Floats, windows: Floats) -> Excused:
        """Return which blocks only excursions account for, and which go on for too long for that.

        Of the latter the excursions are forgotten, so that what goes on is news. What is further
        away than any excursion is news as it is.

        Args:
            at: streams that have a baseline.
            moved: float32[m], ln of the block's level over the baseline's.
            band: float32[m], half width of the band, ln.
            windows: float32[m], of the block.
        """
        t, (up, down) = self.table, self.widening(at)
        level, away = self._level(at), t["away"][at].astype(np.float32)
        above, below = moved > band + up, moved < -band - down
        known = above & (level + moved <= t["high"][at]) | below & (level + moved >= t["low"][at])
        limit = LONGER * t["longest"][at].astype(np.float32) + LEAST_LONGER
        lasts = np.where(known & (away >= 0.0), away + windows, 0.0)
        outlasts = lasts > limit
        if outlasts.any():
            gone = rows_of(at, np.flatnonzero(outlasts))
            t["high"][gone] = t["low"][gone] = np.nan
        # Evidence takes some windows; meanwhile what it is of shall not be learned
        waits = (above | below) & (away < 0.0) & (away > -MOST_AWAY * limit)
        t["away"][at] = np.where(waits, away - windows, np.where(outlasts, -lasts, lasts))
        return Excused((lasts > 0.0) | waits, outlasts)

    def forgiven(self, at: Ints) -> Floats:
        """Return float32[m]: windows for which a change was taken for an excursion that ends."""
        windows: Floats = np.maximum(-self.table["away"][at].astype(np.float32), 0.0)
        return windows

    def came_back(
        self,
        at: Ints,
        reached: tuple[Floats, Floats],
        edges: tuple[Floats, Floats],
        windows: Floats,
    ) -> None:
        """Take note of changes that have ended by themselves.

        Args:
            at: streams.
            reached: float32[m] each, ln of how high and how low the change went.
            edges: float32[m] each, ln of the band's upper and lower edge.
            windows: float32[m] or [1], how long it lasted.
        """
        t, (upper, lower) = self.table, edges
        lasted = np.minimum(windows + self.forgiven(at), MOST_WINDOWS)
        t["longest"][at] = np.maximum(t["longest"][at], lasted)
        t["away"][at] = 0.0
        sides = ((1.0, "high", upper), (-1.0, "low", lower))
        for (sign, name, edge), level in zip(sides, reached, strict=True):
            beyond, known = np.float32(sign) * (level - edge) > 0.0, t[name][at]
            further = level + np.float32(sign) * MARGIN
            goes_on = np.float32(sign) * (further - known) <= 0.0
            t[name][at] = np.where(beyond & ~goes_on, further, known)
