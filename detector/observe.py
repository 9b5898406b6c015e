"""From the rows of a window to the observations of the models."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.bank import Bank
from detector.counts import CountBank
from detector.gauges import GaugeBank
from detector.latencies import LatencyBank
from detector.levels import LevelBank
from detector.ratios import RatioBank
from probes.window import Kind, Window, kind_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

COUNT, LEVEL, RATIO, LATENCY, GAUGE = range(5)
"""Numbers of the models, in the order of `make_banks`."""
MODEL = {
    Kind.COUNT: COUNT,
    Kind.SUM: LEVEL,
    Kind.RATIO: RATIO,
    Kind.LATENCY: LATENCY,
    Kind.GAUGE: GAUGE,
}
ACTIVITY = frozenset({"connections", "requests", "bytes_sent", "bytes_received"})
SUBSTANCE = frozenset({"connections", "requests"})


class Rows(NamedTuple):
    """The usable rows of a window, ordered by stream.

    Attributes:
        stream: int64[m], ascending and unique.
        row: int64[m], which row of the window.
        width: float64[m], seconds that each row covers; NaN while unknown.
        idle: float64[m], seconds that passed without a row since the stream's last one.
    """

    stream: Ints
    row: Ints
    width: Floats
    idle: Floats

    def only(self, which: NDArray[np.bool_]) -> Rows:
        """Return the rows that are marked."""
        return Rows(self.stream[which], self.row[which], self.width[which], self.idle[which])


def make_banks() -> list[Bank]:
    """Return one bank per model."""
    return [CountBank(), LevelBank(), RatioBank(), LatencyBank(), GaugeBank()]


def model_of(signal: str, *, histogram: bool) -> int:
    """Return the number of the model that tests `signal`."""
    number = MODEL[kind_of(signal)]
    # A foreign recording's latency has no histogram: only its median can be followed
    return LEVEL if number == LATENCY and not histogram else number


def usable(window: Window, kinds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows hold a number that their kind can have.

    Args:
        window: the window.
        kinds: int64[signals], number of the model of each signal.
    """
    kind, value, count = kinds[window.signal], window.value, window.count
    # NaN fails every comparison; what is beyond all measure is as good as infinite
    good = np.abs(value) < np.where(kind == GAUGE, 1e30, 1e15)
    positive = (count > 0) & (count < 1e15)
    good &= (kind == GAUGE) | (value >= 0.0)
    good &= (kind != RATIO) | (positive & (value <= 1.0 + 1e-9))
    good &= (kind != LATENCY) | (value > 0.0)
    return good


def order(stream: Ints, row: Ints, value: Floats) -> tuple[Ints, Ints]:
    """Return streams ascending, each once, and a row of each: the lowest value of several."""
    by = np.lexsort((value[row], stream))
    stream, row = stream[by], row[by]
    first = np.ones(len(stream), dtype=bool)
    first[1:] = stream[1:] != stream[:-1]
    return stream[first], row[first]


def observe(model: int, window: Window, rows: Rows) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Return which of `rows`, all of one model, can be used, and their observations."""
    value, count = window.value[rows.row], window.count[rows.row]
    if model == COUNT:
        known = rows.width > 0
        number = np.round(value * rows.width, 9)
        return known, {"number": number[known], "exposure": rows.width[known]}
    if model == RATIO:
        trials = count
        # Counted, so whole: value * count is only off by rounding
        hits = np.minimum(np.round(value * trials), trials)
        return np.ones(len(value), dtype=bool), {"hits": hits, "trials": trials}
    if model == LATENCY:
        return _histograms(window, rows.row)
    spacing = np.where(rows.width > 0, rows.width, 1.0)
    every = np.ones(len(value), dtype=bool)
    return every, {"value": value, "time": np.full(len(value), window.time), "spacing": spacing}


def _histograms(window: Window, row: Ints) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    entries = window.histograms
    place = np.full(len(window) + 1, -1, np.int64)
    place[row] = np.arange(len(row))
    total = np.bincount(entries.row, weights=entries.number, minlength=len(window))[row]
    known = total > 0
    place[row] = np.where(known, np.cumsum(known) - 1, -1)
    at = place[entries.row]
    mine = at >= 0
    # By row and bucket, so that sums do not depend on how the window was put together
    by = np.lexsort((entries.bucket[mine], at[mine]))
    return known, {
        "row": at[mine][by],
        "bucket": entries.bucket[mine][by].astype(np.int64),
        "number": entries.number[mine][by].astype(np.float64),
        "trials": total[known],
        "median": window.value[row][known],
    }


class Activity(NamedTuple):
    """What the pairs of a window did, by pair number.

    Attributes:
        pair: int64[p], pairs that have rows, ascending.
        events: float64[p], connections and requests, or attempts if those are more.
        active: bool[p], whether anything moved.
        measured: bool[p], whether a rate was measured.
        width: float64[p], seconds that the pair's rows cover, the shortest of them.
    """

    pair: Ints
    events: Floats
    active: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    width: Floats


def activity(window: Window, rows: Rows, pair: Ints, pairs: int) -> Activity:
    """Return what pairs did; `pair` is each row's pair number, of `pairs` there are."""
    signal, value = window.signal[rows.row], window.value[rows.row]
    moves = np.array([s in ACTIVITY for s in window.signals])[signal]
    counts = np.array([s in SUBSTANCE for s in window.signals])[signal]
    tries = np.array([s == "connect_errors" for s in window.signals])[signal]
    width = np.where(rows.width > 0, rows.width, 1.0)
    events = np.bincount(pair[counts], (value * width)[counts], pairs).astype(np.float64)
    attempts = np.bincount(pair[tries], window.count[rows.row[tries]], pairs)
    shortest = np.full(pairs, np.inf)
    np.minimum.at(shortest, pair, width)
    at = np.flatnonzero(np.bincount(pair, minlength=pairs))
    return Activity(
        at,
        np.maximum(events, attempts)[at],
        np.bincount(pair[moves], value[moves] > 0, pairs)[at] > 0,
        np.bincount(pair[moves], minlength=pairs)[at] > 0,
        shortest[at],
    )
