"""The way in: from a window's rows to numbered streams, each in the bank that tests it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.bank import Bank
from detector.catalog import Catalog
from detector.observe import RATIO, Reading, make_banks, model_of, read, usable
from detector.parts import Part, Rows, narrow
from detector.settings import DetectorSettings
from probes.window import VIEWS, Kind, Pair, Window, is_other, kind_of

Floats = NDArray[Any]
Ints = NDArray[np.int64]

LOST_SHARE = 0.01
"""Samples lost per connection and request counted, above which a window is not read: a host that
loses one now and then must not go blind."""
UNKNOWN, UNTOLD = -1, -2
"""In place of a stream's number: there is none yet; there will be none."""
IDLE_SHARE = 0.1
"""A stream has waited if it had no row for this share of its spacing longer than usual."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Which stream each row of a window belongs to; good for every window with the same rows.

    Attributes:
        window: the window that it was made for.
        numbers: int32[pairs of the window], number of each pair; -1 for none.
        streams: int32[signals, pairs of the window], number of each; below 0 for none.
        parts: the rows of each model.
    """

    window: Window
    numbers: Rows
    streams: NDArray[np.int32]
    parts: tuple[Part, ...]

    def stream_of(self, row: int) -> int:
        """Return the stream of a row; below 0 for one that is not judged."""
        return int(self.streams[self.window.signal[row], self.window.pair[row]])

    def fits(self, window: Window) -> bool:
        """Return whether another window has the same rows."""
        mine = self.window
        return (
            (window.pairs is mine.pairs or window.pairs == mine.pairs)
            and window.signals == mine.signals
            and (window.pair is mine.pair or np.array_equal(window.pair, mine.pair))
            and (window.signal is mine.signal or np.array_equal(window.signal, mine.signal))
        )


class Intake:
    """The catalog of streams, and the banks that hold their models.

    Attributes:
        others: pairs of the last window that are many put together: which these are changes, so
            what changes in them tells nothing.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        catalog: Catalog | None = None,
        banks: Sequence[Bank] | None = None,
    ) -> None:
        self.catalog = catalog or Catalog()
        self.banks = banks or make_banks()
        self.others: frozenset[Pair] = frozenset()
        self._settings = settings
        self._plan: Plan | None = None
        # of the last window: its pairs, their numbers, and which are many put together
        self._pairs: tuple[tuple[Pair, ...], Rows, NDArray[np.bool_]] | None = None
        # and their streams by signal, with what these hold for
        self._table: tuple[Rows, tuple[tuple[str, ...], int], NDArray[np.int32]] | None = None

    def forget_plan(self) -> None:
        """Drop what was prepared, because streams have new numbers."""
        self._plan = self._pairs = self._table = None

    def _known(self, pairs: tuple[Pair, ...]) -> tuple[Rows, NDArray[np.bool_]]:
        """Return the numbers of a window's pairs, and which are many put together."""
        if self._pairs is None or not (pairs is self._pairs[0] or pairs == self._pairs[0]):
            others = np.array([is_other(pair) for pair in pairs], dtype=bool)
            self._pairs = pairs, self.catalog.numbers(pairs).astype(np.int32), others
        return self._pairs[1:]

    def plan(self, window: Window) -> Plan:
        """Return which stream each row belongs to, meeting the streams that are new.

        A stream is met with its first row that can be used.
        """
        if self._plan is not None and self._plan.fits(window):
            return self._plan
        self.others = self._others(window)
        numbers, table = self._streams_of(window)
        stream = table[window.signal, window.pair]
        new = np.flatnonzero(stream == UNKNOWN)
        models = np.array([model_of(s, histogram=True) for s in window.signals], np.int64)
        late = new[usable(models[window.signal[new]], window.value[new], window.count[new])]
        if len(late):
            self._add(window, late)
            self._pairs = None
            numbers, table = self._streams_of(window)
            stream = table[window.signal, window.pair]
        judged = stream >= 0
        plan = Plan(window, numbers, table, self._parts(window, stream, judged))
        # A row that could not be used may be a stream's first next time; doubles differ by value
        rows = sum(len(part.row) for part in plan.parts)
        whole = len(late) == len(new) and rows == np.count_nonzero(judged)
        self._plan = plan if whole else None
        return plan

    def _others(self, window: Window) -> frozenset[Pair]:
        """Return the window's pairs that are many put together and have rows."""
        _, others = self._known(window.pairs)
        if not others.any():
            return frozenset()
        # those with rows: a recording has no others
        there = np.unique(window.pair[others[window.pair]]).tolist()
        return frozenset(window.pairs[i] for i in there)

    def _streams_of(self, window: Window) -> tuple[Rows, NDArray[np.int32]]:
        """Return the numbers of a window's pairs, and int32[signals, pairs] their streams.

        `UNKNOWN` where there is none yet, `UNTOLD` for what is not judged.
        """
        numbers, others = self._known(window.pairs)
        key = window.signals, self.catalog.streams.size
        if self._table is None or self._table[0] is not numbers or self._table[1] != key:
            table = self.catalog.table_of(window.signals, numbers)
            table[[signal in VIEWS for signal in window.signals]] = UNTOLD
            table[:, others] = UNTOLD
            self._table = numbers, key, table
        return numbers, self._table[2]

    def _parts(
        self, window: Window, stream: NDArray[np.int32], judged: NDArray[np.bool_]
    ) -> tuple[Part, ...]:
        row = np.flatnonzero(judged)
        row_of = np.full(self.catalog.streams.size, -1, np.int32)
        row_of[stream[row]] = row
        if np.count_nonzero(row_of >= 0) < len(row):
            row = self._best_of_doubles(window, stream, row)
            row_of[stream[row]] = row
        found = []
        for number in range(len(self.banks)):
            streams = self.catalog.in_bank(number)
            rows = row_of[streams]
            at = np.flatnonzero(rows >= 0)
            if len(at) < len(streams):
                rows, streams = rows[at], streams[at]
            found.append(Part(rows, streams, at.astype(np.int32)))
        return tuple(found)

    def _best_of_doubles(self, window: Window, stream: NDArray[np.int32], row: Ints) -> Ints:
        """Return one row of each stream: of several the lowest value that can be used counts."""
        models = self.catalog.streams["bank"][stream[row]].astype(np.int64)
        bad = ~usable(models, window.value[row], window.count[row])
        row = row[np.lexsort((window.value[row], bad, stream[row]))]
        first = np.ones(len(row), dtype=bool)
        first[1:] = stream[row[1:]] != stream[row[:-1]]
        return row[first]

    def _add(self, window: Window, row: Ints) -> None:
        histogram = np.zeros(len(window), dtype=bool)
        histogram[window.histograms.row] = True
        new, at = self.catalog.add(window, row)
        t = self.catalog.streams
        names = [self.catalog.signal_of(i) for i in new.tolist()]
        model = np.array(
            [model_of(s, histogram=bool(histogram[r])) for s, r in zip(names, at, strict=True)]
        )
        first = self.catalog.pairs["first"][t["pair"][new]]
        t["bank"][new] = model
        for number, bank in enumerate(self.banks):
            mine = model == number
            if not mine.any():
                continue
            # The prior of a ratio is good from the pair's first second; others learn their own
            born = np.where(number == RATIO, 0.0, window.time - first[mine])
            signals = [name for name, is_mine in zip(names, mine, strict=True) if is_mine]
            t["local"][new[mine]] = bank.add(born, signals, self._settings)

    def readings(self, window: Window, plan: Plan) -> tuple[float, list[Reading]]:
        """Take note of a window's rows; return its length, and the rows that each model can use."""
        timed = [self._timing(window, part.stream) for part in plan.parts]
        found = [
            read(model, window, part, times)
            for model, (part, times) in enumerate(zip(plan.parts, timed, strict=True))
        ]
        return _length(window, [spacing for spacing, _ in timed]), found

    def _timing(self, window: Window, stream: Ints) -> tuple[Floats, Floats | None]:
        """Take note of rows of streams; return what each covers and how long it was awaited.

        Returns:
            (float32[m] or [1] seconds, NaN while unknown; float32[m] seconds without a row, None
            when no stream waited).
        """
        t, at = self.catalog.streams, narrow(stream)
        since = window.time - t["last"][at]
        t["last"][at] = window.time
        if window.width > 0:
            spacing = np.array([window.width], np.float32)
        else:
            spacing = np.fmin(t["spacing"][at], since).astype(np.float32)
        t["spacing"][at] = spacing
        late = since > (1.0 + IDLE_SHARE) * spacing
        if not late.any():
            return spacing, None
        return spacing, np.where(late, since - spacing, 0.0).astype(np.float32)


def _length(window: Window, spacings: list[Floats]) -> float:
    """Return the length of the window: as measured, or the shortest of its streams'."""
    if window.width > 0:
        return float(window.width)
    known = [spacing[spacing > 0] for spacing in spacings]
    return min((float(some.min()) for some in known if len(some)), default=0.0)


def is_spoilt(window: Window) -> bool:
    """Return whether so many samples were lost that a rate may look changed."""
    if window.lost == 0:
        return False
    is_count = np.array([kind_of(signal) is Kind.COUNT for signal in window.signals])
    counted = np.nansum(window.value[is_count[window.signal]]) * window.width
    return not window.lost <= LOST_SHARE * counted
