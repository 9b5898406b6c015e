"""Traffic that jitters but has not changed gives no findings, and the budget is honoured."""

from __future__ import annotations

import numpy as np
import pytest
from traffic import PairModel, Traffic, simulate

from detector.engine import Detector
from detector.settings import DetectorSettings
from probes.window import Pair, Window

KINDS = [
    Traffic(),
    Traffic(request_rate=3, connection_rate=0.2, latency_s=0.0003),
    Traffic(request_rate=1000, connection_rate=50, latency_s=0.0001),
    Traffic(request_rate=20, connection_rate=1, latency_s=0.02),
    Traffic(request_rate=0.5, connection_rate=0.5, latency_s=0.05),
    Traffic(request_rate=200, connection_rate=0.0, latency_s=0.005),
]


@pytest.mark.parametrize(("seed", "memory"), [(0, 0.5), (1, 0.9), (2, 0.97)])
def test_half_an_hour_of_jittery_traffic_is_quiet(seed: int, memory: float) -> None:
    models = [
        PairModel(pair=Pair(f"c{i}", "web", 80), normal=k, base_failures=0.001, base_loss=0.0005)
        for i, k in enumerate(KINDS)
    ]
    detector = Detector()
    windows = simulate(models, 1800, seed=seed, memory=memory, hiccups=0.02)
    assert [f for window in windows for f in detector.update(window)] == []
    assert detector.learning().judged > 40


def flat_windows(
    signal: str, values: np.ndarray, counts: np.ndarray | None = None, begin: float = 1.7e9
) -> list[Window]:
    """Return one window per row of `values` (float64[ticks, streams])."""
    streams = values.shape[1]
    pairs = tuple(Pair(f"c{i}", "s", 1) for i in range(streams))
    nothing = np.full(streams, np.nan)
    return [
        Window(
            time=begin + tick,
            width=1.0,
            nominal=1.0,
            lost=0,
            pairs=pairs,
            signals=(signal,),
            pair=np.arange(streams, dtype=np.int32),
            signal=np.zeros(streams, np.int16),
            value=row,
            count=nothing if counts is None else counts[tick],
        )
        for tick, row in enumerate(values)
    ]


STREAMS, TICKS = 2000, 2000
BUDGET = 20.0


def null_values(law: str, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray | None]:
    mean = np.exp(rng.uniform(np.log(0.5), np.log(200), STREAMS))
    drift = np.zeros((TICKS, STREAMS))
    for tick in range(1, TICKS):
        drift[tick] = 0.9 * drift[tick - 1] + rng.normal(0, 0.15 * np.sqrt(1 - 0.81), STREAMS)
    if law == "autocorrelated":
        return "requests", rng.poisson(mean * np.exp(drift)).astype(float), None
    if law == "over-dispersed":
        lam = mean * rng.gamma(4.0, 0.25, (TICKS, STREAMS))
        return "requests", rng.poisson(lam).astype(float), None
    if law == "sums":
        return "bytes_sent", mean * 1000 * np.exp(drift + rng.normal(0, 0.4, drift.shape)), None
    trials = rng.poisson(mean, (TICKS, STREAMS)).astype(float)
    share = rng.beta(0.5, 50.0, STREAMS)
    hits = rng.binomial(trials.astype(int), share)
    return "connect_errors", hits / np.maximum(trials, 1), trials


@pytest.mark.parametrize("law", ["autocorrelated", "over-dispersed", "sums", "ratios"])
def test_realised_false_alarms_stay_within_the_budget(law: str) -> None:
    signal, values, counts = null_values(law, np.random.default_rng(1))
    per_week = BUDGET * 604_800 / TICKS
    detector = Detector(DetectorSettings(false_alerts_per_week=per_week))
    found = [f for w in flat_windows(signal, values, counts) for f in detector.update(w)]
    assert sum(f.state == "firing" for f in found) <= BUDGET
