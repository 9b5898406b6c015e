"""The way in: from a window's rows to numbered streams, each in the bank that tests it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.catalog import Catalog
from detector.latencies import LatencyBank
from detector.levels import LevelBank
from detector.observe import RATIO, Rows, make_banks, model_of, order, usable
from detector.ratios import RatioBank
from probes.window import VIEWS, Kind, Pair, Window, is_other, kind_of

Ints = NDArray[np.int64]

LOST_SHARE = 0.01
"""Samples lost per connection and request counted, above which a window is not read: a host that
loses one now and then must not go blind."""


class Intake:
    """The catalog of streams, and the banks that hold their models.

    Attributes:
        others: pairs of the last window that are many put together: which these are changes, so
            what changes in them tells nothing.
    """

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.banks = make_banks()
        self.others: frozenset[Pair] = frozenset()
        self._pairs: tuple[Pair, ...] = ()
        self._is_other = np.zeros(0, bool)

    def rows(self, window: Window) -> Rows:
        """Return the usable rows by stream, meeting the streams that are new."""
        histogram = np.zeros(len(window), dtype=bool)
        histogram[window.histograms.row] = True
        models = np.array(
            [model_of(signal, histogram=True) for signal in window.signals], dtype=np.int64
        )
        judged = np.array([signal not in VIEWS for signal in window.signals], dtype=bool)
        self._look_for_others(window)
        row = np.zeros(0, np.int64)
        if len(window):
            told = judged[window.signal] & ~self._is_other[window.pair]
            row = np.flatnonzero(usable(window, models) & told)
        stream = self.catalog.find(window)[row]
        if (stream < 0).any():
            self._add(window, row[stream < 0], histogram)
            stream = self.catalog.find(window)[row]
        stream, row = order(stream, row, window.value)
        t = self.catalog.streams
        since = window.time - t["last"][stream]
        if window.width > 0:
            spacing = np.full(len(stream), window.width)
        else:
            spacing = np.fmin(t["spacing"][stream], since)
        t["spacing"][stream], t["last"][stream] = spacing, window.time
        idle = np.maximum(np.nan_to_num(since - spacing), 0.0)
        return Rows(stream, row, spacing, idle)

    def _look_for_others(self, window: Window) -> None:
        if window.pairs != self._pairs:
            self._pairs = window.pairs
            self._is_other = np.array([is_other(pair) for pair in window.pairs], dtype=bool)
        # those with rows: a recording has no others
        there = np.unique(window.pair[self._is_other[window.pair]]).tolist() if len(window) else []
        self.others = frozenset(window.pairs[i] for i in there)

    def _add(self, window: Window, row: Ints, histogram: NDArray[np.bool_]) -> None:
        new, at = self.catalog.add(window, row)
        t = self.catalog.streams
        names = [self.catalog.signal_of[i] for i in new]
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
            local = bank.add(int(mine.sum()), born)
            t["local"][new[mine]] = local
            signals = [name for name, is_mine in zip(names, mine, strict=True) if is_mine]
            if isinstance(bank, RatioBank):
                bank.set_floor(local, signals)
            elif isinstance(bank, LatencyBank):
                bank.set_design(local, signals)
            elif isinstance(bank, LevelBank):
                bank.set_offset(local, signals)

    def step(self, window: Window, rows: Rows) -> float:
        """Return the length of the window: as measured, or the shortest of its streams'."""
        if window.width > 0:
            return float(window.width)
        known = rows.width[rows.width > 0]
        return float(known.min()) if len(known) else 0.0


def is_spoilt(window: Window) -> bool:
    """Return whether so many samples were lost that a rate may look changed."""
    if window.lost == 0:
        return False
    is_count = np.array([kind_of(signal) is Kind.COUNT for signal in window.signals])
    counted = np.nansum(window.value[is_count[window.signal]]) * window.width
    return not window.lost <= LOST_SHARE * counted
