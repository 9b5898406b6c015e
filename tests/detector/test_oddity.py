"""Which pairs are odd among others, and against their own habits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conformance import shuffled
from traffic import Fault, PairModel, Traffic, between, healthy, simulate

from detector.oddity import FEATURES, Habits, Odd, distances
from probes.window import Pair, Window

FLEET = 14


def fleet(
    ticks: int, faults: dict[int, Fault], *, common: Fault = healthy, pairs: int = FLEET
) -> list[Window]:
    models = [
        PairModel(
            pair=Pair(f"c{i}", "s", 80),
            normal=Traffic(request_rate=20.0 + 10 * i, latency_s=0.001 * (1 + i % 5)),
            fault=faults.get(i, common),
        )
        for i in range(pairs)
    ]
    return list(simulate(models, ticks, wobble=0.1, seed=2))


def odd_after(windows: list[Window]) -> dict[Pair, Odd]:
    habits = Habits()
    for window in windows:
        habits.update(window)
    return habits.odd()


def ranked(odd: dict[Pair, Odd]) -> list[str]:
    return [pair.client for pair in sorted(odd, key=lambda pair: -odd[pair].distance)]


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        ("latency", {"latency_s": lambda s: s * 3}),
        ("errors", {"refused": 0.5}),
        ("rate", {"request_rate": 0.0}),
        ("bytes", {"request_rate": 0.0}),
    ],
)
def test_a_fault_makes_a_pair_the_oddest(feature: str, change: dict[str, object]) -> None:
    odd = odd_after(fleet(200, {7: between(190, 200, **change)}))
    assert len(odd) == FLEET
    first, second = ranked(odd)[:2]
    assert first == "c7"
    worst = odd[Pair("c7", "s", 80)]
    assert abs(worst.deviations[feature]) > 3
    assert worst.distance > 1.5 * odd[Pair(second, "s", 80)].distance


def test_who_does_not_follow_all_others_is_odd() -> None:
    rise = between(190, 200, request_rate=lambda rate: rate * 3)
    odd = odd_after(fleet(200, {7: healthy}, common=rise))
    assert ranked(odd)[0] == "c7"
    mine, other = odd[Pair("c7", "s", 80)].deviations, odd[Pair("c8", "s", 80)].deviations
    assert abs(mine["rate"]) < 3 < other["rate"]


def test_bytes_that_do_not_follow_requests_are_odd() -> None:
    rng = np.random.default_rng(4)
    load = rng.normal(0.0, 2.0, 200)
    rows = np.stack([load, 0.1 * load, 0.1 * load, load], axis=1) + rng.normal(0, 0.3, (200, 4))
    rows[50] = [2.5, 0.0, 0.0, -2.5]  # each alone is ordinary
    found = distances(rows)
    assert found.argmax() == 50
    assert np.abs(rows[50]).max() < np.abs(rows).max()


def test_the_order_of_rows_leaves_no_trace() -> None:
    windows, rng = fleet(80, {3: between(70, 80, refused=1.0)}), np.random.default_rng(0)
    one, two = odd_after(windows), odd_after([shuffled(w, rng) for w in windows])
    assert one.keys() == two.keys()
    for pair, odd in one.items():
        assert two[pair].distance == pytest.approx(odd.distance, rel=1e-9)
        assert two[pair].deviations == pytest.approx(odd.deviations, rel=1e-9)


def test_habits_take_their_time() -> None:
    assert odd_after(fleet(25, {})) == {}
    lasting = between(100, 1200, latency_s=lambda s: s * 3)
    windows = fleet(1150, {2: lasting}, pairs=3)
    assert ranked(odd_after(windows[:110]))[0] == "c2"
    assert odd_after(windows)[Pair("c2", "s", 80)].deviations["latency"] < 3


def test_odd_numbers_do_no_harm() -> None:
    windows = fleet(60, {})
    rng = np.random.default_rng(1)
    odd_values = np.array([np.nan, np.inf, -np.inf, -1.0, 1e300, 0.0])
    bad = [
        dataclasses.replace(
            w,
            time=w.time + 60,
            value=rng.choice(odd_values, len(w)),
            count=rng.choice(odd_values, len(w)),
        )
        for w in windows[:20]
    ]
    odd = odd_after([*windows, *bad])
    assert len(odd) == FLEET
    assert all(np.isfinite(each.distance) for each in odd.values())
    paused = [dataclasses.replace(w, width=9.0, value=w.value * 0) for w in windows[:5]]
    assert odd_after([*windows, *paused]) == odd_after(windows)


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_few_pairs_are_against_themselves(pairs: int) -> None:
    rows = np.zeros((pairs, len(FEATURES)))
    if pairs:
        rows[0, 2] = 8.0
    found = distances(rows)
    assert found.shape == (pairs,)
    if pairs == 2:
        assert found[0] > found[1]
    if pairs == 1:
        assert found[0] > 2


def test_pairs_long_gone_are_forgotten() -> None:
    windows = fleet(40, {})
    habits = Habits()
    for window in windows:
        habits.update(window)
    for k, window in enumerate(simulate([PairModel(pair=Pair("c0", "s", 80))], 1100)):
        habits.update(dataclasses.replace(window, time=window.time + 100_000 + k))
    assert set(habits.odd()) == {Pair("c0", "s", 80)}
    assert habits._table.size == 1
