"""Learning by blocks of windows: late, without what is suspect, and with a bounded reach."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detector.parts import At, narrow, rows_of
from detector.seasons import Seasons
from detector.table import Column, Table

Floats = NDArray[Any]
Ints = NDArray[np.int64]

BLOCK = 8
"""Windows per block. A block is learned one to two blocks late, unless suspicion arose."""
SUPER, HYPER = 4, 32
"""Blocks per super-block and hyper-block, which show slower wander than a block can."""
SCATTER_MEMORY = 8.0
"""How much longer than the level its scatter is remembered: it changes less, and takes longer to
be known."""
YOUNG = 256.0
"""Windows up to which the null is computed anew with every block; later with every super-block."""
MEMORY_S, LEAST_MEMORY = 3600.0, 240.0
"""Time that the baseline remembers, and windows at least: it follows the time of day, not a fault
of some minutes."""
HELD_BACK = 8
"""Blocks in a row that suspicion may keep from the baseline; then they are learned, clipped."""
PHASE = 2048
"""So many neighbours close their blocks in the same window; the next ones in another."""

LEARNING, JUDGED, FIRING = 0, 1, 2
MIXED = 0.25
"""Share of a part's streams that may differ, for all to be learned together."""


def single_variance(level: Floats, square: Floats, windows: Floats) -> Floats:
    """Return the variance of single windows, from their mean, mean square and number."""
    variance: Floats = np.maximum(square - level * level, 0.0)
    return variance * windows / np.maximum(windows - 1.0, 1.0)


class Blocks(ABC):
    """Streams whose baselines are learned by blocks.

    A window goes into the block that is open. A block that is full waits for another one, and is
    then added to the baseline, unless suspicion has arisen meanwhile.

    Class attributes:
        moments: number of statistics of a window that are learned; the first is the level, the
            last the constant 1.
        carried: what is learned late: columns of the block that is open, of the one that waits,
            and of the baseline.
        by_steps: whether wander is measured from one block to the next: then there is a column
            `before`, and a level that only goes one way is no wander.
        seasonal: whether the shape of the day is kept; then there is a column `band` (ln).
        falls: whether it is kept for decreases too.

    Attributes:
        table: the streams' columns.
        seasons: the shape of their days.
        memory: windows that a baseline remembers.
    """

    moments: ClassVar[int] = 3
    carried: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    by_steps: ClassVar[bool] = False
    seasonal: ClassVar[bool] = True
    falls: ClassVar[bool] = True
    table: Table
    seasons: Seasons
    memory: float = MEMORY_S

    @classmethod
    def block_columns(cls) -> dict[str, Column]:
        """Return the columns that this needs."""
        many = cls.moments
        return {
            "live": Column("i1"),
            "left": Column("i1", (), BLOCK),
            "held_back": Column("i1"),
            "current": Column("f4", (many,)),
            "held": Column("f4", (many,)),
            "base": Column("f4", (many,)),
            "wide": Column("f4", (4,)),
            "spread": Column("f4", (6 if cls.by_steps else 5,)),
            **(Seasons.columns(falls=cls.falls) if cls.seasonal else {}),
        }

    @property
    def excursions(self) -> bool:
        """Whether changes that came back by themselves widen the band."""
        return self.seasonal and self.falls

    @property
    def habits(self) -> bool:
        """Whether the model itself remembers what came back by itself, one way or another."""
        return self.excursions

    @property
    def _carried(self) -> tuple[tuple[str, str, str], ...]:
        return (("current", "held", "base"), *self.carried)

    # What a model adds

    @abstractmethod
    def refresh(self, at: At) -> None:
        """Recompute the null of streams whose baseline has moved."""

    def clipped(self, at: At, block: list[Floats]) -> list[Floats]:  # noqa: ARG002 - for models
        """Return a block, as `carried` has it, with its influence on a baseline bounded."""
        return block

    def admits(self, at: At, block: Floats, moved: Floats) -> NDArray[np.bool_] | None:
        """Return which blocks may be learned at all; None for every one.

        Args:
            at: streams that are judged.
            block: float32[moments, m], their blocks.
            moved: float32[m], as `deviation`; empty where no day's shape is kept.
        """
        if not self.excursions:
            return None
        away, outlasts = self.seasons.excused(at, moved, self.table["band"][at], block[-1])
        if outlasts.any():
            self.refresh(rows_of(at, np.flatnonzero(outlasts)))
        return ~away if away.any() else None

    def count_block(self, at: At, block: list[Floats]) -> None:  # noqa: B027 - optional
        """Learn from a whole block what is particular to the model."""

    def deviation(self, at: At, block: Floats) -> Floats:
        """Return float32[m]: ln of a block's level over the baseline's."""
        t = self.table
        moved: Floats = block[0] / np.maximum(block[-1], 1.0) - t["base"][0, at] / np.maximum(
            t["base"][-1, at], 1.0
        )
        return moved

    def unit(self, level: Floats) -> Floats:
        """Return float32[m]: what a deviation from `level` is measured in."""
        return np.ones_like(level)

    def level(self, at: At) -> Floats:
        """Return float32[m]: ln of the baseline's level."""
        return self.reached(self.table["base"][:, at])

    def reached(self, moments: Floats) -> Floats:
        """Return float32[m]: ln of the level of what `moments` sum up."""
        level: Floats = moments[0] / np.maximum(moments[-1], 1.0)
        return level

    def strayed(self, run: Floats) -> Floats:
        """Return float32[m]: how far windows of a change lie off its level, ln, beyond chance."""
        return np.zeros(run.shape[1], np.float32)

    def came_back(self, at: Ints, run: Floats) -> None:
        """Remember changes that ended by themselves; `run` has their statistics."""
        if self.excursions and len(at):
            level, band = self.level(at), self.table["band"][at]
            run = run.astype(np.float32)
            reached, strayed = self.reached(run), self.strayed(run)
            ends = reached + strayed, reached - strayed
            self.seasons.came_back(at, ends, (level + band, level - band), run[-1])
            self.refresh(at)

    def came_along(self, at: Ints, moved: Floats, windows: Floats) -> None:
        """Remember that streams have moved and come back, as others did, but those still away.

        Args:
            at: the streams.
            moved: float32[1], how far, ln.
            windows: float32[1], for how long.
        """
        at = at[self.table["live"][at] == JUDGED]
        if self.excursions and len(at):
            level, band = self.level(at), self.table["band"][at]
            ends = level + moved, level + moved
            self.seasons.came_back(at, ends, (level + band, level - band), windows)
            self.refresh(at)

    def forgiven(self, at: Ints) -> Floats:
        """Return float32[m]: windows for which a change was taken for an excursion that ends."""
        return self.seasons.forgiven(at) if self.excursions else np.zeros(len(at), np.float32)

    # Learning

    def _close_blocks(self, at: At, suspects: Ints) -> None:
        t = self.table
        left = t["left"][at] - 1
        t["left"][at] = left
        full = np.flatnonzero(left <= 0)
        if not len(full):
            return
        where = narrow(rows_of(at, full))
        doubted = np.isin(full, suspects) if len(suspects) else np.zeros(len(full), np.bool_)
        t["left"][where] = BLOCK
        calm = (t["live"][where] == JUDGED) & ~doubted
        aside = rows_of(where, np.flatnonzero(~calm))
        if len(aside) > MIXED * len(calm):
            self._close_mixed(rows_of(at, full), doubted)
            return
        # Neighbours are quickest together: the few that differ are put back as they were
        kept = t.take(aside)
        self._close_calm(where)
        t.put(aside, kept)
        if len(aside):
            self._close_mixed(aside, doubted[~calm])

    def _close_calm(self, at: At) -> None:
        """Close the blocks of streams that are judged and not suspect."""
        t = self.table
        block, moved = t["current"][:, at], np.zeros(0, np.float32)
        if self.seasonal:
            moved = self.deviation(at, block)
            self.seasons.learn(at, moved, t["band"][at])
        admitted = self.admits(at, block, moved)
        if admitted is not None and not admitted.all():
            self._drop(rows_of(at, np.flatnonzero(~admitted)))
            at = narrow(rows_of(at, np.flatnonzero(admitted)))
        if admitted is None or admitted.any():
            self._learn_late(at)

    def _close_mixed(self, ids: Ints, doubted: NDArray[np.bool_]) -> None:
        """Close the blocks of streams of any kind."""
        t, live = self.table, self.table["live"][ids]
        told = ids[live == FIRING]
        if self.seasonal:
            for some, firing in ((told, True), (ids[(live == JUDGED) & doubted], False)):
                moved = self.deviation(some, t["current"][:, some])
                self.seasons.learn(some, moved, t["band"][some], firing=firing)
        self._drop(told)
        early = ids[live == LEARNING]
        if len(early):
            self._commit(narrow(early), [t[name][:, early] for name, _, _ in self._carried])
            for name, _, _ in self._carried:
                t[name][:, early] = 0
        doubted = doubted & (live == JUDGED)
        waits = doubted & (t["held_back"][ids] < HELD_BACK)
        t["held_back"][ids[waits]] += 1
        self._drop(ids[waits])
        calm = ids[(live == JUDGED) & ~doubted]
        if len(calm):
            self._close_calm(narrow(calm))
        forced = ids[doubted & ~waits]
        if len(forced):
            self._close_calm(narrow(forced))

    def _drop(self, at: Ints) -> None:
        if len(at):
            for current, held, _ in self._carried:
                self.table[current][:, at] = 0
                self.table[held][:, at] = 0

    def _learn_late(self, at: At) -> None:
        t = self.table
        t["held_back"][at] = 0
        waits = t["held"][-1, at] > 0
        if waits.any():
            known = at if waits.all() else narrow(rows_of(at, np.flatnonzero(waits)))
            block = [t[held][:, known] for _, held, _ in self._carried]
            self._commit(known, self.clipped(known, block))
        for current, held, _ in self._carried:
            t[held][:, at] = t[current][:, at]
            t[current][:, at] = 0

    def _commit(self, at: At, block: list[Floats]) -> None:
        t, moments = self.table, block[0]
        windows = moments[-1]
        before = np.array(t["base"][:, at])
        fade = np.minimum(
            np.float32(1.0), np.float32(self.memory) / np.maximum(before[-1] + windows, 1.0)
        )
        for (_, _, name), part in zip(self._carried, block, strict=True):
            t[name][:, at] = t[name][:, at] * fade + part
        if self.by_steps:
            self._count_steps(at, moments)
        else:
            self._count_errors(at, moments, before)
        self.count_block(at, block)
        due = (t["base"][-1, at] < YOUNG) | (t["wide"][1, at] == 0.0)
        if due.all():
            self.refresh(at)
        elif due.any():
            self.refresh(narrow(rows_of(at, np.flatnonzero(due))))

    def _count_errors(self, at: At, moments: Floats, before: Floats) -> None:
        """Add how far a block lies from the baseline that did not know it yet.

        `spread` sums, weighted by windows: for blocks, super-blocks and hyper-blocks the squares of
        their mean error less what windows that are independent would give; the squared unit of
        errors; the windows.
        """
        t, windows, learned = self.table, moments[-1], before[-1]
        n, known = np.maximum(windows, 1.0), learned > 0.0
        base = t["base"][:, at]
        after = np.maximum(base[-1], 1.0)
        level = base[0] / after
        single = single_variance(level, base[1] / after, after)
        error = np.where(known, moments[0] / n - before[0] / np.maximum(learned, 1.0), 0.0)
        spread, wide = t["spread"][:, at], t["wide"][:, at]
        spread *= self._scatter_fade(spread[4], windows)
        alone = single * (1.0 / n + 1.0 / np.maximum(learned, 1.0))
        spread[0] += np.where(known, windows * (error**2 - alone), 0.0)
        spread[3] += np.where(known, windows * self.unit(level) ** 2, 0.0)
        spread[4] += np.where(known, windows, 0.0)
        for scale, length in enumerate((SUPER * BLOCK, HYPER * BLOCK)):
            total, number = wide[2 * scale], wide[2 * scale + 1]
            total += windows * error
            number += windows
            whole = number >= length
            many = np.maximum(number, 1.0)
            spread[scale + 1] += np.where(whole, total**2 / many - single, 0.0)
            total[whole] = 0.0
            number[whole] = 0.0
        t["spread"][:, at], t["wide"][:, at] = spread, wide

    def _scatter_fade(self, seen: Floats, more: Floats) -> Floats:
        """Return what is left of the scatter of `seen` windows when so many more come."""
        most = np.float32(SCATTER_MEMORY * self.memory)
        left: Floats = np.minimum(np.float32(1.0), most / np.maximum(seen + more, 1.0))
        return left

    def _count_steps(self, at: At, moments: Floats) -> None:
        """Add how far a block lies from the last one, and the same of longer blocks."""
        t, windows = self.table, moments[-1]
        spread = t["spread"][:, at]
        spread = spread * self._scatter_fade(BLOCK * spread[1], windows)
        every = np.arange(len(windows))
        self._scatter(spread, 0, at, every, moments[0] / np.maximum(windows, 1.0))
        wide = t["wide"][:, at]
        for scale, length in enumerate((SUPER * BLOCK, HYPER * BLOCK)):
            total, number = wide[2 * scale], wide[2 * scale + 1]
            total += moments[0]
            number += windows
            whole = np.flatnonzero(number >= length)
            if len(whole):
                self._scatter(spread, scale + 1, at, whole, total[whole] / number[whole])
            total[whole] = 0.0
            number[whole] = 0.0
        t["spread"][:, at], t["wide"][:, at] = spread, wide

    def _scatter(self, spread: Floats, scale: int, at: At, which: Ints, mean: Floats) -> None:
        """Add means of blocks of one scale to what is known of their steps."""
        before, ids = self.table["before"], rows_of(at, which)
        many = ~np.isnan(before[scale, ids])
        # Half the mean square of successive differences: the variance, without a trend
        square = np.where(many, 0.5 * (mean - before[scale, ids]) ** 2, 0.0)
        before[scale, ids] = mean
        spread[2 * scale, which] += square
        spread[2 * scale + 1, which] += many
