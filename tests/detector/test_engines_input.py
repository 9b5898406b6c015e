"""What every engine makes of odd input: numbers, rows and windows that are not as they should."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from conformance import MODELS, constant, fresh, restarted, small, told
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.window import Window


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


def test_windows_of_another_length_are_learned_anew() -> None:
    engine = fresh("river-adwin")
    assert told(engine, constant(200)) == []
    longer = [
        dataclasses.replace(w, time=1.7e9 + 200 + 5 * i, width=5.0, nominal=5.0)
        for i, w in enumerate(constant(100))
    ]
    assert told(engine, longer) == []
    assert engine.learning() == (0, 5)
