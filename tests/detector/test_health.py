"""The watch over the nulls, and the e-detector's own guarantees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from detector import evidence
from detector.causes import Causes
from detector.health import EVERY, MOST_NATS, Health
from probes.window import Kind


def fed(values: list[float]) -> Health:
    health = Health()
    for value in values:
        health.update(Kind.COUNT, value)
    return health


def test_a_true_null_costs_nothing() -> None:
    assert fed([0.6] * 10 * EVERY).penalty[Kind.COUNT] == 0.0


def test_a_false_null_raises_the_threshold_and_recovers() -> None:
    health = fed([0.6] * 4 * EVERY + [1.3] * 4 * EVERY)
    assert 3.0 < health.penalty[Kind.COUNT] <= MOST_NATS
    for _ in range(8 * EVERY):
        health.update(Kind.COUNT, 0.6)
    assert health.penalty[Kind.COUNT] == 0.0


def test_a_restored_watch_goes_on_alike() -> None:
    values = ([0.7] * 100 + [1.2] * 150) * 3
    cut = fed(values[:333])
    restored = Health.from_state(cut.to_state())
    for value in values[333:]:
        restored.update(Kind.COUNT, value)
    assert restored.to_state() == fed(values).to_state()


@pytest.mark.parametrize(("mean", "shape"), [(0.5, 2.0), (30.0, 5.0), (200.0, 50.0)])
def test_negative_binomial_e_values_average_one(mean: float, shape: float) -> None:
    x = np.arange(20_000.0)[:, None]
    factor = np.array([0.1, 0.5, 1.5, 3.0])
    log_l = evidence.negative_binomial(x, np.float64(mean), np.float64(shape), factor)
    chance = stats.nbinom.logpmf(x, shape, shape / (shape + mean))
    np.testing.assert_allclose(np.exp(chance + log_l).sum(axis=0), 1.0, rtol=1e-6)


def test_binomial_e_values_average_one() -> None:
    hits = np.arange(31.0)
    log_l = evidence.binomial(hits, np.float64(30.0), np.float64(0.1), np.float64(0.4))
    assert stats.binom.pmf(hits, 30, 0.1) @ np.exp(log_l) == pytest.approx(1.0)


@given(st.integers(1, 10**6), st.floats(0.01, 1e4), st.floats(0.01, 3600))
def test_the_threshold_is_the_budget(streams: int, per_week: float, spacing: float) -> None:
    log_c = float(evidence.log_threshold(streams, np.array([spacing]), per_week)[0])
    windows = evidence.SECONDS_PER_WEEK / spacing
    assert streams * windows / np.exp(log_c) <= per_week * (1 + 1e-9)
    more = evidence.log_threshold(10 * streams, np.array([spacing]), per_week)[0]
    assert log_c <= more <= log_c + np.log(10) + 1e-9


def test_one_window_cannot_raise_r_beyond_its_cap() -> None:
    r = np.zeros((2, 1), np.float32)
    log_l = np.array([[50.0], [-3.0]], np.float32)
    evidence.step(r, log_l, np.array([5.0], np.float32))
    np.testing.assert_allclose(r, np.exp([[5.0], [-3.0]]), rtol=1e-5)


def test_the_main_cause_is_the_most_frequent_and_then_the_first() -> None:
    causes = Causes()
    causes.add(7, {"timed_out": 2, "refused": 1})
    assert causes.main(7) == "timed_out"
    causes.add(7, {"refused": 1})
    assert causes.main(7) == "refused"
    assert causes.main(8) == ""
    causes.drop([7])
    assert not causes
