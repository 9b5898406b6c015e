"""The way in: from a window's rows to numbered streams, each in the bank that tests it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.bank import Bank
from detector.catalog import Catalog
from detector.observe import RATIO, make_banks, model_of, usable
from detector.settings import DetectorSettings
from probes.window import VIEWS, Kind, Pair, Window, is_other, kind_of

Floats = NDArray[Any]
Ints = NDArray[np.int64]

LOST_SHARE = 0.01
"""Samples lost per connection and request counted, above which a window is not read: a host that
loses one now and then must not go blind."""
IDLE_SHARE = 0.1
"""A stream has waited if it had no row for this share of its spacing longer than usual."""


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one model.

    Attributes:
        row: int64[m], which rows of the window.
        stream: int64[m], the stream of each, ascending and unique.
        at: int64[m], its number in the bank, ascending and unique.
    """

    row: Ints
    stream: Ints
    at: Ints

    def only(self, which: NDArray[np.bool_]) -> Part:
        """Return the rows that are marked."""
        return Part(self.row[which], self.stream[which], self.at[which])


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Which stream each row of a window belongs to; good for every window with the same rows.

    Attributes:
        window: the window that it was made for.
        numbers: int64[pairs of the window], number of each pair; -1 for none.
        stream: int64[rows], -1 for a row that is not judged.
        parts: the rows of each model.
    """

    window: Window
    numbers: Ints
    stream: Ints
    parts: tuple[Part, ...]

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
        self._pairs: tuple[tuple[Pair, ...], Ints, NDArray[np.bool_]] | None = None

    def forget_plan(self) -> None:
        """Drop what was prepared, because streams have new numbers."""
        self._plan = self._pairs = None

    def _known(self, pairs: tuple[Pair, ...]) -> tuple[Ints, NDArray[np.bool_]]:
        """Return the numbers of a window's pairs, and which are many put together."""
        if self._pairs is None or not (pairs is self._pairs[0] or pairs == self._pairs[0]):
            others = np.array([is_other(pair) for pair in pairs], dtype=bool)
            self._pairs = pairs, self.catalog.numbers(pairs), others
        return self._pairs[1:]

    def plan(self, window: Window) -> Plan:
        """Return which stream each row belongs to, meeting the streams that are new.

        A stream is met with its first row that can be used.
        """
        if self._plan is not None and self._plan.fits(window):
            return self._plan
        numbers, is_other_pair = self._known(window.pairs)
        judged = np.array([signal not in VIEWS for signal in window.signals], dtype=bool)
        told = np.zeros(0, bool)
        self.others = frozenset()
        if len(window):
            told = judged[window.signal] & ~is_other_pair[window.pair]
            # those with rows: a recording has no others
            there = np.unique(window.pair[is_other_pair[window.pair]]).tolist()
            self.others = frozenset(window.pairs[i] for i in there)
        stream = self.catalog.find(window, numbers)
        models = np.array([model_of(s, histogram=True) for s in window.signals], np.int64)
        new = np.flatnonzero((stream < 0) & told)
        late = new[usable(models[window.signal[new]], window.value[new], window.count[new])]
        if len(late):
            self._add(window, late)
            self._pairs = None
            numbers, _ = self._known(window.pairs)
            stream = self.catalog.find(window, numbers)
        stream[~told] = -1
        plan = Plan(window, numbers, stream, self._parts(window, stream))
        # A row that could not be used may be a stream's first next time; doubles differ by value
        whole = len(late) == len(new) and sum(len(p.row) for p in plan.parts) == (stream >= 0).sum()
        self._plan = plan if whole else None
        return plan

    def _parts(self, window: Window, stream: Ints) -> tuple[Part, ...]:
        t = self.catalog.streams
        row = np.flatnonzero(stream >= 0)
        # Of several rows of one stream the lowest value that can be used counts
        models = t["bank"][stream[row]].astype(np.int64)
        bad = ~usable(models, window.value[row], window.count[row])
        by = np.lexsort((window.value[row], bad, stream[row]))
        row = row[by]
        first = np.ones(len(row), dtype=bool)
        first[1:] = stream[row[1:]] != stream[row[:-1]]
        row = row[first]
        of_row = stream[row]
        bank = t["bank"][of_row]
        found = []
        for number in range(len(self.banks)):
            mine = bank == number
            # Local numbers ascend with stream numbers: both are given out in the same order
            at = t["local"][of_row[mine]].astype(np.int64)
            found.append(Part(row[mine], of_row[mine], at))
        return tuple(found)

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

    def timing(self, window: Window, stream: Ints) -> tuple[Floats, Floats | None]:
        """Take note of rows of streams; return what each covers and how long it was awaited.

        Returns:
            (float32[m] or [1] seconds, NaN while unknown; float32[m] seconds without a row, None
            when no stream waited).
        """
        t = self.catalog.streams
        since = window.time - t["last"][stream]
        t["last"][stream] = window.time
        if window.width > 0:
            spacing = np.array([window.width], np.float32)
        else:
            spacing = np.fmin(t["spacing"][stream], since).astype(np.float32)
        t["spacing"][stream] = spacing
        waited = np.nan_to_num(since - spacing)
        if not (waited > IDLE_SHARE * np.nan_to_num(spacing, nan=np.inf)).any():
            return spacing, None
        return spacing, np.maximum(waited, 0.0).astype(np.float32)


def step(window: Window, spacings: list[Floats]) -> float:
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
