"""What must hold of our own detector whatever the data; test_engines*.py ask the rest of all."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from conformance import eventful, told
from traffic import PairModel, between, simulate

from detector import state
from detector.engine import Detector
from probes.window import Pair


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


def test_nan_rows_neither_alarm_nor_teach() -> None:
    windows = eventful(60)
    extra = dataclasses.replace(windows[-1], value=np.full(len(windows[-1]), np.nan))
    spoilt = [*windows, *(dataclasses.replace(extra, time=extra.time + 1 + i) for i in range(50))]
    assert told(Detector(), spoilt) == []


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


def test_a_newer_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data, written = Detector().to_bytes(), state.VERSION
    monkeypatch.setattr(state, "VERSION", 0)
    with pytest.raises(ValueError, match=f"version {written}"):
        Detector.from_bytes(data)


def test_findings_are_in_order() -> None:
    for window_findings in (Detector().firing(), told(Detector(), eventful(100))):
        for one, two in pairwise(window_findings):
            assert one.detected <= two.detected or two.ended is not None
