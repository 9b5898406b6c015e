"""From the rows of a window to the observations of the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.bank import Bank
from detector.catalog import Catalog
from detector.counts import CountBank
from detector.gauges import GaugeBank
from detector.latencies import LatencyBank
from detector.levels import LevelBank
from detector.parts import Entries, Obs, Part, narrow, rows_with_entries
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
COUNTED = frozenset({RATIO, LATENCY})
"""Models that need a row's count."""
SUBSTANCE = frozenset({"connections", "requests"})
AMOUNTS = frozenset({"bytes_sent", "bytes_received"})
"""Signals that say whether anything moves between a pair: of counts, of amounts."""
ATTEMPTS = frozenset({"connect_errors"})
ASSUMED = 100.0
"""Attempts that a share without their number is taken for: a foreign recording may not say."""
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
        if model == GAUGE:
            return np.abs(value) < 1e30
        good: NDArray[np.bool_] = (value > 0.0) if model == LATENCY else (value >= 0.0)
        good &= value < 1e15
        if model == RATIO:
            known = (count > 0) & (count < 1e15)
            good &= (known | np.isnan(count)) & (value <= 1.0 + ROUNDING)
        return good
    found = np.zeros(len(value), dtype=bool)
    for each in range(len(MODEL)):
        mine = model == each
        found[mine] = usable(each, value[mine], count[mine])
    return found


class Reading(NamedTuple):
    """The rows of one model that can be used, and when they were.

    Attributes:
        part: which rows they are.
        value: float64[m], as in the window.
        trials: float64[m], its counts; empty for a model that has no use for it.
        spacing: float32[m] or [1], seconds that each covers; NaN while unknown.
        idle: float32[m], seconds for which each was awaited; None when no stream waited.
    """

    part: Part
    value: Floats
    trials: Floats
    spacing: Floats
    idle: Floats | None

    def only(self, good: NDArray[np.bool_]) -> Reading:
        """Return the rows that are marked."""
        if good.all():
            return self
        return Reading(
            self.part.only(good),
            self.value[good],
            self.trials[good] if len(self.trials) else self.trials,
            self.spacing[good] if len(self.spacing) == len(good) else self.spacing,
            None if self.idle is None else self.idle[good],
        )


def read(model: int, window: Window, part: Part, timed: tuple[Floats, Floats | None]) -> Reading:
    """Return the rows of one model that can be used.

    Args:
        model: its number.
        window: the window.
        part: its rows.
        timed: spacing and idle of all of them, as `Reading` has them.
    """
    value = window.value[part.row]
    count = window.count[part.row] if model in COUNTED else np.zeros(0)
    if model == RATIO and np.isnan(count).any():
        count = np.where(np.isnan(count), ASSUMED, count)
    return Reading(part, value, count, *timed).only(usable(model, value, count))


def observe(model: int, window: Window, reading: Reading) -> tuple[Reading, Obs]:
    """Return the observations of one model, and the rows that they are of."""
    if model == COUNT and not (reading.spacing > 0).all():
        reading = reading.only(np.broadcast_to(reading.spacing > 0, len(reading.value)))
    elif model == LATENCY:
        reading, entries, samples = _with_entries(window, reading)
        return reading, Obs(reading.value.astype(np.float32), samples, entries)
    value, count, spacing = reading.value, reading.trials, reading.spacing
    narrow = value.astype(np.float32)
    if model == COUNT:
        return reading, Obs(narrow, _for_each(spacing, len(value)))
    if model == RATIO:
        # Counted, so whole: value * count is only off by rounding
        hits = np.minimum(np.rint(value * count), count)
        return reading, Obs(hits.astype(np.float32), count.astype(np.float32))
    if model == GAUGE:
        known = np.where(spacing > 0, spacing, np.float32(1.0))
        return reading, Obs(narrow, _for_each(known, len(value)), None, value)
    return reading, Obs(narrow)


def _for_each(spacing: Floats, rows: int) -> Floats:
    return spacing if len(spacing) == rows else np.repeat(spacing, rows)


def _with_entries(window: Window, reading: Reading) -> tuple[Reading, Entries, Floats]:
    """Return the rows that have a histogram, their entries, and float32[m] their samples."""
    found = window.histograms
    row, first = rows_with_entries(found)
    place = np.full(len(window), -1, np.int32)
    place[row] = np.arange(len(row))
    at = place[reading.part.row]
    reading, at = reading.only(at >= 0), at[at >= 0]
    length = np.diff(first, append=len(found.row))[at]
    total = np.add.reduceat(found.number, first)[at] if len(first) else np.zeros(0)
    entries = Entries(first[at], length, found.bucket, found.number)
    return reading, entries, total.astype(np.float32)


class Activity(NamedTuple):
    """What the pairs of a window did, by pair number.

    Attributes:
        pair: int64[p], pairs that have rows, ascending.
        events: float64[p], connections and requests, or attempts if those are more.
        active: bool[p], whether anything moved.
        measured: bool[p], whether a rate was measured.
        width: float64[p] or [1], seconds that the pair's rows cover, the shortest of them.
    """

    pair: Ints
    events: Floats
    active: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    width: Floats


def activity(window: Window, used: Mapping[int, Reading], catalog: Catalog) -> Activity:
    """Return what pairs did; `used` has the window's usable rows, by model."""
    pairs = catalog.pairs.size
    there, measured, active = (np.zeros(pairs, np.bool_) for _ in range(3))
    events: Floats = np.zeros(pairs)
    shortest = None if 0 < window.width < np.inf else np.full(pairs, np.inf)
    for model, (part, value, count, spacing, _) in used.items():
        of_model = narrow(part.stream)
        pair = catalog.streams["pair"][of_model].astype(np.int64)
        signal = catalog.streams["signal"][of_model]
        there[pair] = True
        width = np.where(spacing > 0, spacing, 1.0)
        if shortest is not None:
            np.minimum.at(shortest, pair, width)
        if model == COUNT:
            moves, moved = _only(catalog, SUBSTANCE, signal, pair, value * width)
            events = np.bincount(moves, moved, pairs)
            measured[moves] = True
            active = events > 0
        if model == LEVEL:
            moves, moved = _only(catalog, AMOUNTS, signal, pair, value)
            measured[moves] = True
            active[moves[moved > 0]] = True
        if model == RATIO:
            tried, attempts = _only(catalog, ATTEMPTS, signal, pair, count)
            events = np.maximum(events, np.bincount(tried, attempts, pairs))
    at = np.flatnonzero(there)
    widths = np.full(1, window.width) if shortest is None else shortest[at]
    if len(at) == pairs:
        return Activity(at, events, active, measured, widths)
    return Activity(at, events[at], active[at], measured[at], widths)


def _only(
    catalog: Catalog, names: frozenset[str], signal: Ints, pair: Ints, amount: Floats
) -> tuple[Ints, Floats]:
    """Return the pairs and amounts of the streams whose signals are among `names`."""
    which = np.array([name in names for name in catalog.signals], np.bool_)[signal]
    return (pair, amount) if which.all() else (pair[which], amount[which])
