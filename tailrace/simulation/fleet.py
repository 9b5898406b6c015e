"""Fleets of service pairs: every signal of every pair, and all of a pair's fit together.

Attempts are connections and failures; a failed attempt may be tried again, so that failures bring
attempts. Bytes follow requests, segments follow bytes, and each timed request is one sample. All
of a pair's rates move by one level, and so may its latency.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from probes.window import Histograms, Window
from tailrace.simulation import blocks
from tailrace.simulation.blocks import Bools, Column, Floats, Ints
from tailrace.simulation.conditions import Conditions
from tailrace.simulation.fate import Truth, members, timeline, truths
from tailrace.simulation.levels import WANDER_S, Batches, Seasons, Walk
from tailrace.simulation.samples import bucket_of_float, histograms_of
from tailrace.simulation.scenario import Scenario

TIMED_PER_S = 2000.0
"""Requests of a pair that are timed at most: what the probes promise at least."""
RTO_S = 0.2
"""What a request waits for whose segment was lost: Linux's least retransmission time-out."""
SEGMENT = 1448.0
"""Bytes in a segment."""
_BLOCK, _CELLS, _SAMPLES = 512, 100_000, 1_000_000
"""Windows, windows times pairs, and latency samples in a block at most."""


@dataclass(slots=True, eq=False)
class _Block:
    """What all signals of a block are drawn from; arrays are [B, P].

    Attributes:
        width: float64[B].
        alive: whether the pair is there.
        level: factor on its rates, noise of the window included.
        now: what faults make of its law.
    """

    width: Floats
    alive: Bools
    level: Floats
    now: Conditions


class Fleet:
    """The windows of a scenario. The same arguments give the same windows.

    Attributes:
        pairs: every pair there ever is.
        about: how many windows there will be.
    """

    def __init__(
        self, scenario: Scenario, *, seed: int = 0, window: float | None = None,
        lasts: float | None = None,
    ) -> None:  # fmt: skip
        """Take a scenario.

        Args:
            scenario: who talks, and what happens.
            seed: of all that is random.
            window: length of a window, seconds; the scenario's unless given.
            lasts: how long it runs, seconds; the scenario's unless given.
        """
        self._rng = rng = np.random.Generator(np.random.SFC64(seed))
        self._scenario, self._laws = scenario, scenario.pairs
        self.window = scenario.window if window is None else window
        self.lasts = scenario.lasts if lasts is None else lasts
        self._members = members(scenario)
        self.pairs = tuple(member.pair for member in self._members)
        self.about = math.ceil(self.lasts / self.window - 1e-9)
        self._law = law = np.array([member.law for member in self._members], np.int64)
        self._since = np.array([member.since for member in self._members])
        size = self._of("spread_rates")
        self._size = np.exp(rng.standard_normal(len(law)) * size - size**2 / 2)
        correlation, shared = self._of("correlation"), self._of("shared")
        self._walk = Walk(rng, self._of("wobble"), correlation, law, shared)
        self._wander = Walk(rng, self._of("wander"), np.full(len(law), WANDER_S), law, shared)
        self._slow = Walk(rng, self._of("latency_wobble"), correlation, law, shared, median=True)
        self._seasons = Seasons(self._laws, law)
        self._batches = Batches(rng, self._laws, law)

    def truths(self) -> Iterator[Truth]:
        """Yield what is made to happen in these windows."""
        return truths(self._scenario, self.lasts)

    def _of(self, key: str) -> Floats:
        """Return float64[P] of a key of the laws, which may be true or false."""
        return np.array([getattr(p, key) for p in self._laws], np.float64)[self._law]

    def windows(self) -> Iterator[Window]:
        """Yield the windows."""
        cutter = blocks.Cutter(self.pairs)
        rate = float(np.minimum(self._of("requests"), TIMED_PER_S).sum()) * self.window
        block = int(min(_BLOCK, _CELLS / len(self.pairs), _SAMPLES / max(rate, 1.0))) or 1
        moments = timeline(self._scenario, self.window, self.lasts)
        while some := list(islice(moments, block)):
            start, width = (np.array(part) for part in zip(*some, strict=True))
            columns, lost = self._columns(start, width)
            times = blocks.Times(
                start=self._scenario.begin + start, width=width, nominal=self.window, lost=lost
            )
            yield from cutter.windows(columns, times)

    def _columns(self, start: Floats, width: Floats) -> tuple[list[Column], Ints]:
        rng = self._rng
        now = Conditions(self._scenario, self._members, start, width)
        alive = (start + width)[:, None] > self._since
        # a pair that comes within the window is there for the rest of it
        here = np.clip((start + width)[:, None] - self._since, 0.0, width[:, None])
        walk, wander = self._walk.next(width), self._wander.next(width)
        level = np.exp(walk + wander)
        middle = start + width / 2
        level *= self._seasons.factors(self._scenario.begin + middle, middle)
        level *= self._batches.factors(start, width)
        busy = self._of("queueing") * np.log(level)
        level *= now.rate * here / width[:, None] * now.kept[:, None]
        r = np.array([p.dispersion or math.inf for p in self._laws])[self._law]
        finite = np.isfinite(r)
        if finite.any():
            # dispersion is told of one second: a longer window has so many independent ones
            shape = r[finite] * width[:, None]
            level[:, finite] *= rng.standard_gamma(shape) / shape
        now.slower += self._slow.next(width) + busy
        block = _Block(width, alive, level, now)
        attempts, failed = self._connect(block)
        connections = attempts - failed
        requests = self._requests(block, start, connections)
        columns = [
            blocks.rate("connections", alive, connections, width),
            blocks.rate("requests", alive, requests, width),
            *self._volumes(block, requests),
            *self._ratios(block, requests, connections, attempts, failed),
            *self._latencies(block, requests, connections),
        ]
        waits = self._of("waits")
        if waits.any():
            waited = rng.poisson(waits * level * width[:, None])
            columns.append(blocks.rate("waits", alive & (waits > 0), waited, width))
        lost = rng.poisson((requests + connections).sum(axis=1) * (1 / now.kept - 1))
        return [c for c in columns if c.present.any()] or columns[:1], lost.astype(np.int64)

    def _connect(self, block: _Block) -> tuple[Ints, Ints]:
        """Return attempts and failures; what failed is tried again, as often as it may be."""
        rng = self._rng
        rate = self._of("connections") * self._size
        tried: Ints = rng.poisson(rate * block.level * block.width[:, None])
        share = block.now.share["errors"]
        missed: Ints = rng.binomial(tried, share)
        attempts, failed = tried, missed
        retries = self._of("retries")
        for round_ in range(int(retries.max())):
            tried = missed * (retries > round_)
            missed = rng.binomial(tried, share)
            attempts, failed = attempts + tried, failed + missed
        return attempts, failed

    def _requests(self, block: _Block, start: Floats, connections: Ints) -> Ints:
        base, pooled = self._of("requests"), self._of("pooled") > 0
        rate = base * self._size * block.level
        jobs = self._batches.requests(self._scenario.begin + start, block.width)
        jobs *= block.now.rate * block.now.kept[:, None] * block.alive
        # a connection is made to ask at least once
        further = base / np.maximum(self._of("connections"), 1e-12) - 1.0
        expected = np.where(
            pooled, (rate + jobs) * block.width[:, None], connections * np.maximum(further, 0.0)
        )
        requests: Ints = self._rng.poisson(expected)
        return np.where(pooled, requests, requests + connections)

    def _volumes(self, block: _Block, requests: Ints) -> list[Column]:
        squared = self._of("size_variation") ** 2
        found = []
        for signal, key, view in (
            ("bytes_sent", "request_bytes", "server_bytes_received"),
            ("bytes_received", "answer_bytes", "server_bytes_sent"),
        ):
            # the sum of n gamma variables of one shape is gamma of n times that shape
            amount = self._rng.standard_gamma(requests / squared) * squared * self._of(key)
            found.append(blocks.rate(signal, block.alive, np.rint(amount), block.width))
            seen = block.alive & (self._of("views") > 0)
            found.append(blocks.rate(view, seen, np.rint(amount), block.width))
        seen = block.alive & (self._of("views") > 0)
        found.append(blocks.rate("server_requests", seen, requests, block.width))
        self._segments = np.ceil(requests + found[2].value * block.width[:, None] / SEGMENT)
        return found

    def _ratios(
        self, block: _Block, requests: Ints, connections: Ints, attempts: Ints, failed: Ints
    ) -> list[Column]:
        rng, alive, share = self._rng, block.alive, block.now.share
        tcp, udp = self._over("tcp"), self._over("udp")
        dns = self._of("dns") > 0
        segments = (self._segments * (requests > 0)).astype(np.int64)
        busy = np.minimum(requests, 4)
        reset = rng.binomial(connections, share["resets"])
        again = rng.binomial(segments, share["loss"])
        stalled = rng.binomial(busy, share["stalls"])
        dropped = rng.binomial(requests, share["drops"])
        unanswered = rng.binomial(requests, share["errors"])
        timeout = rng.binomial(again, 0.3)
        causes = {
            cause: np.where(block.now.cause == i, failed, 0)
            for i, cause in enumerate(block.now.causes)
        }
        return [
            blocks.ratio("connect_errors", alive & ~udp, failed, attempts, causes),
            blocks.ratio("resets", alive & tcp, reset, connections, {"by_server": reset}),
            blocks.ratio("retransmits", alive & tcp, again, segments, {"timeout": timeout}),
            blocks.ratio("stalls", alive & tcp, stalled, busy, {"by_server": stalled}),
            blocks.ratio("drops", alive & udp, dropped, requests, {"buffer": dropped}),
            blocks.ratio("dns_errors", alive & dns, unanswered, requests,
                         {"timed_out": unanswered}),
        ]  # fmt: skip

    def _latencies(self, block: _Block, requests: Ints, connections: Ints) -> list[Column]:
        tcp = self._over("tcp")
        views, dns = self._of("views") > 0, self._of("dns") > 0
        limit = np.maximum((TIMED_PER_S * block.width)[:, None], 1.0)
        timed = np.minimum(requests, limit).astype(np.int64)
        whole, served = self._timed(block, timed)
        rtt = self._of("rtt")
        trips = self._around(block, rtt, 0.2, np.minimum(requests, 4))
        handshakes = self._around(block, 1.5 * rtt, 0.3, connections)
        accepts = self._around(block, np.full(len(rtt), 20e-6), 0.3, connections)
        alive = block.alive
        return [
            blocks.latency("request_latency", alive, whole),
            blocks.latency("server_latency", alive & views, served),
            blocks.latency("dns_latency", alive & dns, whole),
            blocks.latency("rtt", alive & tcp, trips),
            blocks.latency("connect_latency", alive & tcp, handshakes),
            blocks.latency("accept_latency", alive & tcp & views, accepts),
        ]

    def _timed(self, block: _Block, timed: Ints) -> tuple[Histograms, Histograms]:
        """Return the histograms of requests as the client and as the server see them."""
        rng, now, law = self._rng, block.now, np.tile(self._law, len(timed))
        stream = np.repeat(np.arange(timed.size, dtype=np.int32), timed.ravel())
        mine = law[stream]
        z = rng.standard_normal(len(stream), np.float32)
        sample = z * _float32([p.spread for p in self._laws])[mine]
        median = np.log(self._of("latency") * 1e9) + now.slower
        sample += median.ravel().astype(np.float32)[stream]
        chance = rng.random(len(stream), np.float32)
        slow = _float32([math.log(p.slow_factor) for p in self._laws])[mine]
        sample += slow * (chance < _float32([p.slow_share for p in self._laws])[mine])
        if now.tail.any():
            tail = z > now.from_z.ravel().astype(np.float32)[stream]
            sample += now.tail.ravel().astype(np.float32)[stream] * tail
        for part, shift in now.partly:
            hit = rng.random(len(stream), np.float32) < part.ravel().astype(np.float32)[stream]
            sample += np.float32(shift) * hit
        taken = np.exp(sample)
        way = _float32([p.rtt * 1e9 for p in self._laws])[mine]
        served = histograms_of(stream, bucket_of_float(taken - way), timed.size)
        lost = 1 - (1 - now.share["loss"]) ** 2  # either of two segments
        lost = np.where(self._over("tcp"), lost, 0.0).ravel().astype(np.float32)
        taken += np.float32(RTO_S * 1e9) * (rng.random(len(stream), np.float32) < lost[stream])
        return histograms_of(stream, bucket_of_float(taken), timed.size), served

    def _around(self, block: _Block, median: Floats, spread: float, number: Ints) -> Histograms:
        """Return histograms of durations that no fault of the server's is in."""
        del block
        stream = np.repeat(np.arange(number.size, dtype=np.int32), number.ravel())
        sample = self._rng.standard_normal(len(stream), np.float32) * np.float32(spread)
        sample += np.tile(np.log(median * 1e9).astype(np.float32), len(number))[stream]
        return histograms_of(stream, bucket_of_float(np.exp(sample)), number.size)

    def _over(self, transport: str) -> Bools:
        return np.array([p.transport == transport for p in self._laws])[self._law]


def _float32(values: list[float]) -> NDArray[np.float32]:
    return np.array(values, np.float32)
