"""Which streams there are: from the rows of windows to indices, without a lookup per row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.table import Column, Table
from probes.window import Pair, Window

Ints = NDArray[np.int64]


class Catalog:
    """Streams (pair, signal) and pairs, numbered in the order in which they were first seen.

    `streams` columns: `bank` and `local` (where the stream's model is), `pair`, `last` (start of
    its last window), `spacing` (seconds between its windows; NaN until known). `pairs` columns:
    `first`, `last` (epoch seconds).

    Attributes:
        numbers: int64[pairs], of the pairs of the window that `find` was last asked about; -1 for
            one never seen.
    """

    def __init__(self) -> None:
        self.streams = Table(
            {
                "bank": Column("i1"),
                "local": Column("i8"),
                "pair": Column("i8"),
                "last": Column("f8", (), np.nan),
                "spacing": Column("f8", (), np.nan),
            }
        )
        self.pairs = Table({"first": Column("f8", (), np.nan), "last": Column("f8", (), np.nan)})
        self.signal_of: list[str] = []
        self.pair_of: list[Pair] = []
        self._number: dict[tuple[int, str], int] = {}
        self._pair_number: dict[Pair, int] = {}
        self._seen: tuple[tuple[Pair, ...], tuple[str, ...]] = ((), ())
        self._lookup: Ints = np.empty((0, 0), np.int64)
        self.numbers: Ints = np.empty(0, np.int64)

    def find(self, window: Window) -> Ints:
        """Return the stream number of each row, -1 for a stream never seen."""
        same = self._seen[0] is window.pairs or self._seen[0] == window.pairs
        if not (same and self._seen[1] == window.signals):
            self._lookup = np.full((len(window.pairs), len(window.signals)), -1, np.int64)
            self.numbers = np.array([self._pair_number.get(p, -1) for p in window.pairs], np.int64)
            for i, number in enumerate(self.numbers.tolist()):
                if number >= 0:
                    self._lookup[i] = [self._number.get((number, s), -1) for s in window.signals]
        self._seen = (window.pairs, window.signals)
        return self._lookup[window.pair, window.signal]

    def add(self, window: Window, rows: Ints) -> tuple[Ints, Ints]:
        """Add the streams of `rows`, which `find` did not know.

        Returns:
            (int64[k] numbers of the new streams, int64[k] one row of each), ordered by name and
            not by row, so that the order of rows within a window leaves no trace.
        """
        names = {
            (window.pairs[window.pair[row]], window.signals[window.signal[row]]): int(row)
            for row in rows
        }
        ordered = sorted(names)
        for pair, _ in ordered:
            if pair not in self._pair_number:
                self._pair_number[pair] = int(self.pairs.grow(1)[0])
                self.pairs["first"][-1] = window.time
                self.pair_of.append(pair)
        new = self.streams.grow(len(ordered))
        of_pair = [self._pair_number[pair] for pair, _ in ordered]
        self.streams["pair"][new] = of_pair
        self.signal_of.extend(signal for _, signal in ordered)
        self._number.update(
            ((number, signal), int(i))
            for number, (_, signal), i in zip(of_pair, ordered, new, strict=True)
        )
        at = np.array([names[name] for name in ordered], dtype=np.int64)
        self._lookup[window.pair[at], window.signal[at]] = new
        self.numbers[window.pair[at]] = of_pair
        return new, at

    def keep(self, streams: NDArray[np.bool_], pairs: NDArray[np.bool_]) -> None:
        """Drop the streams and pairs that are not marked; numbers close up."""
        renumbered = np.cumsum(pairs) - 1
        self.streams.keep(streams)
        self.pairs.keep(pairs)
        self.streams["pair"][:] = renumbered[self.streams["pair"]]
        self.restore(
            [pair for pair, kept in zip(self.pair_of, pairs, strict=True) if kept],
            [signal for signal, kept in zip(self.signal_of, streams, strict=True) if kept],
        )

    def restore(self, pairs: Sequence[Pair], signals: Sequence[str]) -> None:
        """Set the names of the rows of both tables and rebuild what follows from them."""
        self.pair_of, self.signal_of = list(pairs), list(signals)
        self._pair_number = {pair: i for i, pair in enumerate(self.pair_of)}
        of_pair = self.streams["pair"].tolist()
        self._number = {
            (pair, signal): i
            for i, (pair, signal) in enumerate(zip(of_pair, self.signal_of, strict=True))
        }
        self._seen = ((), ())
