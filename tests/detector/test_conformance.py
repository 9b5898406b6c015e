"""What must hold of the detector whatever the data."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from traffic import PairModel, Traffic, between, simulate

from detector import state
from detector.engine import Detector
from detector.finding import Finding
from probes.window import Histograms, Pair, Window

SIGNALS = ("connections", "requests", "bytes_sent", "connect_errors", "request_latency", "cpu")


def eventful(ticks: int = 260) -> list[Window]:
    """Windows with most kinds of events: faults, a new pair, a silence, flapping, sparse rows."""
    both = {"request_rate": 0.0, "connection_rate": 0.0}
    models = [
        PairModel(pair=Pair("a", "web", 80), fault=between(60, 80, latency_s=0.03)),
        PairModel(pair=Pair("b", "web", 80), fault=between(70, 95, refused=1.0)),
        PairModel(pair=Pair("c", "web", 80), fault=between(90, 130, **both)),
        PairModel(pair=Pair("d", "web", 80), start=75),
        PairModel(pair=Pair("e", "web", 80), normal=Traffic(request_rate=2, connection_rate=0.3)),
    ]
    return list(simulate(models, ticks, seed=3))


def told(detector: Detector, windows: list[Window]) -> list[Finding]:
    return [f for window in windows for f in detector.update(window)]


def shuffled(window: Window, rng: np.random.Generator) -> Window:
    """Return the same window with its rows, pairs and signals in another order."""
    order = rng.permutation(len(window))
    place = np.argsort(order)
    pair_order = rng.permutation(len(window.pairs))
    entries = window.histograms
    rows = place[entries.row]
    by = np.lexsort((entries.bucket, rows))
    return dataclasses.replace(
        window,
        pairs=tuple(window.pairs[i] for i in pair_order),
        pair=np.argsort(pair_order)[window.pair][order].astype(np.int32),
        signal=window.signal[order],
        value=window.value[order],
        count=window.count[order],
        histograms=Histograms(rows[by].astype(np.int32), entries.bucket[by], entries.number[by]),
        causes={int(place[row]): causes for row, causes in window.causes.items()},
    )


def test_the_same_windows_give_the_same_findings_and_state() -> None:
    windows = eventful()
    one, two = Detector(), Detector()
    first = told(one, windows)
    assert first == told(two, windows)
    assert [dict(f.evidence) for f in first]
    assert one.to_bytes() == two.to_bytes()
    assert {f.signal for f in first} >= {
        "request_latency",
        "connect_errors",
        "new_pair",
        "requests",
    }


def test_the_order_of_rows_leaves_no_trace() -> None:
    windows = eventful()
    rng = np.random.default_rng(0)
    one, two = Detector(), Detector()
    assert told(one, windows) == told(two, [shuffled(w, rng) for w in windows])
    assert one.to_bytes() == two.to_bytes()


@pytest.mark.parametrize("cut", [1, 30, 62, 72, 100, 140])
def test_a_restored_detector_continues_as_if_never_stopped(cut: int) -> None:
    windows = eventful(180)
    whole, first = Detector(), Detector()
    expected = told(whole, windows)
    begun = told(first, windows[:cut])
    second = Detector.from_bytes(first.to_bytes())
    assert second.firing() == first.firing()
    assert begun + told(second, windows[cut:]) == expected
    assert second.to_bytes() == whole.to_bytes()


def test_scores_follow_the_rows_and_mark_the_fault() -> None:
    windows = eventful(90)
    detector = Detector()
    for tick, window in enumerate(windows):
        detector.update(window)
        scores = detector.scores()
        assert scores.shape == (len(window),)
        assert ((scores >= 0) & (scores <= 1)).all()
        if tick == 66:
            worst = int(scores.argmax())
            assert window.pairs[window.pair[worst]].client == "a"
            assert window.signals[window.signal[worst]] == "request_latency"


def test_every_finding_that_fires_also_ends() -> None:
    detector = Detector()
    found = told(detector, eventful())
    assert detector.firing() == [
        f for f in found if f.state == "firing" and f.id not in {g.id for g in found if g.ended}
    ]
    assert [f.signal for f in detector.firing()] == ["new_pair"]


def small(tick: float, value: float, count: float, *, pairs: int = 3, **changes: object) -> Window:
    rows = [(p, s) for p in range(pairs) for s in range(len(SIGNALS))]
    fields: dict[str, object] = {
        "time": 1.7e9 + tick,
        "width": 1.0,
        "nominal": 1.0,
        "lost": 0,
        "pairs": tuple(Pair(f"c{i}", "s", 1) for i in range(pairs)),
        "signals": SIGNALS,
        "pair": np.array([p for p, _ in rows], np.int32),
        "signal": np.array([s for _, s in rows], np.int16),
        "value": np.full(len(rows), value),
        "count": np.full(len(rows), count),
    }
    return Window(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-300, 1e12, np.nan, np.inf, -np.inf, -1.0])
@pytest.mark.parametrize("count", [np.nan, 0.0, 1.0, 1e6])
def test_constant_and_odd_numbers_give_no_finding(value: float, count: float) -> None:
    detector = Detector()
    assert told(detector, [small(i, value, count) for i in range(150)]) == []
    Detector.from_bytes(detector.to_bytes())


@settings(max_examples=10, deadline=None)
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
@example([(1.3611294271189345e42, 0.0, 0.5), (2.041694140678402e41, 0.0, 0.5)])
def test_no_input_breaks_it(rows: list[tuple[float, float, float]]) -> None:
    detector = Detector()
    told(detector, [small(i, 5.0, 10.0) for i in range(60)])
    for i, (value, count, width) in enumerate(rows):
        detector.update(small(60 + i, value, count, width=width))
        assert np.isfinite(detector.scores()).all()


def test_nan_rows_neither_alarm_nor_teach() -> None:
    windows = eventful(60)
    extra = dataclasses.replace(windows[-1], value=np.full(len(windows[-1]), np.nan))
    spoilt = [*windows, *(dataclasses.replace(extra, time=extra.time + 1 + i) for i in range(50))]
    assert told(Detector(), spoilt) == []


@pytest.mark.parametrize("changes", [{"lost": 3}, {"width": 2.0}, {"width": 0.0}])
def test_masked_windows_are_not_read(changes: dict[str, object]) -> None:
    windows = eventful(60)
    last = windows[-1].time
    zero = [
        dataclasses.replace(
            windows[-1], value=np.zeros(len(windows[-1])), time=last + 1 + i, **changes
        )  # type: ignore[arg-type]
        for i in range(60)
    ]
    assert told(Detector(), [*windows, *zero]) == []


def test_a_few_lost_samples_do_not_blind() -> None:
    model = PairModel(pair=Pair("a", "b", 1), fault=between(70, 100, latency_s=0.03))
    windows = [dataclasses.replace(w, lost=1) for w in simulate([model], 100)]
    assert "request_latency" in {finding.signal for finding in told(Detector(), windows)}


def test_a_gap_in_time_is_not_a_change() -> None:
    windows = list(simulate([PairModel(pair=Pair("a", "b", 1))], 200))
    later = [dataclasses.replace(w, time=w.time + 7200) for w in windows[100:]]
    assert told(Detector(), [*windows[:100], *later]) == []


def test_windows_that_come_again_are_ignored() -> None:
    windows = list(simulate([PairModel(pair=Pair("a", "b", 1))], 120))
    detector = Detector()
    told(detector, windows)
    before = state.unpack(detector.to_bytes())[1]
    assert told(detector, windows[-4:]) == []
    after = state.unpack(detector.to_bytes())[1]
    assert all(np.array_equal(before[k], after[k], equal_nan=True) for k in before)


def test_after_a_clock_set_back_faults_are_still_found() -> None:
    model = PairModel(pair=Pair("a", "b", 1), fault=between(150, 180, latency_s=0.03))
    windows = list(simulate([model], 220))
    set_back = [
        *windows[:100],
        *(dataclasses.replace(w, time=w.time - 3600) for w in windows[100:]),
    ]
    found = told(Detector(), set_back)
    assert [(f.signal, f.state) for f in found] == [
        ("request_latency", "firing"),
        ("request_latency", "resolved"),
    ]
    assert found[0].detected <= 1_700_000_000 - 3600 + 155


def test_memory_is_bounded() -> None:
    windows = list(simulate([PairModel(pair=Pair("a", "b", 1))], 1400))
    detector = Detector()
    told(detector, windows[:700])
    middle = state.unpack(detector.to_bytes())[1]
    told(detector, windows[700:])
    end = state.unpack(detector.to_bytes())[1]
    assert {k: a.shape for k, a in middle.items()} == {k: a.shape for k, a in end.items()}


def test_pairs_long_gone_are_forgotten() -> None:
    detector = Detector()
    told(detector, eventful(100))
    week = 8 * 86_400.0
    later = simulate([PairModel(pair=Pair("a", "web", 80))], 1100, begin=1.7e9 + week)
    found = told(detector, list(later))
    assert detector.learning().judged + detector.learning().learning == 10
    assert [f for f in found if f.state == "firing"] == []
    Detector.from_bytes(detector.to_bytes())


def test_a_broken_state_is_refused_with_a_reason() -> None:
    detector = Detector()
    told(detector, eventful(20))
    data = detector.to_bytes()
    with pytest.raises(ValueError, match="not the state"):
        Detector.from_bytes(b"hello")
    with pytest.raises(ValueError, match="damaged"):
        Detector.from_bytes(data[:-5])
    with pytest.raises(ValueError, match="damaged"):
        Detector.from_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])


def test_a_newer_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data, written = Detector().to_bytes(), state.VERSION
    monkeypatch.setattr(state, "VERSION", 0)
    with pytest.raises(ValueError, match=f"version {written}"):
        Detector.from_bytes(data)


def test_findings_are_in_order() -> None:
    for window_findings in (Detector().firing(), told(Detector(), eventful(100))):
        for one, two in pairwise(window_findings):
            assert one.detected <= two.detected or two.ended is not None
