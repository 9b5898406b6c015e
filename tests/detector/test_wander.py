"""A level that wanders about the edge of its band alarms no more often than the threshold says."""

from __future__ import annotations

import numpy as np
import pytest

from detector.wander import DEVIATIONS, Wander, lasting

STREAMS, WINDOWS, LOG_C = 4000, 3000, 11.0
DEVIATION, MEMORY, JITTER = 0.15, 0.9, 0.05


def _alarms(variance: np.ndarray, steps: np.ndarray) -> float:
    """Return alarms over what exp(LOG_C) allows, of an AR(1) level with independent jitter."""
    rng = np.random.default_rng(5)
    level = DEVIATION * rng.standard_normal(STREAMS)
    r, alarms = np.zeros((len(steps), STREAMS)), 0
    for _ in range(WINDOWS):
        push = DEVIATION * np.sqrt(1.0 - MEMORY**2) * rng.standard_normal(STREAMS)
        level = MEMORY * level + push
        away = level + JITTER * rng.standard_normal(STREAMS) - DEVIATIONS * DEVIATION
        r = (1.0 + r) * np.exp((steps * away - 0.5 * steps**2) / variance)
        over = r.mean(axis=0) >= np.exp(LOG_C)
        alarms += int(over.sum())
        r[:, over] = 0.0
    return alarms / (STREAMS * WINDOWS / np.exp(LOG_C))


def test_what_lasts_is_taken_from_the_evidence() -> None:
    steps = np.log([[1.2], [1.6], [3.0]])
    long = DEVIATION**2 * (1.0 + MEMORY) / (1.0 - MEMORY)
    wandered = Wander(*(np.array([part]) for part in (DEVIATION**2, 0.0, long)))
    single = np.full_like(steps, DEVIATION**2 + JITTER**2)
    enough = np.maximum(single, lasting(wandered, steps) + JITTER**2)
    assert _alarms(single, steps) > 2.0
    assert _alarms(enough, steps) < 1.0


@pytest.mark.parametrize("deviation", [0.01, 0.05])
def test_a_level_that_hardly_wanders_takes_nothing(deviation: float) -> None:
    wandered = Wander(*(np.array([part]) for part in (deviation**2, 0.0, deviation**2)))
    assert lasting(wandered, np.log([[3.0], [8.0]])) == pytest.approx(0.0)
