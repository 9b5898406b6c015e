"""How high a class of streams climbs without anybody's fault: its threshold from experience.

On real gauges no theorem holds: most of what is improbable is not noise but real change. So each
episode's peak is counted, over all streams of the class, and what is noise among them is told by
its law. Surprise is measured in the stream's own mean excess, which makes noise alike on all
streams: its peaks are exponential (they are logarithms, so this is a Pareto tail of the score) with
a mean excess near `NOISE_EXCESS`. How many there are the common peaks tell; what is above that law
is change. (An empirical null in the sense of Efron, JASA 2004, with its scale known.) The threshold
is where noise comes as often as the budget allows; but never where the class has given more than
`MOST` times the budget in all. Beyond what was seen the tail of all peaks is taken as exponential,
with a mean excess from the highest. While there is little experience, `PRIOR_WEEKS` stream-weeks of
public curves stand in for it.

State: int64[SLOTS, BINS] and three numbers per slot; 33 kB, whatever the number of streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detector.table import Array, Column, Table

Floats = NDArray[np.float64]

WEEK_S: Final = 604_800.0
SLOTS: Final = 5
"""Four whole weeks and the one that runs."""
LOW, WIDTH, BINS = 2.0, 0.05, 800
HIGHEST: Final = 20
"""Peaks behind the extrapolation."""
NOISE_EXCESS: Final = 0.6
"""Of noise: 0.7 where it is Student's t with 3 degrees of freedom, less where it is log-normal; on
public curves outside labels 0.8, unlabelled changes among them."""
COMMON: Final = 5
"""The bin from which peaks are counted as noise; below it are those that habit took down to LOW."""
MOST: Final = 8.0
"""Episodes of any kind that a threshold may let pass, per false alert allowed."""
PRIOR_WEEKS: Final = 10.0
PRIOR_RATE, PRIOR_EXCESS = 5.0, 0.75
"""Peaks above LOW per stream-week outside labels, and their mean excess."""
FAR_EXCESS: Final = 1.3
"""Mean excess of the highest peaks of all, faults included, before they are known."""


class Peaks:
    """Peaks of closed episodes, by week."""

    def __init__(self) -> None:
        self.count = np.zeros((SLOTS, BINS), np.int64)
        self.week = np.full(SLOTS, -1, np.int64)
        self.watched_s = np.zeros(SLOTS)

    def add(self, time: float, watched_s: float, peaks: Floats) -> None:
        """Count `peaks` (surprise) of episodes that closed, and seconds of streams judged."""
        week = int(time // WEEK_S)
        slot = week % SLOTS
        if week > self.week[slot]:
            self.week[slot], self.count[slot], self.watched_s[slot] = week, 0, 0.0
        self.watched_s[slot] += watched_s
        if len(peaks):
            place = np.clip((peaks - LOW) / WIDTH, 0, BINS - 1).astype(np.int64)
            self.count[slot] += np.bincount(place, minlength=BINS)

    def set_back(self, seconds: float) -> None:
        """Move the weeks, because the clock was set back."""
        self.week -= np.int64(seconds // WEEK_S)

    def rates(self) -> Floats:
        """Return float64[BINS]: peaks per stream-week at or above each bin's lower edge."""
        edge = LOW + WIDTH * np.arange(BINS)
        prior = PRIOR_RATE * np.exp(-(edge - LOW) / PRIOR_EXCESS)
        recent = self.week > self.week.max() - SLOTS
        weeks = float(self.watched_s[recent].sum()) / WEEK_S
        at_least = np.cumsum(self.count[recent].sum(axis=0)[::-1])[::-1].astype(np.float64)
        known = np.flatnonzero(at_least >= HIGHEST)
        last = int(known[-1]) if len(known) else 0
        # Excesses add up to the area under the tail
        excess = WIDTH * float(at_least[last + 1 :].sum()) + 0.5 * WIDTH * at_least[last]
        mean = (excess + HIGHEST * FAR_EXCESS) / (at_least[last] + HIGHEST)
        beyond = at_least[last] * np.exp(-(edge - edge[last]) / mean)
        tail = np.where(np.arange(BINS) <= last, at_least, beyond)
        rate: Floats = (tail + PRIOR_WEEKS * prior) / (weeks + PRIOR_WEEKS)
        return rate

    def noise(self, rates: Floats) -> Floats:
        """Return float64[BINS]: of `rates`, what is noise, at or above each bin's lower edge."""
        common: Floats = rates[COMMON] * np.exp(-WIDTH * (np.arange(BINS) - COMMON) / NOISE_EXCESS)
        return np.minimum(rates, common)

    def threshold(self, per_week: Floats) -> Floats:
        """Return the surprise, float64[m], that noise gives a stream `per_week` times a week."""
        rates = self.rates()
        wanted = np.maximum(per_week, 1e-12)
        level: Floats = np.maximum(_level(self.noise(rates), wanted), _level(rates, MOST * wanted))
        return level


def _level(rates: Floats, wanted: Floats) -> Floats:
    """Return where falling `rates` come down to `wanted`; beyond the last bin nothing fires."""
    edge = LOW + WIDTH * np.arange(BINS)
    # Ascending for np.interp
    level: Floats = np.interp(-np.log(wanted), -np.log(np.maximum(rates, 1e-300)), edge)
    return level


class PooledTable(Table):
    """A table that carries the class's peaks in its state beside the columns of the streams."""

    def __init__(self, columns: Mapping[str, Column], peaks: Peaks) -> None:
        super().__init__(columns)
        self._peaks = peaks

    def state(self) -> dict[str, Array]:
        """Return copies of all columns and of the peaks, by name."""
        peaks = self._peaks
        return {
            **super().state(),
            "peaks count": peaks.count.copy(),
            "peaks week": peaks.week.copy(),
            "peaks watched_s": peaks.watched_s.copy(),
        }

    def load(self, state: Mapping[str, Array]) -> None:
        """Replace all by `state`; raises ValueError when it does not fit."""
        super().load(state)
        peaks = self._peaks
        for name in ("count", "week", "watched_s"):
            mine: Array = getattr(peaks, name)
            given = state.get(f"peaks {name}")
            if given is None or given.shape != mine.shape or given.dtype != mine.dtype:
                raise ValueError(f"the gauges' peaks ({name}) are missing or do not fit")
            mine[:] = given
