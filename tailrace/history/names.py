"""Pairs and signals as the store numbers them."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probes.window import Pair

SHARD = 64
"""So many pairs of adjacent numbers are stored together while a chunk is not complete."""
MAX_PAIRS = 20_000
MAX_SIGNALS = 1000


class Names:
    """The numbers of pairs and signals; both bounded.

    Attributes:
        refused: pairs that had no place, so far.
        refused_signals: times that a signal had none.
    """

    def __init__(self, max_pairs: int = MAX_PAIRS) -> None:
        self._max_pairs = max_pairs
        self._pairs: dict[Pair, int] = {}
        self._signals: dict[str, int] = {}
        self._free: list[int] = []
        self._new_pairs: dict[Pair, int] = {}
        self._new_signals: dict[str, int] = {}
        self._turned_away: set[Pair] = set()
        self._last: tuple[tuple[Pair, ...], NDArray[np.int64]] | None = None
        self._seen = np.zeros(max_pairs, np.int64)
        self._first = np.zeros(max_pairs, np.int64)
        self._has = np.zeros((max_pairs, MAX_SIGNALS), bool)
        self.refused = 0
        self.refused_signals = 0

    def __len__(self) -> int:
        return len(self._pairs)

    def load(self, db: sqlite3.Connection, newest: int) -> None:
        """Take up what is stored, the newest of it of this epoch second."""
        self._signals = {
            str(name): int(number)
            for number, name in db.execute("SELECT number, name FROM signals")
        }
        stored = db.execute(
            "SELECT client, server, port, transport, number, first, signals FROM pairs"
        ).fetchall()
        self._pairs = {Pair(*row[:4]): int(row[4]) for row in stored}
        # After a crash the file may not know when each was seen last
        highest = max(self._pairs.values(), default=-1)
        self._seen = np.zeros(max(self._max_pairs, highest + 1), np.int64)
        self._seen[list(self._pairs.values())] = newest
        self._first = np.zeros(len(self._seen), np.int64)
        self._has = np.zeros((len(self._seen), MAX_SIGNALS), bool)
        for *_, number, first, signals in stored:
            bits = np.unpackbits(np.frombuffer(signals, np.uint8))[:MAX_SIGNALS]
            self._first[number], self._has[number, : len(bits)] = first, bits
        taken = set(self._pairs.values())
        self._free = [n for n in range(max(taken, default=-1)) if n not in taken]
        self._last = None

    def all_are_new(self) -> None:
        """Have everything stored again, as the file is a new one."""
        self._new_pairs, self._new_signals = dict(self._pairs), dict(self._signals)

    def pairs(self, wanted: tuple[Pair, ...], now: int) -> NDArray[np.int64]:
        """Return the numbers of pairs that are seen now; -1 for those that have no place."""
        if self._last is None or self._last[0] is not wanted:
            found = np.array([self._pair(pair, now) for pair in wanted], np.int64)
            self._last = (wanted, found)
        numbers = self._last[1]
        self._seen[numbers[numbers >= 0]] = now
        return numbers

    def _pair(self, pair: Pair, now: int) -> int:
        number = self._pairs.get(pair)
        if number is not None:
            return number
        if len(self._pairs) >= self._max_pairs:
            if pair not in self._turned_away and len(self._turned_away) < self._max_pairs:
                self._turned_away.add(pair)
                self.refused += 1
            return -1
        number = heapq.heappop(self._free) if self._free else len(self._pairs)
        self._pairs[pair] = self._new_pairs[pair] = number
        self._first[number] = now
        return number

    def have(self, pair: NDArray[np.int64], signal: NDArray[np.int64]) -> None:
        """Note which pairs have which signals, both by number."""
        self._has[pair, signal] = True

    def signals(self, wanted: Sequence[str]) -> NDArray[np.int64]:
        """Return the numbers of signals; -1 for those that have no place."""
        return np.array([self._signal(name) for name in wanted], np.int64)

    def _signal(self, name: str) -> int:
        number = self._signals.get(name)
        if number is None:
            if len(self._signals) >= MAX_SIGNALS:
                self.refused_signals += 1
                return -1
            number = self._signals[name] = self._new_signals[name] = len(self._signals)
        return number

    def signal_names(self) -> list[str]:
        """Return the signals by number."""
        return sorted(self._signals, key=self._signals.__getitem__)

    def store(self, db: sqlite3.Connection, *, every: bool = False) -> None:
        """Store what is new, or everything, within a transaction of the caller's."""
        pairs = self._pairs if every else self._new_pairs
        numbers = list(pairs.values())
        has = np.packbits(self._has[numbers, : len(self._signals)], axis=1)
        db.executemany(
            "INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    number,
                    *pair,
                    int(self._first[number]),
                    int(self._seen[number]),
                    signals.tobytes(),
                )
                for (pair, number), signals in zip(pairs.items(), has, strict=True)
            ],
        )
        db.executemany(
            "INSERT OR REPLACE INTO signals VALUES (?, ?)",
            [(number, name) for name, number in self._new_signals.items()],
        )

    def stored(self) -> None:
        """Forget what was new: it is stored."""
        self._new_pairs.clear()
        self._new_signals.clear()

    def forget(self, oldest: int) -> list[int]:
        """Give the numbers of pairs free that were not seen since; return them."""
        numbers = {n for n in self._pairs.values() if self._seen[n] < oldest}
        self._pairs = {pair: n for pair, n in self._pairs.items() if n not in numbers}
        for number in sorted(numbers):
            self._has[number] = False
            heapq.heappush(self._free, number)
        if numbers:
            self._turned_away.clear()
            self._last = None
        return sorted(numbers)
