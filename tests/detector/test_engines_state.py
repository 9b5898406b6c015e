"""Every engine is repeatable and bounded, its state restored exactly, and no other's taken."""

from __future__ import annotations

import numpy as np
import pytest
from conformance import MODELS, PAIR, eventful, fresh, restarted, shuffled, told
from traffic import PairModel, between, simulate

from detector import engines
from detector.settings import DetectorSettings
from probes.window import Pair


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
