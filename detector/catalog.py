"""Which streams there are: from the rows of windows to indices, without a lookup per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.table import Column, Table
from probes.window import ANY, Pair, Window

Ints = NDArray[np.int64]


class Catalog:
    """Streams (pair, signal) and pairs, numbered in the order in which they were first seen.

    `streams` columns: `bank` and `local` (where the stream's model is), `pair`, `signal` (numbers),
    `last` (start of its last window), `spacing` (seconds between its windows; NaN until known),
    `weight` (ln of its share of the budget over an equal one), `habit` (nats by which its threshold
    is higher, since what it told of late came back by itself). `pairs` columns: `first`, `last`
    (epoch seconds), `traffic` (events per window, of late).
    """

    def __init__(self) -> None:
        self.streams = Table(
            {
                "bank": Column("i1"),
                "local": Column("i4"),
                "pair": Column("i4"),
                "signal": Column("i2"),
                "last": Column("f8", (), np.nan),
                "spacing": Column("f4", (), np.nan),
                "weight": Column("f4"),
                "habit": Column("f4"),
            }
        )
        self.pairs = Table(
            {
                "first": Column("f8", (), np.nan),
                "last": Column("f8", (), np.nan),
                "traffic": Column("f4"),
            }
        )
        self.signals: list[str] = []
        self.pair_of: list[Pair] = []
        self._pair_number: dict[Pair, int] = {}
        # int32[signals, pairs]: number of the stream, -1 for none
        self._of: NDArray[Any] = np.full((0, 0), -1, np.int32)
        self._in_bank: tuple[int, dict[int, NDArray[np.int32]]] = 0, {}

    def signal_of(self, stream: int) -> str:
        """Return the signal of a stream."""
        return self.signals[int(self.streams["signal"][stream])]

    def numbers(self, pairs: Sequence[Pair]) -> Ints:
        """Return the numbers of pairs, -1 for one never seen."""
        known = self._pair_number
        return np.fromiter((known.get(pair, -1) for pair in pairs), np.int64, len(pairs))

    def find(self, window: Window, numbers: Ints) -> Ints:
        """Return the stream number of each row, -1 for a stream never seen.

        Args:
            window: the window.
            numbers: int[its pairs], as `numbers` returns them.
        """
        found = self.table_of(window.signals, numbers)
        return found[window.signal, window.pair].astype(np.int64)

    def table_of(self, signals: Sequence[str], numbers: Ints) -> NDArray[np.int32]:
        """Return int32[signals, pairs]: the streams of named signals of pairs; -1 for none yet.

        Args:
            signals: their names.
            numbers: int[pairs], as `numbers` returns them.
        """
        codes = {name: code for code, name in enumerate(self.signals)}
        found = np.full((len(signals), len(numbers)), -1, np.int32)
        known = numbers >= 0
        for row, name in zip(found, signals, strict=True):
            if name in codes:
                row[known] = self._of[codes[name], numbers[known]]
        return found

    def in_bank(self, number: int) -> NDArray[np.int32]:
        """Return the streams whose models are in a bank, in the order in which they are there."""
        size, known = self._in_bank
        if size != self.streams.size:
            self._in_bank = self.streams.size, (known := {})
        if number not in known:
            known[number] = np.flatnonzero(self.streams["bank"] == number).astype(np.int32)
        return known[number]

    def of(self, pair: Ints, signal: Ints) -> Ints:
        """Return the streams of pairs and signals, given by number; -1 where there is none."""
        found = np.full(len(pair), -1, np.int64)
        known = pair >= 0
        found[known] = self._of[signal[known], pair[known]]
        return found

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
        for pair, signal in ordered:
            if pair not in self._pair_number:
                self._pair_number[pair] = int(self.pairs.grow(1)[0])
                self.pairs["first"][-1] = self._since(pair, window.time)
                self.pair_of.append(pair)
            if signal not in self.signals:
                self.signals.append(signal)
        new = self.streams.grow(len(ordered))
        code = {name: number for number, name in enumerate(self.signals)}
        self.streams["pair"][new] = [self._pair_number[pair] for pair, _ in ordered]
        self.streams["signal"][new] = [code[signal] for _, signal in ordered]
        self._index(new)
        return new, np.array([names[name] for name in ordered], dtype=np.int64)

    def _since(self, pair: Pair, time: float) -> float:
        """Return since when a pair that is new has been watched.

        Whom a listener turns away is first heard of when it does so; but that it turned nobody
        away before is known for as long as any of its clients is.
        """
        if pair.client != ANY:
            return time
        of_server = [i for i, each in enumerate(self.pair_of) if each[1:] == pair[1:]]
        return float(min(self.pairs["first"][of_server].tolist(), default=time))

    def _index(self, streams: Ints) -> None:
        signals, pairs = self._of.shape
        if signals < len(self.signals) or pairs < self.pairs.size:
            room = (
                pairs if pairs >= self.pairs.size else max(16, pairs + pairs // 8, self.pairs.size)
            )
            bigger = np.full((len(self.signals), room), -1, np.int32)
            bigger[:signals, :pairs] = self._of
            self._of = bigger
        t = self.streams
        self._of[t["signal"][streams], t["pair"][streams]] = streams

    def keep(self, streams: NDArray[np.bool_], pairs: NDArray[np.bool_]) -> None:
        """Drop the streams and pairs that are not marked; numbers close up."""
        renumbered = np.cumsum(pairs) - 1
        self.streams.keep(streams)
        self.pairs.keep(pairs)
        self.streams["pair"][:] = renumbered[self.streams["pair"]]
        kept = [pair for pair, stays in zip(self.pair_of, pairs, strict=True) if stays]
        self.restore(kept, self.signals)

    def restore(self, pairs: Sequence[Pair], signals: Sequence[str]) -> None:
        """Set the names of pairs and signals and rebuild what follows from them."""
        self.pair_of, self.signals = list(pairs), list(signals)
        self._pair_number = {pair: i for i, pair in enumerate(self.pair_of)}
        self._of = np.full((0, 0), -1, np.int32)
        self._in_bank = 0, {}
        self._index(np.arange(self.streams.size))
