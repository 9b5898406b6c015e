"""Streams of a known law for the part on delays: as windows for ours, as numbers for the peers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from benchmarks.peers import Floats
from detector.settings import DetectorSettings
from tailrace.simulation.laws import NO_EFFECT, Effect, Law
from tailrace.simulation.streams import CountStreams, LatencyStreams, RatioStreams, Streams

WIDTH_S = 10.0
MEDIAN_S, SPREAD = 0.02, 0.5
"""Latencies are log-normal: the resolution floors of a loopback do not matter at 20 ms."""
MEMORY = 0.9
"""Correlation of a level that wanders, from one window to the next."""
COUNT_FACTORS = (0.0, 0.5, 1.5, 2.0, 5.0)
SHARES = (0.02, 0.05, 0.2, 0.5, 1.0)
LATENCY_FACTORS = (1.2, 1.5, 2.0, 3.0, 5.0)
SIZES = (1.0, 10.0, 100.0)


EDGES = {"requests": 0.2, "connect_errors": 0.02, "request_latency": 0.2}
"""Least change that is news, where the settings have none of their own: of a share, the change
itself; of all else, relative."""


def edge(signal: str) -> float:
    """Return the least change of a signal that the settings call news."""
    least = getattr(DetectorSettings(), "least_change", EDGES.__getitem__)
    return float(least(signal))


class Numbers(NamedTuple):
    """One window as the peers get it, float64[streams] each.

    Attributes:
        raw: the number that a dashboard shows; where nothing was measured, the last one again.
        x: what is standardised: the count, the failures, the logarithm of the median; NaN where
            nothing was measured.
    """

    raw: Floats
    x: Floats


class Baseline:
    """Mean and deviation of each stream, learned from its history as a user would, then fixed.

    Args:
        streams: how many.
        counted: whether they are counts, whose variance is at least their mean.
    """

    def __init__(self, streams: int, *, counted: bool) -> None:
        self.counted = counted
        self.n, self.sum, self.square = np.zeros(streams), np.zeros(streams), np.zeros(streams)

    def learn(self, x: Floats) -> None:
        """Take one window."""
        known = ~np.isnan(x)
        value = np.where(known, x, 0.0)
        self.n += known
        self.sum += value
        self.square += value * value

    def mean(self) -> Floats:
        """Return float64[streams]; of counts a little above 0 where there was none."""
        mean: Floats = (self.sum + 0.5 * self.counted) / np.maximum(self.n, 1.0)
        return mean

    def z(self, x: Floats) -> Floats:
        """Return standardised numbers, 0 where there is none or nothing is known yet."""
        n = np.maximum(self.n, 1.0)
        variance = np.maximum(self.square / n - (self.sum / n) ** 2, 1e-12)
        if self.counted:
            variance = np.maximum(variance, self.mean())
        z = (x - self.mean()) / np.sqrt(variance)
        return np.where(np.isnan(x) | (self.n < 10.0), 0.0, z)


class Case(ABC):
    """One law before the change, and changes of it.

    Attributes:
        name: as the table has it.
        changes: by their names in the table.
        counted: whether the numbers are counts.
        signal: the signal's name.
    """

    name: str
    signal: str
    changes: dict[str, Effect]
    counted = True

    @abstractmethod
    def streams(self, number: int, seed: int) -> Streams:
        """Return that many streams, one pair each."""

    @abstractmethod
    def source(self, number: int, seed: int) -> Source:
        """Return the same for the peers."""

    def within(self, number: int) -> tuple[Effect, Floats]:
        """Return an effect that is no news, and the factors, 1 for every other stream.

        The others are at the edges of what `min_change` calls normal, in turns.
        """
        most = 1.0 + edge(self.signal)
        factor = np.resize([1.0, most, 1.0, 1.0 / most], number)
        return self.scaled(factor), factor

    @abstractmethod
    def scaled(self, factor: Floats) -> Effect:
        """Return float64[streams] times what is normal, as an effect."""

    def effects(self, each: int) -> Effect:
        """Return one effect: `each` streams with the first change, then with the second, ..."""
        of = list(self.changes.values())
        return Effect(
            rate=np.repeat([float(one.rate) for one in of], each),
            share=None
            if of[0].share is None
            else np.repeat([float(one.share or 0.0) for one in of], each),
            latency=np.repeat([float(one.latency) for one in of], each),
        )


class Source(ABC):
    """Windows as the peers get them."""

    @abstractmethod
    def draw(self, effect: Effect = NO_EFFECT) -> Numbers:
        """Return the next window."""


class _FromWindows(Source):
    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.raw = np.zeros(streams.number)

    def draw(self, effect: Effect = NO_EFFECT) -> Numbers:
        window = self.streams.draw(effect)
        if np.isnan(window.count).all():
            count = np.round(window.value * WIDTH_S)
            return Numbers(count, count)
        self.raw[window.pair] = window.value
        hits = np.zeros(len(self.raw))
        hits[window.pair] = np.round(window.value * window.count)
        return Numbers(self.raw.copy(), hits)


class Counts(Case):
    """Requests per window, whose level may wander."""

    signal = "requests"

    def __init__(self, mean: float, dispersion: float, wobble: float = 0.0) -> None:
        law = "Poisson" if np.isinf(dispersion) else f"NB r={dispersion:g}"
        self.name = f"{law}{f', wanders {100 * wobble:g} %' if wobble else ''}, {mean:g}"
        self.law = Law(mean=mean, dispersion=dispersion, wobble=wobble, memory=MEMORY)
        self.changes = {f"x{factor:g}": Effect(rate=factor) for factor in COUNT_FACTORS}

    def streams(self, number: int, seed: int) -> Streams:
        """See `Case`."""
        return CountStreams(number, self.law, seed=seed, width=WIDTH_S)

    def scaled(self, factor: Floats) -> Effect:
        """See `Case`."""
        return Effect(rate=factor)

    def source(self, number: int, seed: int) -> Source:
        """See `Case`."""
        return _FromWindows(self.streams(number, seed))


class Errors(Case):
    """Failed attempts out of Poisson many, alone or in clumps, as retries come."""

    signal = "connect_errors"

    def __init__(self, attempts: float, share: float, clump: float = 1.0) -> None:
        self.attempts, self.share, self.clump = attempts, share, clump
        clumps = f", clumps of {clump:g}" if clump > 1.0 else ""
        self.name = f"{100 * share:g} %{clumps}, {attempts:g}"
        self.changes = {f"{100 * one:g} %": Effect(share=one) for one in SHARES}

    def within(self, number: int) -> tuple[Effect, Floats]:
        """See `Case`; only increases of a share are judged."""
        factor = np.resize([1.0, 1.0 + edge(self.signal) / self.share], number)
        return self.scaled(factor), factor

    def streams(self, number: int, seed: int) -> Streams:
        """See `Case`."""
        law = Law(mean=self.attempts)
        return RatioStreams(
            number, law, share=self.share, clump=self.clump, seed=seed, width=WIDTH_S
        )

    def scaled(self, factor: Floats) -> Effect:
        """See `Case`."""
        return Effect(share=self.share * factor)

    def source(self, number: int, seed: int) -> Source:
        """See `Case`."""
        return _FromWindows(self.streams(number, seed))


class Latencies(Case):
    """Latency samples, whose median may wander; the peers get the window's median."""

    signal = "request_latency"
    counted = False

    def __init__(self, samples: float, wobble: float = 0.0) -> None:
        self.samples, self.wobble = samples, wobble
        self.name = f"{f'wanders {100 * wobble:g} %' if wobble else 'steady'}, {samples:g}"
        self.changes = {f"{factor:g}x": Effect(latency=factor) for factor in LATENCY_FACTORS}

    def streams(self, number: int, seed: int) -> Streams:
        """See `Case`."""
        return LatencyStreams(
            number,
            Law(mean=self.samples),
            median_s=MEDIAN_S,
            spread=SPREAD,
            wobble=self.wobble,
            memory=MEMORY,
            seed=seed,
            width=WIDTH_S,
        )

    def scaled(self, factor: Floats) -> Effect:
        """See `Case`."""
        return Effect(latency=factor)

    def source(self, number: int, seed: int) -> Source:
        """See `Case`."""
        return _Medians(number, self, seed)


class _Medians(Source):
    """Medians by the law of order statistics, since nobody needs the samples: Beta distributed."""

    def __init__(self, number: int, case: Latencies, seed: int) -> None:
        self.case, self.number = case, number
        self.rng = np.random.Generator(np.random.SFC64(seed))
        self.level = case.wobble * self.rng.standard_normal(number)
        self.raw = np.full(number, MEDIAN_S)

    def draw(self, effect: Effect = NO_EFFECT) -> Numbers:
        """Return the next window."""
        rng = self.rng
        step = self.case.wobble * np.sqrt(1.0 - MEMORY**2)
        if step:
            self.level = MEMORY * self.level + step * rng.standard_normal(self.number)
        size = rng.poisson(self.case.samples, self.number)
        some = np.flatnonzero(size)
        rank = (size[some] + 1) // 2
        log = np.full(self.number, np.nan)
        log[some] = SPREAD * ndtri(rng.beta(rank, size[some] - rank + 1)) + self.level[some]
        log[some] += np.log(np.broadcast_to(effect.latency, self.number)[some])
        self.raw[some] = MEDIAN_S * np.exp(log[some])
        return Numbers(self.raw.copy(), log)


def cases(*, quick: bool) -> dict[str, list[Case]]:
    """Return all laws by the kind of their signal."""
    if quick:
        return {
            "counts": [Counts(10.0, 20.0), Counts(10.0, 20.0, 0.15)],
            "errors": [Errors(10.0, 0.01)],
            "latencies": [Latencies(10.0)],
        }
    steady = [Counts(size, r) for r in (np.inf, 20.0, 4.0) for size in SIZES]
    return {
        "counts": steady + [Counts(size, 20.0, 0.15) for size in SIZES[1:]],
        "errors": [Errors(size, p0) for p0 in (0.001, 0.01) for size in SIZES]
        + [Errors(size, 0.01, 3.0) for size in SIZES[1:]],
        "latencies": [Latencies(size) for size in SIZES]
        + [Latencies(size, 0.1) for size in SIZES[1:]],
    }
