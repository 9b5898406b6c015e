"""Many streams of one kind with a known law, at about the cost of their random numbers.

For runs that hold the detector against its promise: M streams, one row each, window by window.

    streams = CountStreams(20_000, Law(mean=10, dispersion=20, wobble=0.15, memory=0.9), seed=1)
    for window in streams.windows(3600):
        detector.update(window)
    for window in streams.windows(60, Effect(rate=2.0)):  # and now everything doubles
        detector.update(window)

The expected number of events of a stream in a window is

    mean * (1 + daily * sin(2 pi (time / 86400 + phase))) * exp(w - wobble**2 / 2)

where w is a stationary Gaussian AR(1) series, one per stream, with standard deviation `wobble` and
lag-1 correlation `memory`. Around that the events are Poisson, or negative binomial by a gamma
factor of its own in each window. To have all over-dispersion autocorrelated, and none of it new in
each window, leave `dispersion` infinite and set `wobble=wobble_of(dispersion)`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from probes.histogram import quantile_by_group_s
from probes.window import Histograms, Kind, Pair, Window, kind_of, no_histograms
from tailrace.simulation.laws import (
    BEGIN,
    DAY_S,
    NO_EFFECT,
    Effect,
    Floats,
    Law,
    Per,
    need,
    wobble_of,
)
from tailrace.simulation.samples import bucket_of_float, histograms_of

__all__ = [
    "BEGIN",
    "NO_EFFECT",
    "Common",
    "CountStreams",
    "Effect",
    "LatencyStreams",
    "Law",
    "RatioStreams",
    "Streams",
    "SumStreams",
    "wobble_of",
]  # fmt: skip

_CHUNK: Final = 1024
"""Streams whose latencies are drawn at once."""


class Common(TypedDict, total=False):
    """What all streams take by keyword.

    Attributes:
        seed: of all that is random; 0.
        width: length of a window, seconds; 1.
        begin: start of the first window, epoch seconds; `BEGIN`.
        servers: how many servers the pairs are spread over; None: each has its own.
    """

    seed: int
    width: float
    begin: float
    servers: int | None


class Streams(ABC):
    """M streams of one signal, one service pair each.

    The tuples `pairs` and `signals` are the same objects in every window; so are `pair`, `signal`
    and an empty `count` as long as every stream has a row. They are never written to again, nor
    may they be. The same arguments give the same windows.

    Attributes:
        time: start of the next window, epoch seconds.
        pairs: tuple[Pair, M].
    """

    def __init__(
        self,
        number: int,
        law: Law,
        *,
        signal: str,
        seed: int = 0,
        width: float = 1.0,
        begin: float = BEGIN,
        servers: int | None = None,
    ) -> None:
        """Take M streams of one law; see `Common` for the rest."""
        self._rng = np.random.Generator(np.random.SFC64(seed))
        self.number, self.law, self.width, self.time = number, law, width, begin
        self._first, self._tick = begin, 0
        self.pairs = tuple(
            Pair(f"client-{i}", f"server-{i if servers is None else i % servers}", 80)
            for i in range(number)
        )
        self.signals = (signal,)
        self._every = np.arange(number, dtype=np.int32)
        self._signal = np.zeros(number, np.int16)
        self._empty = np.full(number, np.nan)
        self._mean = np.asarray(law.mean, np.float64)
        wobble = np.asarray(law.wobble, np.float32)
        memory = np.asarray(law.memory, np.float32)
        self._memory, self._step = memory, wobble * np.sqrt(1 - memory**2)
        self._correction = (wobble**2 / 2).astype(np.float32)
        self._wobbles = bool(np.any(wobble > 0))
        self._w = self._normal(number) * wobble
        self._dispersion = np.asarray(law.dispersion, np.float64)
        self._finite = np.isfinite(self._dispersion)
        if isinstance(law.phase, str):
            if law.phase != "random":
                raise ValueError(f'phase is a number or "random", not {law.phase!r}')
            self._phase: Floats = self._rng.random(number)
        else:
            self._phase = np.asarray(law.phase, np.float64)

    def windows(self, number: int, effect: Effect = NO_EFFECT) -> Iterator[Window]:
        """Yield the next windows, all under one effect."""
        return (self.draw(effect) for _ in range(number))

    def draw(self, effect: Effect = NO_EFFECT) -> Window:
        """Return the next window."""
        window = self._window(self._intensity() * effect.rate, effect)
        self._tick += 1
        self.time = self._first + self._tick * self.width
        return window

    @abstractmethod
    def _window(self, mean: Floats, effect: Effect) -> Window:
        """Return the window whose streams expect float64[M] events."""

    def _intensity(self) -> Floats:
        """Return float64[M]: the expected events of the next window, gamma factor included."""
        mean = np.broadcast_to(self._mean, self.number)
        if self.law.daily is not None and np.any(np.asarray(self.law.daily) > 0):
            turn = 2 * np.pi * (self.time / DAY_S + self._phase)
            mean = mean * (1.0 + self.law.daily * np.sin(turn))
        if self._wobbles:
            if self._tick:
                self._w *= self._memory
                self._w += self._normal(self.number) * self._step
            mean = mean * np.exp(self._w - self._correction)
        if self._finite.all():
            r = self._dispersion
            mean = mean * (self._rng.standard_gamma(r, self.number) / r)
        elif self._finite.any():
            r = np.broadcast_to(self._dispersion, self.number)[self._finite]
            mean = np.array(mean)
            mean[self._finite] *= self._rng.standard_gamma(r) / r
        return mean

    def _normal(self, number: int) -> NDArray[np.float32]:
        return self._rng.standard_normal(number, np.float32)

    def _make(
        self,
        value: Floats,
        count: Floats | None = None,
        *,
        rows: NDArray[np.int64] | None = None,
        histograms: Histograms | None = None,
    ) -> Window:
        """Return a window of all streams, or of `rows` only; values are of those rows."""
        every = rows is None
        return Window(
            time=self.time,
            width=self.width,
            nominal=self.width,
            lost=0,
            pairs=self.pairs,
            signals=self.signals,
            pair=self._every if every else self._every[rows],
            signal=self._signal[: len(value)],
            value=value,
            count=self._empty if count is None else count,
            histograms=no_histograms() if histograms is None else histograms,
        )


class CountStreams(Streams):
    """Events per second, such as `requests`: one row per stream in every window, 0 included."""

    def __init__(
        self, number: int, law: Law, *, signal: str = "requests", **common: Unpack[Common],
    ) -> None:  # fmt: skip
        """Take M streams of one law."""
        _need_kind(signal, Kind.COUNT)
        super().__init__(number, law, signal=signal, **common)

    def _window(self, mean: Floats, effect: Effect) -> Window:
        del effect
        return self._make(self._rng.poisson(mean) / self.width)


class SumStreams(Streams):
    """Amounts per second, such as `bytes_sent`: each event brings a gamma-distributed size."""

    def __init__(
        self, number: int, law: Law, *, size: float = 1000.0, variation: float = 1.5,
        signal: str = "bytes_sent", **common: Unpack[Common],
    ) -> None:  # fmt: skip
        """Take M streams of one law.

        Args:
            number: M.
            law: of their events.
            size: mean of an event's size.
            variation: standard deviation of a size over its mean, > 0.
            signal: its name.
            **common: see `Common`.
        """
        _need_kind(signal, Kind.SUM)
        super().__init__(number, law, signal=signal, **common)
        self._size, self._variation = size, variation

    def _window(self, mean: Floats, effect: Effect) -> Window:
        del effect
        # the sum of n gamma variables of one shape is gamma of n times that shape
        squared = self._variation**2
        shape = self._rng.poisson(mean) / squared
        amount = self._rng.standard_gamma(shape) * (self._size * squared)
        return self._make(amount / self.width)


class RatioStreams(Streams):
    """Failures of attempts, such as `connect_errors`: a row where there was an attempt.

    Given the attempts, failures are binomial with share p. With `clump` above 1 they come in
    clumps of geometric size with that mean, as retries do: so many more attempts, too.
    """

    def __init__(
        self, number: int, law: Law, *, share: Per = 0.001, clump: float = 1.0,
        signal: str = "connect_errors", **common: Unpack[Common],
    ) -> None:  # fmt: skip
        """Take M streams of one law.

        Args:
            number: M.
            law: of their events.
            share: p, the share of events that fail, in [0, 1].
            clump: mean number of failures that come at once, >= 1.
            signal: its name.
            **common: see `Common`.
        """
        _need_kind(signal, Kind.RATIO)
        super().__init__(number, law, signal=signal, **common)
        self._share, self._clump = share, clump

    def _window(self, mean: Floats, effect: Effect) -> Window:
        share = self._share if effect.share is None else effect.share
        # A Poisson number of events, each a failure by chance, is two independent Poisson
        # numbers: cheaper than binomial, and the same law
        failed = self._rng.poisson(mean * share / self._clump)
        if self._clump > 1.0:
            some = np.flatnonzero(failed)
            failed[some] += self._rng.negative_binomial(failed[some], 1.0 / self._clump)
        attempts = failed + self._rng.poisson(mean * (1.0 - np.asarray(share)))
        if attempts.all():
            return self._make(failed / attempts, attempts.astype(np.float64))
        rows = np.flatnonzero(attempts)
        count = attempts[rows].astype(np.float64)
        return self._make(failed[rows] / count, count, rows=rows)


class LatencyStreams(Streams):
    """Latencies as histograms, such as `request_latency`: a row where there was an event.

    Log-normal around a median, whose logarithm wobbles as an AR(1) series of its own; a share
    `slow_share` of the samples takes `slow_factor` times as long, as cache misses do.
    """

    def __init__(
        self, number: int, law: Law, *, median_s: Per = 0.002, spread: float = 0.5,
        wobble: Per = 0.0, memory: Per = 0.0, slow_share: float = 0.0, slow_factor: float = 10.0,
        signal: str = "request_latency", **common: Unpack[Common],
    ) -> None:  # fmt: skip
        """Take M streams of one law.

        Args:
            number: M.
            law: of their events.
            median_s: median latency, seconds; 1 µs to 1 h.
            spread: standard deviation of the logarithm of one sample.
            wobble: standard deviation of the logarithm of the median, stationary.
            memory: its correlation from one window to the next, in [0, 1).
            slow_share: share of samples that are slow.
            slow_factor: how much slower they are.
            signal: its name.
            **common: see `Common`.
        """
        _need_kind(signal, Kind.LATENCY)
        super().__init__(number, law, signal=signal, **common)
        need((np.asarray(median_s) >= 1e-6) & (np.asarray(median_s) <= 3600.0),
              "median_s is from 1 µs to 1 h")  # fmt: skip
        self._log_ns = np.log(np.asarray(median_s, np.float64) * 1e9).astype(np.float32)
        self._spread = np.float32(spread)
        memory32, wobble32 = np.asarray(memory, np.float32), np.asarray(wobble, np.float32)
        self._level_memory = memory32
        self._level_step = wobble32 * np.sqrt(1 - memory32**2)
        self._level_wobbles = bool(np.any(wobble32 > 0))
        self._level = self._normal(number) * wobble32
        self._slow = (slow_share, np.float32(math.log(slow_factor)))

    def _window(self, mean: Floats, effect: Effect) -> Window:
        number = self._rng.poisson(mean)
        if self._level_wobbles and self._tick:
            self._level *= self._level_memory
            self._level += self._normal(self.number) * self._level_step
        median = self._log_ns + self._level + np.log(np.asarray(effect.latency, np.float32))
        histograms = self._histograms(number, median.astype(np.float32), effect)
        rows = np.flatnonzero(number)
        row, bucket, entries = histograms
        _, value, _ = quantile_by_group_s(row.astype(np.int64), bucket.astype(np.int64),
                                          entries, 0.5)  # fmt: skip
        count = number[rows].astype(np.float64)
        if len(rows) == self.number:
            return self._make(value, count, histograms=histograms)
        place = np.cumsum(number > 0, dtype=np.int32) - np.int32(1)
        return self._make(value, count, rows=rows,
                          histograms=histograms._replace(row=place[row]))  # fmt: skip

    def _histograms(
        self, number: NDArray[np.int64], median: NDArray[np.float32], effect: Effect
    ) -> Histograms:
        """Return the histograms of all streams; `row` is the stream's number."""
        parts = []
        for at in range(0, self.number, _CHUNK):
            # in chunks, so that samples stay in the cache
            stream, sample = self._samples(number[at : at + _CHUNK], median[at:], effect)
            some = histograms_of(stream, bucket_of_float(sample), _CHUNK)
            parts.append(some._replace(row=some.row + np.int32(at)))
        return Histograms(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _samples(
        self, number: NDArray[np.int64], median: NDArray[np.float32], effect: Effect
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        stream = np.repeat(np.arange(len(number), dtype=np.int32), number)
        z = self._normal(len(stream))
        sample = z * self._spread
        sample += median[stream]
        share, shift = self._slow
        if share > 0.0:
            sample += shift * (self._rng.random(len(stream), np.float32) < share)
        if effect.tail != 1.0:
            sample += np.float32(math.log(effect.tail)) * (z > _upper_normal(effect.tail_share))
        return stream, np.exp(sample)


def _upper_normal(share: float) -> float:
    from scipy.special import ndtri  # noqa: PLC0415 - slow to import

    return float(-ndtri(share))


def _need_kind(signal: str, kind: Kind) -> None:
    if kind_of(signal) is not kind:
        raise ValueError(f"{signal} is no {kind.value}, but a {kind_of(signal).value}")
