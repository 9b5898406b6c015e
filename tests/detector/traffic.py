"""Synthetic traffic of service pairs in one-second windows, with faults to order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from probes.histogram import bucket_of, quantile_s
from probes.window import Histograms, Pair, Window


@dataclass(kw_only=True)
class Traffic:
    """One pair's traffic in a window; a fault changes it."""

    request_rate: float = 100.0
    connection_rate: float = 5.0
    latency_s: float = 0.002
    refused: float = 0.0
    reset: float = 0.0
    loss: float = 0.0
    attempts: float | None = None
    request_bytes: float = 300.0
    absent: bool = False


Fault = Callable[[int, Traffic], Traffic]


def healthy(_: int, traffic: Traffic) -> Traffic:
    return traffic


def between(start: int, end: int, **changes: object) -> Fault:
    """Return a fault that sets fields (or maps them, given a function) in windows [start, end)."""

    def fault(tick: int, traffic: Traffic) -> Traffic:
        if not start <= tick < end:
            return traffic
        values = {k: v(getattr(traffic, k)) if callable(v) else v for k, v in changes.items()}
        return replace(traffic, **values)

    return fault


@dataclass(kw_only=True)
class PairModel:
    pair: Pair
    normal: Traffic = field(default_factory=Traffic)
    fault: Fault = healthy
    segments: float = 100.0
    base_failures: float = 0.0
    base_loss: float = 0.0
    start: int = 0


def simulate(
    models: list[PairModel],
    ticks: int,
    *,
    seed: int = 0,
    wobble: float = 0.2,
    memory: float = 0.9,
    tail: float = 0.5,
    hiccups: float = 0.0,
    begin: float = 1_700_000_000.0,
) -> Iterator[Window]:
    """Yield windows: AR(1) log-normal rates, log-normal latencies, shared hiccups of 200 ms."""
    rng = np.random.default_rng(seed)
    drift = rng.normal(0.0, wobble, len(models))
    slow = rng.normal(0.0, 0.1, len(models))
    pairs = tuple(model.pair for model in models)
    for tick in range(ticks):
        drift = memory * drift + rng.normal(0, wobble * np.sqrt(1 - memory**2), len(models))
        slow = 0.95 * slow + rng.normal(0, 0.1 * np.sqrt(1 - 0.95**2), len(models))
        hiccup = rng.random() < hiccups
        table = Rows()
        for i, model in enumerate(models):
            now = model.fault(tick, model.normal)
            if tick >= model.start and not now.absent:
                _fill(table, i, model, now, rng, (drift[i], slow[i], tail, hiccup))
        yield table.window(begin + tick, pairs)


SIGNALS = (
    "connections",
    "requests",
    "bytes_sent",
    "bytes_received",
    "connect_errors",
    "resets",
    "retransmits",
    "connect_latency",
    "request_latency",
    "rtt",
)


class Rows:
    """Rows of a window being built."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, float, float]] = []
        self.entries: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.causes: dict[int, dict[str, int]] = {}

    def add(self, pair: int, signal: str, value: float, count: float = np.nan) -> int:
        self.rows.append((pair, SIGNALS.index(signal), value, count))
        return len(self.rows) - 1

    def add_latency(self, pair: int, signal: str, samples_s: np.ndarray) -> None:
        if len(samples_s) == 0:
            return
        bucket, number = np.unique(bucket_of(samples_s * 1e9), return_counts=True)
        median = float(quantile_s(bucket, number, 0.5))
        self.entries.append((self.add(pair, signal, median, len(samples_s)), bucket, number))

    def window(self, time: float, pairs: tuple[Pair, ...], **changes: object) -> Window:
        pair, signal, value, count = zip(*self.rows, strict=True) if self.rows else ((),) * 4
        histograms = Histograms(
            np.concatenate(
                [np.zeros(0, np.int32), *(np.full(len(b), r, np.int32) for r, b, _ in self.entries)]
            ),
            np.concatenate(
                [np.zeros(0, np.int16), *(b.astype(np.int16) for _, b, _ in self.entries)]
            ),
            np.concatenate([np.zeros(0, np.int64), *(n for _, _, n in self.entries)]),
        )
        fields: dict[str, object] = {
            "time": time,
            "width": 1.0,
            "nominal": 1.0,
            "lost": 0,
            "pairs": pairs,
            "signals": SIGNALS,
            "pair": np.array(pair, np.int32),
            "signal": np.array(signal, np.int16),
            "value": np.array(value, np.float64),
            "count": np.array(count, np.float64),
            "histograms": histograms,
            "causes": self.causes,
        }
        return Window(**{**fields, **changes})  # type: ignore[arg-type]


def _fill(
    table: Rows,
    i: int,
    model: PairModel,
    now: Traffic,
    rng: np.random.Generator,
    noise: tuple[float, float, float, bool],
) -> None:
    drift, slow, tail, hiccup = noise
    pause = 0.7 if hiccup else 1.0
    requests = rng.poisson(now.request_rate * np.exp(drift) * pause)
    mean = now.connection_rate if now.attempts is None else now.attempts
    attempts = rng.poisson(mean * np.exp(drift))
    failed = rng.binomial(attempts, max(now.refused, model.base_failures))
    connections = attempts - failed
    table.add(i, "connections", connections)
    table.add(i, "requests", requests)
    table.add(i, "bytes_sent", requests * now.request_bytes * np.exp(rng.normal(0, 0.1)))
    table.add(i, "bytes_received", float(np.sum(rng.lognormal(6.5, 1.2, requests))))
    if attempts:
        row = table.add(i, "connect_errors", failed / attempts, attempts)
        if failed:
            table.causes[row] = {"refused": int(failed)}
    if connections:
        reset = rng.binomial(connections, now.reset)
        table.add(i, "resets", reset / connections, connections)
    segments = rng.poisson(model.segments * np.exp(drift)) if requests or connections else 0
    if segments:
        lost = rng.binomial(segments, max(now.loss, model.base_loss))
        table.add(i, "retransmits", lost / segments, segments)
    level = np.exp(slow)
    request_s = now.latency_s * level * rng.lognormal(0, tail, requests)
    connect_s = 60e-6 * np.exp(3 * slow) * rng.lognormal(0, tail, connections)
    if hiccup:
        request_s = np.where(rng.random(requests) < 0.5, request_s + 0.2, request_s)
        connect_s = connect_s + 0.2 * (rng.random(connections) < 0.3)
    table.add_latency(i, "request_latency", request_s)
    table.add_latency(i, "connect_latency", connect_s)
    table.add_latency(i, "rtt", 40e-6 * np.exp(3 * slow) * rng.lognormal(0, 0.2, min(3, requests)))
