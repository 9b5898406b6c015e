"""What every engine, ours and river's, finds and says, and how models are named."""

from __future__ import annotations

import dataclasses

import pytest
from conformance import PAIR, constant, eventful, fresh, gross, told
from traffic import Rows

from detector import engines
from detector.settings import DetectorSettings
from probes.window import Kind


def test_scores_follow_the_rows(model: str) -> None:
    engine = fresh(model)
    for window in eventful(90):
        engine.update(window)
        scores = engine.scores()
        assert scores.shape == (len(window),)
        assert ((scores >= 0) & (scores <= 1)).all()


def test_a_gross_change_is_found_and_ends(model: str) -> None:
    if "anomaly" in model:
        pytest.skip("an anomaly model says what is rare, not that it lasts")
    engine, found, scored = fresh(model), [], 0.0
    for tick, window in enumerate(gross()):
        found += engine.update(window)
        if tick == 203:
            requests = [window.signals[s] == "requests" for s in window.signal]
            scored = float(engine.scores()[requests].max())
        if tick == 199:
            assert found == []
    begun = {(f.pair.client, f.signal, f.direction) for f in found if f.state == "firing"}
    assert {("web", "requests", "down"), ("web", "connect_errors", "up")} <= begun
    assert ("cron", "request_latency", "up") in begun
    slow = next(f for f in found if f.pair.client == "cron" and f.signal == "request_latency")
    assert slow.before == pytest.approx(0.002, rel=0.3)
    assert slow.after == pytest.approx(0.04, rel=0.4)
    assert slow.onset == pytest.approx(1.7e9 + 200, abs=3)
    assert slow.detected <= 1.7e9 + 260
    assert scored > 0.5
    ended = {f.id: f.state for f in found if f.ended is not None}
    # what fires later is the slow swing of latencies, which is there as well
    sure = {("web", "requests"), ("web", "connect_errors"), ("cron", "request_latency")}
    mine = [f for f in found if f.detected < 1.7e9 + 260 and (f.pair.client, f.signal) in sure]
    assert len({f.id for f in mine}) == 3
    assert {ended[f.id] for f in mine} == {"resolved"}


def test_an_anomaly_model_finds_rare_values_in_a_row() -> None:
    found = told(fresh("river:anomaly.GaussianScorer"), gross())
    assert ("web", "requests", "down") in {
        (f.pair.client, f.signal, f.direction) for f in found if f.detected <= 1.7e9 + 210
    }


def test_a_change_that_lasts_is_adopted_and_a_second_one_found(model: str) -> None:
    if "anomaly" in model:
        pytest.skip("an anomaly model says what is rare, not that it lasts")
    engine = fresh(model)
    first = told(engine, constant(1100, change=200))
    assert {f.signal for f in first if f.state == "adopted"} >= {"requests", "request_latency"}
    assert engine.firing() == []
    later = [dataclasses.replace(w, time=w.time + 1100) for w in constant(120)]
    second = told(engine, later)
    assert ("requests", "down") in {(f.signal, f.direction) for f in second}


def test_it_is_quiet_on_constant_traffic(model: str) -> None:
    engine = fresh(model)
    assert told(engine, constant(900)) == []
    learning, judged = engine.learning()
    assert (learning, judged) == (0, 5)


def test_what_it_says_of_itself(model: str) -> None:
    engine = fresh(model)
    if not hasattr(engine, "calibration"):
        pytest.skip("this engine does not say it yet")
    told(engine, gross())
    kinds = {c.kind: c for c in engine.calibration()}
    assert Kind.PRESENCE not in kinds
    count = kinds[Kind.COUNT]
    assert 1 <= count.streams <= 4
    assert 0 < count.stream_weeks < 4 * 320 / 604_800
    assert sum(c.expected for c in kinds.values()) <= 320 / 604_800
    if "anomaly" not in model:
        assert sum(c.realised for c in kinds.values()) >= 3
    for change in engine.changes():
        assert change.direction in ("up", "down")


def test_models_are_found_by_name() -> None:
    assert engines.check("tailrace") == "tailrace"
    assert engines.check(" river-adwin( delta = 1e-9 ) ") == "river-adwin(delta=1e-09)"
    assert engines.check("river:drift.PageHinkley(mode='up')") == (
        "river:drift.PageHinkley(mode='up')"
    )
    for wrong in (
        "",
        "tailrace(fast=True)",
        "adwin",
        "river:ADWIN",
        "river:drift.ADWIN(0.1)",
        "river:drift.ADWIN(delta=[1])",
        "river:drift.ADWIN(delta=__import__('os'))",
        "river:drift.ADWIN(**{})",
        "river-adwin(delta=1)(clock=1)",
        "river:drift.binary.DDM",
        "river:os.path.join",
        "river-holt-winters(multiplicative=True, seasonality=4)",
        "river-holt-winters(k=0)",
    ):
        with pytest.raises(ValueError, match=r"model|options|class|k > 0|neither"):
            engines.check(wrong)


def test_a_change_too_small_to_tell_is_a_change_all_the_same() -> None:
    knobs = DetectorSettings(model="river-adwin", min_change={"requests": 5.0})
    engine = engines.new(knobs)
    found = told(engine, constant(400, change=200))
    assert "requests" not in {f.signal for f in found}
    (change,) = [c for c in engine.changes() if c.signal == "requests"]
    assert (change.pair, change.direction) == (PAIR, "up")
    assert change.onset == pytest.approx(1.7e9 + 200, abs=2)
    assert (change.before, change.after) == (pytest.approx(100), pytest.approx(400, rel=0.05))
    assert change.nats > 10


def test_a_season_is_forecast() -> None:
    """A job once in 60 windows is expected, and missed when it does not come."""
    engines_ = [fresh("river-holt-winters"), fresh("river-holt-winters(seasonality=60)")]
    scores: list[list[float]] = [[], []]
    for tick in range(1000):
        rows = Rows()
        runs = tick % 60 < 3 and tick < 960
        rows.add(0, "requests", 900.0 if runs else 100.0)
        for engine, each in zip(engines_, scores, strict=True):
            engine.update(rows.window(1.7e9 + tick, (PAIR,)))
            each.append(float(engine.scores()[0]))
    plain, knowing = scores
    assert plain[900] > 3 * knowing[900]
    assert knowing[960] > 3 * plain[960]
