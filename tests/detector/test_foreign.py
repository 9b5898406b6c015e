"""Recordings of others: long windows, unknown widths, medians without histograms, gauges."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from traffic import SIGNALS, PairModel, Rows, Traffic, between, simulate

from detector.engine import Detector
from detector.finding import Finding
from probes.window import Pair, Window, no_histograms
from tests.program import windows

PAIR = Pair("web", "db", 5432)


def told(windows: list[Window]) -> list[Finding]:
    detector = Detector()
    return [f for window in windows for f in detector.update(window)]


def stretched(windows: list[Window], seconds: float, *, known: bool) -> list[Window]:
    """Return the windows as if each had taken `seconds` (its rates fall accordingly)."""
    rates = [SIGNALS.index(s) for s in ("connections", "requests", "bytes_sent", "bytes_received")]
    return [
        dataclasses.replace(
            window,
            time=1.7e9 + i * seconds,
            width=seconds if known else float("nan"),
            nominal=seconds if known else float("nan"),
            value=np.where(np.isin(window.signal, rates), window.value / seconds, window.value),
        )
        for i, window in enumerate(windows)
    ]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seconds", [5.0, 60.0])
def test_windows_of_any_length(seconds: float, known: bool) -> None:
    fault = between(70, 100, latency_s=0.03)
    windows = list(simulate([PairModel(pair=PAIR, fault=fault)], 140))
    found = told(stretched(windows, seconds, known=known))
    assert (found[0].signal, found[0].state) == ("request_latency", "firing")
    assert {f.signal for f in found} == {"request_latency"}
    assert found[0].detected <= 1.7e9 + (70 + 4) * seconds


def test_medians_without_histograms() -> None:
    fault = between(70, 100, latency_s=0.03)
    windows = list(simulate([PairModel(pair=PAIR, fault=fault)], 140))
    bare = [dataclasses.replace(w, histograms=no_histograms()) for w in windows]
    found = told(bare)
    assert [(f.signal, f.direction, f.state) for f in found] == [
        ("request_latency", "up", "firing"),
        ("request_latency", "up", "resolved"),
    ]
    assert found[0].detected <= 1.7e9 + 80
    assert found[0].ratio == pytest.approx(15, rel=0.3)


def test_an_empty_window_is_nothing() -> None:
    detector = Detector()
    empty = Rows().window(1.7e9, ())
    assert detector.update(empty) == []
    assert len(detector.scores()) == 0


def gauge(values: np.ndarray, spacing: float = 60.0) -> list[Window]:
    return [
        Window(
            time=1.7e9 + i * spacing,
            width=float("nan"),
            nominal=float("nan"),
            lost=0,
            pairs=(PAIR,),
            signals=("queue_depth",),
            pair=np.zeros(1, np.int32),
            signal=np.zeros(1, np.int16),
            value=np.array([value]),
            count=np.array([np.nan]),
        )
        for i, value in enumerate(values)
    ]


def daily(days: int, rng: np.random.Generator) -> np.ndarray:
    at = np.arange(days * 1440)
    return 100 + 30 * np.sin(2 * np.pi * at / 1440) + rng.normal(0, 3, len(at))


def test_a_gauge_follows_the_day_and_shows_a_jump() -> None:
    values = daily(5, np.random.default_rng(0))
    values[6000:6020] += 60.0
    found = told(gauge(values))
    assert [(f.signal, f.direction, f.state) for f in found] == [
        ("queue_depth", "up", "firing"),
        ("queue_depth", "up", "resolved"),
    ]
    assert found[0].onset == pytest.approx(1.7e9 + 6000 * 60, abs=120)
    assert found[0].detected <= 1.7e9 + 6006 * 60


def test_scores_rank_a_spike_of_a_gauge_first() -> None:
    values = daily(5, np.random.default_rng(1))
    values[6500] += 40.0
    detector = Detector()
    scores = []
    for window in gauge(values):
        detector.update(window)
        scores.append(float(detector.scores()[0]))
    assert int(np.argmax(scores[1440:])) + 1440 == 6500


@pytest.mark.parametrize(
    ("normal", "fault"),
    [
        (Traffic(), between(0, 9999, reset=1.0)),
        (Traffic(), between(0, 9999, reset=0.5)),
        (Traffic(connection_rate=0.0), between(200, 202, connection_rate=30.0)),
        (
            Traffic(connection_rate=0.0),
            lambda i, t: dataclasses.replace(t, connection_rate=40.0 * (i % 150 == 149), reset=1.0),
        ),
        (Traffic(), lambda i, t: dataclasses.replace(t, request_rate=100 * 2 ** (i / 1200))),
    ],
    ids=["always reset", "half reset", "reconnects", "resets at the end of runs", "slow ramp"],
)
def test_habits_and_drift_are_no_findings(normal: Traffic, fault: object) -> None:
    model = PairModel(pair=PAIR, normal=normal, fault=fault)  # type: ignore[arg-type]
    assert told(list(simulate([model], 800))) == []


def test_a_job_that_bursts_every_minute_is_no_finding() -> None:
    idle = Traffic(request_rate=0.0, connection_rate=0.0)
    burst = Traffic(request_rate=200.0, connection_rate=5.0)
    model = PairModel(pair=PAIR, fault=lambda i, _: burst if i % 60 < 5 else idle)
    assert told(list(simulate([model], 900))) == []


def test_a_share_without_its_attempts_is_judged() -> None:
    rng, detector = np.random.default_rng(3), Detector()
    found = []
    for tick in range(260):
        share = rng.binomial(400, 0.3 if tick >= 250 else 0.002) / 400
        row, at = (PAIR, "connect_errors", share, np.nan), 1.7e9 + 60.0 * tick
        found += detector.update(windows.window([row], time=at, width=60.0, nominal=60.0))
    assert [(f.signal, f.direction, f.onset) for f in found] == [
        ("connect_errors", "up", 1.7e9 + 250 * 60)
    ]
