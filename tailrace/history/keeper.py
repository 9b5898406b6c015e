"""The store's writer: windows in, pieces and chunks out, and never more than its room.

Pure but for the file: time is the windows' own. It is used by one thread at a time.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np

from probes.window import Window
from tailrace.durations import duration_text
from tailrace.history import database
from tailrace.history.close import close, merge
from tailrace.history.codes import Rows, concatenated
from tailrace.history.database import HistoryError
from tailrace.history.gather import SIGNAL_BITS, Steps, Sums, rows_of, shards, sums_of
from tailrace.history.names import MAX_PAIRS, SHARD, Names
from tailrace.history.pack import PackError, pack_piece
from tailrace.history.room import Room
from tailrace.history.settings import HistorySettings, Tier

MAX_WAITING = 1_000_000
"""Rows that wait while the file cannot be written; what is older is dropped, and counted."""
TIDY_AT_ONCE = 1
"""A shard is tidied per flush, and a sixteenth of those that wait: the work is spread."""
PRUNE_EVERY_S = 60.0
SETTLED_S = 7200
ROW_BYTES, MARGIN_BYTES = 24, 2_000_000
"""What a row may take at most, and all else that a flush writes."""


class Keeper:
    """One `history.db`.

    Attributes:
        lost: windows and rows that could not be kept, by why, since the start.
    """

    def __init__(
        self,
        path: Path,
        settings: HistorySettings,
        *,
        note: Callable[[str], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
        max_pairs: int = MAX_PAIRS,
    ) -> None:
        """Start with the file closed: it is opened with the first window or flush.

        Args:
            path: of the file.
            settings: what is kept.
            note: told what is worth knowing.
            warn: told what is wrong and goes on.
            max_pairs: so many pairs are kept at most.
        """
        self.path, self._settings = path, settings
        self._note, self._warn = note, warn
        self._names = Names(max_pairs)
        self._steps = Steps([tier.step for tier in settings.tiers], self._done)
        self._waiting: list[list[Rows]] = [[] for _ in settings.tiers]
        self._newest = [0] * len(settings.tiers)
        self._db: sqlite3.Connection | None = None
        self._room: Room | None = None
        self._failed = ""
        self._last_time = math.nan
        self._window_s = 0.0
        self._prune_due = -math.inf
        self.lost: dict[str, int] = {}

    def lose(self, what: str, number: int = 1) -> None:
        """Count what is not kept."""
        self.lost[what] = self.lost.get(what, 0) + number

    def add(self, window: Window) -> None:
        """Take one window; nothing is stored before the next flush."""
        if not len(window):
            return
        if not math.isfinite(window.time) or not 0 <= window.time < 2.0**40:
            self.lose("windows without a time")
            return
        if window.time == self._last_time:
            self.lose("windows given twice")
            return
        if not self._opened():
            self.lose("windows while the file could not be opened")
            return
        self._last_time = window.time
        if math.isfinite(window.nominal):
            self._window_s = window.nominal
        pairs = self._names.pairs(window.pairs, int(window.time))
        sums = sums_of(window, pairs, self._names.signals(window.signals))
        self._names.have(sums.key >> SIGNAL_BITS, sums.key & ((1 << SIGNAL_BITS) - 1))
        self._steps.add(window.time, sums)

    def _done(self, tier: int, step: int, sums: Sums) -> None:
        self._waiting[tier].append(rows_of(sums, step))
        self._newest[tier] = step

    def flush(self) -> None:
        """Store the steps that are complete, and close the chunks that are."""
        if not self._opened():
            return
        assert self._db is not None
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._store(self._db)
        except sqlite3.Error as error:
            self._cannot(database.failed(error, self.path))
        except PackError:
            self._cannot(database.damaged(self.path))
        else:
            self._names.stored()
            self._waiting = [[] for _ in self._settings.tiers]
            if self._failed:
                self._note("history is stored again")
            self._failed = ""
            self._make_room()
        self._bound_waiting()

    def close(self) -> None:
        """Store everything, the steps under way too, and close the file."""
        self._steps.end()
        self.flush()
        if self._db is not None:
            self._db.close()
            self._db = None

    def _opened(self) -> bool:
        """Return whether the file is open, after trying if it is not."""
        if self._db is not None:
            return True
        try:
            db = database.open_writer(self.path)
        except HistoryError as error:
            self._cannot(error)
            return self._db is not None
        try:
            self._take_up(db)
        except sqlite3.Error as error:
            db.close()
            self._cannot(database.failed(error, self.path))
            return self._db is not None
        self._db = db
        return True

    def _take_up(self, db: sqlite3.Connection) -> None:
        self._room = Room(db, self.path, self._settings)
        if len(self._names):  # the file was set aside while we ran
            self._names.all_are_new()
        else:
            self._names.load(db, self._room.newest())
        if gone := self._room.configure():
            steps = ", ".join(map(duration_text, gone))
            self._note(f"history: steps of {steps} are not configured any more, and were deleted")
        self._note(f"history: {self._room.text()}")

    def _cannot(self, error: HistoryError) -> None:
        """Say what is wrong, once; a file that is useless is set aside."""
        named = str(self.path.parent) in error.what
        text = error.what if named else f"{error.where}: {error.what}"
        if error.useless:
            if self._db is not None:
                self._db.close()
                self._db = None
            try:
                aside = database.set_aside(self.path, error.kind)
            except OSError as problem:
                text += f"; it cannot be renamed: {problem.strerror}"
            else:
                self._warn(f"{text}; it is {aside.name} now, and a new history begins")
                self._opened()
                return
        if text != self._failed:
            self._warn(f"no history is stored at the moment: {text}")
        self._failed = text

    def _store(self, db: sqlite3.Connection) -> None:
        assert self._room is not None
        coming = sum(len(each.step) for waiting in self._waiting for each in waiting)
        self._room.make(coming * ROW_BYTES + MARGIN_BYTES)
        self._names.store(db)
        for tier, waiting in zip(self._settings.tiers, self._waiting, strict=True):
            rows = concatenated(waiting)
            starts = rows.step // tier.section * tier.section
            if len(starts):
                self._room.begins(tier.step, int(rows.step.min()))
            for start in sorted(set(starts.tolist())):
                some = rows.take(np.flatnonzero(starts == start))
                db.executemany(
                    "INSERT INTO pieces VALUES (?, ?, ?, 0, ?)",
                    [
                        (tier.step, start, shard, pack_piece(part))
                        for shard, part in shards(some, SHARD)
                    ],
                )
        self._tidy(db)
        lost = dict(self.lost)
        if self._names.refused:
            lost["pairs above the most that are kept"] = self._names.refused
        if self._names.refused_signals:
            lost["times a signal above the most that are kept"] = self._names.refused_signals
        self._room.remember(window_s=self._window_s, lost=lost)

    def _tidy(self, db: sqlite3.Connection) -> None:
        """Merge sections and close chunks that are complete; not all at once."""
        due: list[tuple[Callable[..., None], Tier, int, int]] = []
        for tier, newest in zip(self._settings.tiers, self._newest, strict=True):
            current = newest // tier.chunk * tier.chunk
            due += [
                (close, tier, start, shard)
                for start, shard in db.execute(
                    "SELECT DISTINCT start / :chunk * :chunk, shard FROM pieces"
                    " WHERE step = :step AND start < :current",
                    {"chunk": tier.chunk, "step": tier.step, "current": current},
                )
            ]
            due += [
                (merge, tier, start, shard)
                for start, shard in db.execute(
                    "SELECT DISTINCT start, shard FROM pieces"
                    " WHERE step = ? AND start >= ? AND start <= ? AND merged = 0",
                    (tier.step, current, newest - tier.section),
                )
            ]
        signals = self._names.signal_names()
        for tidy, tier, start, shard in due[: TIDY_AT_ONCE + len(due) // 16]:
            tidy(db, tier, start, shard, signals)

    def _make_room(self) -> None:
        if not abs(self._last_time - self._prune_due) >= PRUNE_EVERY_S:  # or no window yet
            return
        self._prune_due = self._last_time
        assert self._db is not None
        assert self._room is not None
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._names.store(self._db, every=True)
                self._room.delete_old(self._last_time)
                # what is under way is stored by then, whatever the clock does
                long_ago = int(self._last_time) - SETTLED_S
                oldest = self._room.oldest()
                gone = self._names.forget(long_ago if oldest is None else min(oldest, long_ago))
                self._db.executemany(
                    "DELETE FROM pairs WHERE number = ?", [(number,) for number in gone]
                )
            self._room.shrink()
        except sqlite3.Error as error:
            self._cannot(database.failed(error, self.path))

    def _bound_waiting(self) -> None:
        """Drop the oldest rows when too many wait."""
        over = sum(len(rows.step) for tier in self._waiting for rows in tier) - MAX_WAITING
        for waiting in self._waiting:
            while over > 0 and waiting:
                dropped = len(waiting.pop(0).step)
                over -= dropped
                self.lose("rows while the file could not be written", dropped)
