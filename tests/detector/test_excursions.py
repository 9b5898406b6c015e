"""What is learned of changes that come back by themselves, and of those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from detector.blocks import BLOCK, FIRING, HELD_BACK, JUDGED
from detector.counts import CountBank
from detector.latencies import LatencyBank
from detector.parts import Obs
from detector.seasons import LEAST_LONGER, LONGER, MOST_AWAY
from detector.settings import DetectorSettings

HERE = np.array([0])
RATE = 100.0


def counts(live: int = JUDGED) -> CountBank:
    """Return one stream of 100 events a second that has been judged for a while."""
    bank = CountBank()
    bank.add(np.zeros(1), ["requests"], DetectorSettings())
    rng = np.random.default_rng(1)
    for _ in range(60):
        block(bank, rng.poisson(RATE, BLOCK), live=0)
    bank.table["live"][:] = live
    return bank


def block(bank: CountBank, rates: np.ndarray, live: int | None = None) -> None:
    """Have a bank close a block of windows of a second."""
    if live is not None:
        bank.table["live"][:] = live
    for rate in rates:
        obs = Obs(np.array([rate], np.float32), np.ones(1, np.float32))
        bank.absorb(HERE, obs)
        bank._close_blocks(HERE, np.zeros(0, np.int64))


def learned(bank: CountBank) -> float:
    return float(bank.table["base"][-1, 0])


def came_back(bank: CountBank, rate: float, windows: int) -> None:
    run = np.array([[rate * windows], [rate**2 * windows], [windows]], np.float64)
    bank.came_back(HERE, run)


def test_an_excursion_is_not_learned_and_is_forgotten_when_it_lasts_too_long() -> None:
    bank, longest = counts(), 40
    came_back(bank, 3.0 * RATE, longest)
    upper = 3.0 * RATE * np.exp(0.2)
    assert np.exp(bank.table["high"][0]) > upper
    before, limit = learned(bank), float(LONGER * longest + LEAST_LONGER)
    blocks = 0
    while not np.isnan(bank.table["high"][0]):
        block(bank, np.full(BLOCK, 3.0 * RATE))
        blocks += 1
        assert learned(bank) <= before + BLOCK  # the one that waited
    assert limit < blocks * BLOCK <= limit + BLOCK
    assert bank.forgiven(HERE)[0] == blocks * BLOCK
    # without evidence against it, it is what is normal in the end
    while bank.forgiven(HERE)[0] > 0:
        block(bank, np.full(BLOCK, 3.0 * RATE))
        blocks += 1
    assert blocks * BLOCK == pytest.approx(float(MOST_AWAY) * limit, abs=2 * BLOCK)
    at_last = learned(bank)
    block(bank, np.full(BLOCK, 3.0 * RATE))
    block(bank, np.full(BLOCK, 3.0 * RATE))
    assert learned(bank) > at_last


def test_an_excursion_that_ends_in_time_begins_anew() -> None:
    bank = counts()
    came_back(bank, 3.0 * RATE, 40)
    for _ in range(5):
        for _ in range(8):
            block(bank, np.full(BLOCK, 3.0 * RATE))
        block(bank, np.full(BLOCK, RATE))
        assert bank.table["away"][0] == 0.0
    assert not np.isnan(bank.table["high"][0])
    assert bank.forgiven(HERE)[0] == 0.0


def test_the_longest_excursion_counts_with_what_it_was_forgiven() -> None:
    bank = counts()
    came_back(bank, 3.0 * RATE, 40)
    while bank.forgiven(HERE)[0] == 0.0:
        block(bank, np.full(BLOCK, 3.0 * RATE))
    forgiven = float(bank.forgiven(HERE)[0])
    came_back(bank, 3.0 * RATE, 20)
    assert float(bank.table["longest"][0]) == forgiven + 20.0


@pytest.mark.parametrize(("live", "remembers"), [(JUDGED, True), (FIRING, False)])
def test_a_stream_that_is_still_away_has_not_come_back_with_others(
    live: int, remembers: bool
) -> None:
    bank = counts(live)
    bank.came_along(HERE, np.array([np.log(3.0)], np.float32), np.array([40.0], np.float32))
    assert np.isnan(bank.table["high"][0]) != remembers


def test_a_young_latency_waits_before_it_learns_what_is_beyond_its_band() -> None:
    bank = LatencyBank()
    bank.add(np.zeros(1), ["request_latency"], DetectorSettings())
    level = float(np.log(0.02))
    bank.table["base"][:, 0] = [100.0 * level, 100.0 * level**2, 100.0]
    bank.refresh(HERE)
    bank.table["live"][:] = JUDGED
    unused = np.zeros(1, np.float32)

    def admits(beyond: float) -> bool:
        middle = float(bank.table["upper"][0]) + beyond
        moments = np.array([[BLOCK * middle], [BLOCK * middle**2], [BLOCK]], np.float32)
        return bool(bank.admits(HERE, moments, unused)[0])

    assert admits(-0.05)
    assert [admits(0.05) for _ in range(HELD_BACK + 1)] == [False] * HELD_BACK + [True]
