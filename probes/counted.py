"""What was counted per pair, and the window it makes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probes.histogram import quantile_by_group_s
from probes.window import SIGNALS, Histograms, Kind, Mark, Pair, Window

NAMES: Final = tuple(name for name, kind in SIGNALS.items() if kind is not Kind.PRESENCE)
"""The signals of a window, in the order in which their rows stand within a pair."""

_OTHER_ENDS: Final = ("server_requests", "server_bytes_sent", "server_bytes_received")

Grouped = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted.

    Attributes:
        rates: {signal: float64[pairs]}, amounts in this window.
        ratios: {signal: (part int64[pairs], whole int64[pairs])}.
        histograms: {signal: (pair int64[k] ascending, bucket int64[k], number int64[k])}.
        causes: {signal: {cause: int64[pairs]}}.
        active: int64[a], pairs that did anything.
        waiting: bool[pairs], those that have ever waited on purpose.
        both: bool[pairs], those of which both ends are seen here.
        marks: (pair, mark) of connections whose other end is not.
    """

    rates: dict[str, NDArray[np.float64]]
    ratios: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    histograms: dict[str, Grouped]
    causes: dict[str, dict[str, NDArray[np.int64]]]
    active: NDArray[np.int64]
    waiting: NDArray[np.bool_]
    both: NDArray[np.bool_]
    marks: list[tuple[int, Mark]]

    def window(
        self,
        watched: NDArray[np.int64],
        *,
        pairs: tuple[Pair, ...],
        time: float,
        width: float,
        nominal: float,
        lost: int,
    ) -> Window:
        """Return the tally as a window.

        Args:
            watched: pairs that get rate rows even when nothing happened.
            pairs: all pairs, by index.
            time: start, epoch seconds.
            width: seconds.
            nominal: seconds.
            lost: samples.
        """
        pair, signal, value, count = [], [], [], []
        entries = []
        for name, amount in self.rates.items():
            whose = watched
            if name == "waits":
                whose = watched[self.waiting[watched]]
            elif name in _OTHER_ENDS:
                whose = watched[self.both[watched]]
            pair.append(whose)
            signal.append(np.full(len(whose), NAMES.index(name)))
            value.append(amount[whose] / width)
            count.append(np.full(len(whose), np.nan))
        for name, (part, whole) in self.ratios.items():
            known = np.flatnonzero(whole)
            pair.append(known)
            signal.append(np.full(len(known), NAMES.index(name)))
            value.append(part[known] / whole[known])
            count.append(whole[known].astype(np.float64))
        for name, (group, bucket, number) in self.histograms.items():
            known, median, samples = quantile_by_group_s(group, bucket, number, 0.5)
            pair.append(known)
            signal.append(np.full(len(known), NAMES.index(name)))
            value.append(median)
            count.append(samples.astype(np.float64))
            entries.append((group * len(NAMES) + NAMES.index(name), bucket, number))
        row_key = np.concatenate(pair) * len(NAMES) + np.concatenate(signal)
        order = np.argsort(row_key, kind="stable")
        row_key = row_key[order]
        return Window(
            time=time,
            width=width,
            nominal=nominal,
            lost=lost,
            pairs=pairs,
            signals=NAMES,
            pair=np.concatenate(pair)[order].astype(np.int32),
            signal=np.concatenate(signal)[order].astype(np.int16),
            value=np.concatenate(value)[order],
            count=np.concatenate(count)[order],
            histograms=_histograms(entries, row_key),
            causes=self._row_causes(row_key),
            marks=self._row_marks(row_key),
        )

    def _row_marks(self, row_key: NDArray[np.int64]) -> dict[int, tuple[Mark, ...]]:
        found: dict[int, tuple[Mark, ...]] = {}
        for pair, mark in self.marks:
            key = pair * len(NAMES) + NAMES.index("connections")
            row = int(np.searchsorted(row_key, key))
            if row < len(row_key) and row_key[row] == key:
                found[row] = (*found.get(row, ()), mark)
        return found

    def _row_causes(self, row_key: NDArray[np.int64]) -> dict[int, dict[str, int]]:
        found: dict[int, dict[str, int]] = {}
        for name, causes in self.causes.items():
            for cause, number in causes.items():
                for pair in np.flatnonzero(number):
                    key = pair * len(NAMES) + NAMES.index(name)
                    row = int(np.searchsorted(row_key, key))
                    if row < len(row_key) and row_key[row] == key:
                        found.setdefault(row, {})[cause] = int(number[pair])
        return found


def _histograms(
    entries: list[Grouped],
    row_key: NDArray[np.int64],
) -> Histograms:
    key = np.concatenate([e[0] for e in entries])
    bucket = np.concatenate([e[1] for e in entries])
    number = np.concatenate([e[2] for e in entries])
    row = np.searchsorted(row_key, key)
    order = np.lexsort((bucket, row))
    return Histograms(
        row[order].astype(np.int32), bucket[order].astype(np.int16), number[order].astype(np.int64)
    )


class Door(NamedTuple):
    """A listener in one window, by its pair: connections let in, and turned away by cause."""

    pair: int
    accepted: int
    accept_queue: int = 0
    syn: int = 0


def add_doors(counted: Tally, doors: Iterable[Door]) -> None:
    """Count the connections that listeners turned away as drops, among all that came."""
    part, whole = counted.ratios["drops"]
    causes = counted.causes["drops"]
    accepted, full, syn = (np.zeros_like(part) for _ in range(3))
    for door in doors:
        accepted[door.pair] += door.accepted
        full[door.pair] += door.accept_queue
        syn[door.pair] += door.syn
    counted.ratios["drops"] = (part + full + syn, whole + accepted + full + syn)
    causes["accept_queue"], causes["syn"] = full, syn
