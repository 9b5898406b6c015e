"""What must hold of every engine, ours and river's."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from conformance import eventful, shuffled, small, told
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic import PairModel, Rows, Traffic, between, simulate

from detector import engines
from detector.engines import Engine
from detector.settings import DetectorSettings
from probes.window import Kind, Pair, Window

MODELS = (
    *engines.KNOWN,
    "river-holt-winters(seasonality=20)",
    "river:anomaly.HalfSpaceTrees(n_trees=3, height=4, window_size=50)",  # with a seed
    "river:anomaly.GaussianScorer",  # supervised
)
PAIR = Pair("web", "api", 8080)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fresh(model: str) -> Engine:
    return engines.new(DetectorSettings(model=model))


def restarted(engine: Engine, model: str) -> Engine:
    return engines.restore(engine.to_bytes(), DetectorSettings(model=model))


def gross(ticks: int = 320) -> list[Window]:
    """One pair: its requests stop, its latency is twenty times as long, half its connects fail."""
    change = between(200, 260, request_rate=0.0, refused=0.5, latency_s=0.04, connection_rate=20.0)
    normal = Traffic(connection_rate=20.0)
    slow = between(200, 260, latency_s=0.04)
    models = [
        PairModel(pair=PAIR, normal=normal, fault=change),
        PairModel(pair=Pair("cron", "db", 5432), normal=normal, fault=slow),
    ]
    return list(simulate(models, ticks, wobble=0.02, tail=0.2, seed=11))


def constant(ticks: int, *, change: int | None = None) -> list[Window]:
    """Windows without any chance in them; from `change` on all is other than before."""
    windows = []
    for tick in range(ticks):
        now = change is not None and tick >= change
        rows = Rows()
        rows.add(0, "requests", 400.0 if now else 100.0)
        rows.add(0, "connections", 5.0)
        rows.add(0, "bytes_sent", 100.0 if now else 30_000.0)
        rows.add(0, "connect_errors", 0.4 if now else 0.0, 50.0)
        rows.add_latency(0, "request_latency", np.full(100, 0.1 if now else 0.002))
        windows.append(rows.window(1.7e9 + tick, (PAIR,)))
    return windows


def test_the_same_windows_give_the_same_findings_and_state(model: str) -> None:
    windows = eventful()
    one, two = fresh(model), fresh(model)
    assert told(one, windows) == told(two, windows)
    assert one.to_bytes() == two.to_bytes()


def test_the_order_of_rows_leaves_no_trace(model: str) -> None:
    windows, rng = eventful(180), np.random.default_rng(0)
    one, two = fresh(model), fresh(model)
    assert told(one, windows) == told(two, [shuffled(w, rng) for w in windows])
    assert one.to_bytes() == two.to_bytes()


@pytest.mark.parametrize("cut", [1, 62, 95, 140])
def test_a_restored_engine_continues_as_if_never_stopped(model: str, cut: int) -> None:
    windows = eventful(170)
    whole, first = fresh(model), fresh(model)
    expected = told(whole, windows)
    begun = told(first, windows[:cut])
    second = restarted(first, model)
    assert second.firing() == first.firing()
    assert second.to_bytes() == first.to_bytes()
    for window in windows[cut:]:
        ended = second.update(window)
        begun += ended
        assert ended == first.update(window)
        assert second.scores().tobytes() == first.scores().tobytes()
    assert begun == expected
    assert second.to_bytes() == whole.to_bytes()


def test_a_long_life_may_be_interrupted_at_any_window(model: str) -> None:
    """Past the point where histories are full and baselines are taken anew."""
    change = between(1500, 1560, latency_s=0.04)
    windows = list(simulate([PairModel(pair=PAIR, fault=change)], 1700, wobble=0.02, tail=0.2))
    whole = fresh(model)
    expected = told(whole, windows)
    broken, found = fresh(model), []
    for start in range(0, 1700, 97):
        found += told(broken, windows[start : start + 97])
        broken = restarted(broken, model)
    assert found == expected
    assert broken.to_bytes() == whole.to_bytes()


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


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-300, 1e12, np.nan, np.inf, -np.inf, -1.0])
@pytest.mark.parametrize("count", [np.nan, 0.0, 1.0, 1e6])
def test_odd_numbers_give_no_finding(model: str, value: float, count: float) -> None:
    engine = fresh(model)
    assert told(engine, [small(i, value, count) for i in range(80)]) == []
    restarted(engine, model)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True),
            st.floats(allow_nan=True, allow_infinity=True),
            st.sampled_from([0.0, 0.5, 1.0, 2.0, np.nan]),
        ),
        min_size=1,
        max_size=30,
    )
)
@pytest.mark.parametrize("model", MODELS)
def test_no_input_breaks_it(model: str, rows: list[tuple[float, float, float]]) -> None:
    engine = fresh(model)
    told(engine, [small(i, 5.0, 10.0) for i in range(60)])
    for i, (value, count, width) in enumerate(rows):
        engine.update(small(60 + i, value, count, width=width))
        scores = engine.scores()
        assert np.isfinite(scores).all()
        assert ((scores >= 0) & (scores <= 1)).all()
    assert restarted(engine, model).to_bytes() == engine.to_bytes()


@pytest.mark.parametrize(
    "changes", [{"lost": 30}, {"width": 2.0}, {"width": 0.0}, {"width": -1.0}, {"time": math.nan}]
)
def test_masked_windows_are_not_read(model: str, changes: dict[str, object]) -> None:
    """Nor learned from: after them all is as if they had not been."""
    windows = constant(100)
    bad = constant(200, change=0)[100:160]
    later = constant(200)[160:]
    engine = fresh(model)
    assert told(engine, windows) == []
    masked = [dataclasses.replace(w, **changes) for w in bad]  # type: ignore[arg-type]
    assert told(engine, masked) == []
    assert told(engine, later) == []


def test_windows_that_come_again_or_late_are_ignored(model: str) -> None:
    windows = constant(100)
    engine, calm = fresh(model), fresh(model)
    told(engine, windows)
    told(calm, windows)
    late = constant(90, change=80)[80:84]
    assert told(engine, late) == []
    more = constant(160)[100:]
    assert told(engine, more) == told(calm, more) == []
    assert engine.to_bytes() == calm.to_bytes()


def test_of_a_row_that_is_there_twice_the_lower_value_counts(model: str) -> None:
    def doubled(window: Window) -> Window:
        entries = window.histograms
        first, n = entries.row, len(window)
        return dataclasses.replace(
            window,
            pair=np.tile(window.pair, 2),
            signal=np.tile(window.signal, 2),
            value=np.concatenate([window.value * 3.0, window.value]),
            count=np.tile(window.count, 2),
            histograms=type(entries)(
                np.concatenate([first, first + n]).astype(np.int32),
                np.tile(entries.bucket, 2),
                np.tile(entries.number, 2),
            ),
        )

    windows = constant(120)
    engine = fresh(model)
    assert told(engine, [doubled(w) if i > 60 else w for i, w in enumerate(windows)]) == []
    assert sum(engine.learning()) == 5


def test_missing_rows_are_not_zero(model: str) -> None:
    windows = constant(400)
    few = [
        dataclasses.replace(
            w,
            pair=w.pair[:1],
            signal=w.signal[:1],
            value=w.value[:1],
            count=w.count[:1],
            histograms=type(w.histograms)(*(a[:0] for a in w.histograms)),
        )
        if 150 <= i < 170
        else w
        for i, w in enumerate(windows)
    ]
    found = told(fresh(model), few)
    # that nothing is measured any more may be told of the pair, never of a signal
    assert {f.signal for f in found} <= {"silent_pair"}


def test_after_a_clock_set_back_faults_are_still_found(model: str) -> None:
    if "anomaly" in model:
        pytest.skip("an anomaly model says what is rare, not that it lasts")
    windows = constant(400, change=300)
    set_back = [
        dataclasses.replace(w, time=w.time - 3600) if i >= 150 else w for i, w in enumerate(windows)
    ]
    found = told(fresh(model), set_back)
    assert {f.signal for f in found} >= {"requests", "request_latency"}
    assert min(f.detected for f in found) >= 1.7e9 + 300 - 3600


def test_pairs_long_gone_are_forgotten(model: str) -> None:
    engine = fresh(model)
    told(engine, eventful(100))
    many = sum(engine.learning())
    week = 8 * 86_400.0
    later = simulate([PairModel(pair=Pair("a", "web", 80))], 1100, begin=1.7e9 + week)
    told(engine, list(later))
    assert sum(engine.learning()) == 10 < many
    assert restarted(engine, model).to_bytes() == engine.to_bytes()


def test_the_state_is_bounded(model: str) -> None:
    engine = fresh(model)
    windows = list(simulate([PairModel(pair=PAIR)], 2400))
    told(engine, windows[:800])
    middle = len(engine.to_bytes())
    told(engine, windows[800:])
    # the history may be fuller, and is compressed as it happens to be
    assert len(engine.to_bytes()) < 3 * middle


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


def test_a_broken_state_is_refused_with_a_reason(model: str) -> None:
    engine, knobs = fresh(model), DetectorSettings(model=model)
    told(engine, eventful(20))
    data = engine.to_bytes()
    with pytest.raises(ValueError, match="not the state"):
        engines.restore(b"hello", knobs)
    with pytest.raises(ValueError, match="damaged"):
        engines.restore(data[:-5], knobs)
    middle = len(data) // 2
    with pytest.raises(ValueError, match="damaged"):
        engines.restore(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], knobs)


@pytest.mark.parametrize("wrote", MODELS[:3])
@pytest.mark.parametrize("asked", ["tailrace", "river-page-hinkley", "river-adwin(delta=0.1)"])
def test_the_state_of_another_engine_is_refused_by_name(wrote: str, asked: str) -> None:
    if wrote == asked:
        return
    engine = fresh(wrote)
    told(engine, eventful(20))
    with pytest.raises(ValueError, match=f'of the model "{wrote}".* is "{asked[:10]}'):
        engines.restore(engine.to_bytes(), DetectorSettings(model=asked))


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


def test_windows_of_another_length_are_learned_anew() -> None:
    engine = fresh("river-adwin")
    assert told(engine, constant(200)) == []
    longer = [
        dataclasses.replace(w, time=1.7e9 + 200 + 5 * i, width=5.0, nominal=5.0)
        for i, w in enumerate(constant(100))
    ]
    assert told(engine, longer) == []
    assert engine.learning() == (0, 5)
