"""What `scripts/bench detection` measures with measures right."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from scipy import stats

from benchmarks.curves import Curve, false_alerts, halves, prepare, threshold_for
from benchmarks.detection_cost import state_bytes
from benchmarks.detection_docs import page
from benchmarks.detection_laws import Baseline, Errors, Latencies, edge
from benchmarks.detection_laws import Counts as Requests
from benchmarks.detection_sections import outside
from benchmarks.detection_tilt import Counts, Null, Tilts, alarms
from detector.engine import Detector
from detector.settings import DetectorSettings
from tailrace.simulation.laws import Law
from tailrace.simulation.streams import CountStreams

LAWS = [Null(1.0, np.inf), Null(5.0, 20.0), Null(5.0, 20.0, 0.9), Null(20.0, 4.0, 0.5)]


def chance_of(null: Null, level: float, windows: int, *, tilted: bool) -> tuple[float, float]:
    """Return the chance that a stream ever reaches `level` events in a window, and its error."""
    counts = Counts(null, 10_000, seed=1)
    tilts = Tilts(counts, windows, seed=2) if tilted else None
    total, done = np.zeros(counts.number), np.zeros(counts.number, bool)
    for window in range(windows):
        drawn = counts.draw(1.0, *(tilts.now(window) if tilts else (1.0, 0.0)))
        weight = tilts.weights(window, drawn) if tilts else np.ones(counts.number)
        first = (drawn[0] >= level) & ~done
        total[first] = weight[first]
        done |= first
    return total.mean(), total.std() / np.sqrt(counts.number)


def test_importance_sampling_finds_a_chance_that_is_known() -> None:
    # P(Poisson(1) >= 12) = 8e-10: in 10,000 streams of 30 windows nobody would ever see it
    exact = -np.expm1(30 * np.log1p(-stats.poisson.sf(11, 1.0)))
    got, error = chance_of(Null(1.0, np.inf), 12.0, 30, tilted=True)
    assert error < 0.2 * exact
    assert abs(got - exact) < 4 * error


@pytest.mark.parametrize("null", LAWS, ids=lambda null: null.name)
def test_importance_sampling_agrees_with_counting(null: Null) -> None:
    wander = null.wobble**2 if null.memory else 0.0
    deviation = np.sqrt(null.mean + null.mean**2 * (1.0 / null.dispersion + wander))
    level = np.ceil(null.mean + 4.0 * deviation)
    plain, by_counting = chance_of(null, level, 30, tilted=False)
    tilted, by_weight = chance_of(null, level, 30, tilted=True)
    assert plain > 10 * by_counting / 4  # the event is common enough to count
    assert abs(plain - tilted) < 4 * np.hypot(by_counting, by_weight)


def test_null_streams_have_the_law_of_the_simulator() -> None:
    null = Null(20.0, 20.0, 0.9)
    ours = Counts(null, 4000, seed=3)
    law = Law(mean=20.0, dispersion=20.0, wobble=null.wobble, memory=0.9)
    theirs = CountStreams(4000, law, seed=4, width=10.0)
    mine = np.array([ours.draw()[0] for _ in range(30)])
    simulated = np.array([w.value * 10.0 for w in theirs.windows(30)])
    assert mine.mean() == pytest.approx(simulated.mean(), rel=0.01)
    assert mine.var() == pytest.approx(simulated.var(), rel=0.03)
    wander = [np.mean((x[1:] - x.mean()) * (x[:-1] - x.mean())) for x in (mine, simulated)]
    assert wander[0] == pytest.approx(wander[1], rel=0.1)


def test_alarms_of_a_detector_are_counted_once_and_weighed() -> None:
    null = Null(100.0, 100.0)
    counts = Counts(null, 50, seed=5)
    detector = Detector(DetectorSettings(false_alerts_per_week=1.0))
    for _ in range(120):
        detector.update(counts.window(counts.draw()[0]))
    data = detector.to_bytes()
    quiet = alarms(detector, copy.deepcopy(counts), scale=1.0, windows=60, tilts=None)
    assert quiet.sum() == 0.0
    loud = Detector.from_bytes(data, DetectorSettings(false_alerts_per_week=1.0))
    found = alarms(loud, copy.deepcopy(counts), scale=6.0, windows=60, tilts=None)
    assert (found == 1.0).all()
    again = copy.deepcopy(counts)
    rare = Detector.from_bytes(data, DetectorSettings(false_alerts_per_week=1.0))
    weighed = alarms(rare, again, scale=1.0, windows=60, tilts=Tilts(again, 60, seed=6))
    assert (weighed > 0.0).sum() > 10
    assert weighed.mean() < 1e-4


@pytest.mark.parametrize("samples", [1.0, 10.0])
def test_medians_for_the_peers_have_the_law_of_the_samples(samples: float) -> None:
    case = Latencies(samples)
    source, streams = case.source(4000, 1), case.streams(4000, 2)
    given = np.concatenate([source.draw().x for _ in range(5)])
    windows = [window.value for window in streams.windows(5)]
    real = np.log(np.concatenate(windows) / 0.02)
    known = given[~np.isnan(given)]
    assert len(known) == pytest.approx(len(real), rel=0.03)
    # an even number of samples has two in the middle, and a bucket is 6 % wide
    assert known.mean() == pytest.approx(real.mean(), abs=0.06)
    assert known.std() == pytest.approx(real.std(), rel=0.1)


def test_half_of_the_streams_that_set_thresholds_are_at_the_edges() -> None:
    counts, errors = Requests(10.0, 20.0), Errors(100.0, 0.01)
    most = 1.0 + edge("requests")
    effect, factor = counts.within(4000)
    assert sorted(set(factor)) == [1.0 / most, 1.0, most]
    assert (factor == 1.0).mean() == 0.5
    source = counts.source(4000, 1)
    drawn = np.mean([source.draw(effect).x for _ in range(40)], axis=0)
    for one in set(factor):
        assert drawn[factor == one].mean() == pytest.approx(10.0 * one, rel=0.02)
    effect, factor = errors.within(4000)
    source = errors.source(4000, 2)
    failed = np.mean([source.draw(effect).x for _ in range(40)], axis=0)
    assert failed[factor == 1.0].mean() == pytest.approx(1.0, rel=0.05)
    more = 100.0 * (0.01 + edge("connect_errors"))
    assert failed[factor > 1.0].mean() == pytest.approx(more, rel=0.05)


def test_what_peers_learn_of_a_stream_without_a_failure_is_finite() -> None:
    baseline = Baseline(2, counted=True)
    for n in range(100):
        baseline.learn(np.array([0.0, float(n % 2)]))
    z = baseline.z(np.array([1.0, 1.0]))
    assert np.isfinite(z).all()
    assert z[0] == pytest.approx((1.0 - 0.005) / np.sqrt(0.005))


def curve(label: list[tuple[int, int]], minutes: int = 600) -> Curve:
    marks = np.zeros(minutes, bool)
    for start, end in label:
        marks[start : end + 1] = True
    return Curve(60.0 * np.arange(minutes), np.zeros(minutes), marks)


def test_the_protocol_of_the_curves() -> None:
    one = curve([(100, 110), (400, 400)])
    score = np.zeros(600)
    score[95] = 3.0  # five minutes before the first event: it is found, at once
    score[130] = 9.0  # within half an hour of where its reach ends: ignored
    score[[200, 208, 216]] = 5.0  # one false alarm, merged
    score[[300]] = 2.0  # another, lower
    score[415] = 7.0  # more than ten minutes after the second event: not found, and ignored
    scored = prepare(one, score, 0.0, 36_000.0)
    assert [event.score.max() for event in scored.events] == [3.0, 0.0]
    assert [event.windows for event in scored.events] == [11, 1]
    assert scored.events[0].time[0] == scored.events[0].start - 300.0
    assert false_alerts([scored], 1.0) == 2
    assert false_alerts([scored], 4.0) == 1
    assert threshold_for([scored], 1.0 / scored.weeks) == 5.0
    assert false_alerts([scored], threshold_for([scored], 0.0)) == 0
    # an event belongs to the half that it starts in
    known, later = halves(one, score, 0.0)
    assert (len(known.events), len(later.events)) == (1, 1)
    assert false_alerts([known], 1.0) == 1  # the other is at the middle, and of the later half


def test_cells_are_told_apart_by_their_worst_place() -> None:
    def cell(ratio: float, low: float) -> dict[str, float]:
        return {"ratio": ratio, "low": low, "high": 2 * ratio, "alarms": 50.0}

    law = {
        "law": "r=20",
        "mean": 1.0,
        "cells": {
            "a": {"centre": cell(0.01, 0.0), "upper edge": cell(0.5, 0.3)},
            "b": {"centre": cell(0.01, 0.0), "upper edge": cell(3.0, 2.0)},
            "c": {"centre": cell(0.01, 0.0), "upper edge": cell(1.2, 0.8)},
            "d": {"centre": cell(0.01, 0.0), "upper edge": cell(0.05, 0.0)},
        },
    }
    found = outside({"laws": [law]})
    assert {name: len(cells) for name, cells in found.items()} == {
        "within": 1, "above": 1, "perhaps above": 1, "below": 1,
    }  # fmt: skip


def test_bytes_of_state_grow_with_the_streams() -> None:
    def bytes_of(streams: int) -> int:
        detector = Detector()
        for window in CountStreams(streams, Law(), width=10.0).windows(3):
            detector.update(window)
        return state_bytes(detector)

    small, large = bytes_of(500), bytes_of(4000)
    assert 5.0 < large / small < 11.0
    assert large > 4000 * 50
    assert (large - small) / 3500 < 450.0


def test_a_page_without_results_says_so() -> None:
    text = page({"parts": {}})
    assert text.count("Not measured yet") == 5
    assert "{" not in text.replace("${", "")
