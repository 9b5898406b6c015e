"""How long things stay, and how much room they take."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from tailrace.durations import duration_text
from tailrace.history import database
from tailrace.history.settings import HistorySettings, Tier

_TABLES = ("chunks", "pieces", "summaries")
JUMP_S = 3600.0
"""A clock that jumps so far, either way, may be wrong: for as long nothing is deleted by age."""
FILLED = 0.97
"""What is deleted for room goes down to this share of it."""
VACUUM_SHARE, VACUUM_PAGES = 0.1, 8000


class Room:
    """The retention and the budget of one open file."""

    def __init__(self, db: sqlite3.Connection, path: Path, settings: HistorySettings) -> None:
        self._db, self._path, self._settings = db, path, settings
        self._limit = settings.max_size - database.LOG_BYTES
        self._last = math.nan
        self._settled = -math.inf
        self.deleted_for_room = 0

    def configure(self) -> list[int]:
        """Store which tiers there are; delete and return the steps of those that are no more."""
        steps = [tier.step for tier in self._settings.tiers]
        before = [int(step) for (step,) in self._db.execute("SELECT step FROM tiers")]
        gone = [step for step in before if step not in steps]
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for step in gone:
                for table in (*_TABLES, "tiers"):
                    self._db.execute(f"DELETE FROM {table} WHERE step = ?", (step,))  # noqa: S608
            self._db.executemany(
                "INSERT INTO tiers VALUES (?, ?, NULL)"
                " ON CONFLICT DO UPDATE SET keep = excluded.keep",
                self._settings.tiers,
            )
        return gone

    def begins(self, step: int, first: int) -> None:
        """Store that a tier has something of that epoch second, within a transaction."""
        self._db.execute(
            "UPDATE tiers SET first = min(coalesce(first, :first), :first) WHERE step = :step",
            {"step": step, "first": first},
        )

    def _deleted(self) -> None:
        """Store since when there is something, after chunks were deleted."""
        for step, _ in self._tiers():
            starts = [self._edge("MIN", table, step) for table in ("chunks", "pieces")]
            first = min((start for start in starts if start is not None), default=None)
            self._db.execute(
                "UPDATE tiers SET first = CASE WHEN :first IS NULL THEN NULL"
                " ELSE max(coalesce(first, :first), :first) END WHERE step = :step",
                {"step": step, "first": first},
            )

    def remember(self, *, window_s: float, lost: Mapping[str, int]) -> None:
        """Store what readers should know, within a transaction of the caller's."""
        known = {
            "window_s": window_s,
            "max_size": self._settings.max_size,
            "lost": json.dumps(dict(lost)),
            "deleted_for_room": self.deleted_for_room,
        }
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", known.items())

    def oldest(self) -> int | None:
        """Return the start of the oldest chunk; None when there is none."""
        return min((start for start, _ in self._firsts()), default=None)

    def newest(self) -> int:
        """Return the end of the newest chunk of the finest tier; 0 when there is none."""
        finest = self._settings.tiers[0]
        ends = [self._edge("MAX", table, finest.step) for table in ("chunks", "pieces")]
        return max((end + finest.chunk for end in ends if end is not None), default=0)

    def _tiers(self) -> list[Tier]:
        return [Tier(*found) for found in self._db.execute("SELECT step, keep FROM tiers")]

    def _edge(self, which: str, table: str, step: int) -> int | None:
        sql = f"SELECT {which}(start) FROM {table} WHERE step = ?"  # noqa: S608
        found = self._db.execute(sql, (step,)).fetchone()[0]
        return None if found is None else int(found)

    def _firsts(self) -> list[tuple[int, int]]:
        """Return the start of the oldest chunk of each tier, and the tier's step."""
        return [
            (found, step)
            for step, _ in self._tiers()
            for table in ("chunks", "pieces")
            if (found := self._edge("MIN", table, step)) is not None
        ]

    def delete_old(self, now: float) -> None:
        """Delete what was kept long enough, within a transaction of the caller's.

        Args:
            now: end of the newest window, epoch seconds.
        """
        if abs(now - self._last) > JUMP_S or math.isnan(self._last):
            newest = self.newest()
            jumped = math.isfinite(self._last) or abs(now - newest) > JUMP_S
            self._settled = now + JUMP_S if newest and jumped else now
        self._last = now
        if now < self._settled:
            return
        for tier in self._settings.tiers:
            for table in _TABLES:
                self._db.execute(
                    f"DELETE FROM {table} WHERE step = ?"  # noqa: S608
                    " AND (start <= ? OR start > ?)",
                    (tier.step, now - tier.keep - tier.chunk, now + tier.chunk + JUMP_S),
                )
        self._deleted()

    def make(self, coming: int) -> None:
        """Make room, within a transaction of the caller's: the oldest of all goes first.

        Args:
            coming: bytes that are about to be stored, at most.
        """
        if database.size(self._db)[0] + coming <= self._limit:
            return
        while database.size(self._db)[0] + coming > self._limit * FILLED:
            firsts = self._firsts()
            if not firsts:
                break
            # of two that are as old, the coarser: its time is still there in the finer
            start, step = min(firsts, key=lambda first: (first[0], -first[1]))
            for table in _TABLES:
                self._db.execute(
                    f"DELETE FROM {table} WHERE step = ? AND start = ?",  # noqa: S608
                    (step, start),
                )
            self.deleted_for_room += 1
        self._deleted()

    def shrink(self) -> None:
        """Give room back that is free in the file, if it is much."""
        used, free = database.size(self._db)
        if free > VACUUM_SHARE * (used + free) + VACUUM_PAGES * database.PAGE_BYTES:
            # a step of this statement frees one page, and only a script is stepped to its end
            self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    def text(self) -> str:
        """Return what is kept, and in how much room."""
        tiers = ", ".join(
            f"{duration_text(tier.step)} for {duration_text(tier.keep)}"
            for tier in self._settings.tiers
        )
        return (
            f"{tiers}; {database.on_disk(self._path) / 1e6:,.1f} MB on disk of at most "
            f"{self._settings.max_size / 1e6:,.0f}"
        )
