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
from detector.parts import Entries, Obs
from detector.ratios import RatioBank
from probes.window import Kind, Window, kind_of

Ints = NDArray[np.int64]
Floats = NDArray[Any]

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
ROUNDING = 1e-9
"""Shares and products that are off by this are off by rounding alone."""


def make_banks() -> list[Bank]:
    """Return one bank per model."""
    return [CountBank(), LevelBank(), RatioBank(), LatencyBank(), GaugeBank()]


def model_of(signal: str, *, histogram: bool) -> int:
    """Return the number of the model that tests `signal`."""
    number = MODEL[kind_of(signal)]
    # A foreign recording's latency has no histogram: only its median can be followed
    return LEVEL if number == LATENCY and not histogram else number


def usable(model: Ints | int, value: Floats, count: Floats) -> NDArray[np.bool_]:
    """Return which rows hold a number that their kind can have.

    Args:
        model: int64[m], or one for all.
        value: float64[m].
        count: float64[m].
    """
    # NaN fails every comparison; what is beyond all measure is as good as infinite
    if isinstance(model, int):
        good = np.abs(value) < (1e30 if model == GAUGE else 1e15)
        if model != GAUGE:
            good &= value >= 0.0
        if model == RATIO:
            good &= (count > 0) & (count < 1e15) & (value <= 1.0 + ROUNDING)
        if model == LATENCY:
            good &= value > 0.0
        return good
    found = np.zeros(len(value), dtype=bool)
    for each in range(len(MODEL)):
        mine = model == each
        found[mine] = usable(each, value[mine], count[mine])
    return found


def observe(
    model: int, window: Window, row: Ints, spacing: Floats
) -> tuple[NDArray[np.bool_] | None, Obs]:
    """Return which rows of one model can be used (None for all), and their observations.

    Args:
        model: its number.
        window: the window.
        row: int64[m], which of its rows.
        spacing: float32[m] or [1], seconds that each covers; NaN while unknown.
    """
    value, count = window.value[row], window.count[row]
    good = usable(model, value, count)
    total: Floats = np.zeros(0)
    if model == COUNT and not (spacing > 0).all():
        good &= spacing > 0
    if model == LATENCY:
        number = window.histograms.number
        total = np.bincount(window.histograms.row, number, len(window))[row]
        good &= total > 0
    which = None
    if not good.all():
        which, row, value, count = good, row[good], value[good], count[good]
        spacing = spacing if len(spacing) == 1 else spacing[good]
        total = total[good] if model == LATENCY else total
    narrow = value.astype(np.float32)
    if model == COUNT:
        return which, Obs(narrow, _for_each(spacing, len(row)))
    if model == RATIO:
        # Counted, so whole: value * count is only off by rounding
        hits = np.minimum(np.rint(value * count), count)
        return which, Obs(hits.astype(np.float32), count.astype(np.float32))
    if model == LATENCY:
        return which, Obs(narrow, total.astype(np.float32), _entries(window, row))
    if model == GAUGE:
        known = np.where(spacing > 0, spacing, np.float32(1.0))
        return which, Obs(narrow, _for_each(known, len(row)), None, value)
    return which, Obs(narrow)


def _for_each(spacing: Floats, rows: int) -> Floats:
    return spacing if len(spacing) == rows else np.repeat(spacing, rows)


def _entries(window: Window, row: Ints) -> Entries:
    """Return the histograms' entries of `row`, by its order."""
    found = window.histograms
    place = np.full(len(window), -1, np.int64)
    place[row] = np.arange(len(row))
    at = place[found.row]
    bucket, number = found.bucket.astype(np.int64), found.number.astype(np.float32)
    mine = at >= 0
    if not mine.all():
        at, bucket, number = at[mine], bucket[mine], number[mine]
    # By row and bucket, so that sums do not depend on how the window was put together
    key = at * np.int64(1 << 32) + bucket
    if len(key) and (np.diff(key) < 0).any():
        by = np.argsort(key, kind="stable")
        at, bucket, number = at[by], bucket[by], number[by]
    return Entries(at, bucket, number)


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


def activity(window: Window, row: Ints, pair: Ints, spacing: Floats, pairs: int) -> Activity:
    """Return what pairs did.

    Args:
        window: the window.
        row: int64[m], its usable rows.
        pair: int64[m], the pair number of each.
        spacing: float64[m] or [1], seconds that each covers.
        pairs: how many pairs there are.
    """
    signal, value = window.signal[row], window.value[row]
    width = np.where(spacing > 0, spacing, 1.0)
    moves = _named(window, ACTIVITY)[signal]
    counts = _named(window, SUBSTANCE)[signal]
    tries = _named(window, {"connect_errors"})[signal]
    rates = value * width
    events = np.bincount(pair[counts], rates[counts], pairs)
    attempts = np.bincount(pair[tries], window.count[row[tries]], pairs)
    if len(width) == 1:
        shortest = np.full(pairs, width[0])
    else:
        shortest = np.full(pairs, np.inf)
        np.minimum.at(shortest, pair, width)
    there = np.bincount(pair, minlength=pairs) > 0
    moving, moved = pair[moves], value[moves] > 0
    at = np.flatnonzero(there)
    return Activity(
        at,
        np.maximum(events, attempts)[at],
        (np.bincount(moving[moved], minlength=pairs) > 0)[at],
        (np.bincount(moving, minlength=pairs) > 0)[at],
        shortest[at],
    )


def _named(window: Window, names: frozenset[str] | set[str]) -> NDArray[np.bool_]:
    return np.array([signal in names for signal in window.signals], dtype=bool)
