"""Thin pairs are judged together, and what is told of one pair is not told of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from conformance import told

from detector.engine import Detector
from detector.finding import Finding
from probes.histogram import bucket_of, lower_edge_s
from probes.window import EVERY, Histograms, Pair, Window, is_rollup

API = Pair(EVERY, "api", 8080)
SIGNALS = ("requests", "connections", "connect_errors", "request_latency")
RATE = 0.02
FAULT = 600


def thin(
    ticks: int,
    *,
    clients: int = 500,
    seed: int = 1,
    rate: Callable[[int], float | np.ndarray] = lambda _: RATE,
    failing: Callable[[int], float | np.ndarray] = lambda _: 0.0,
    latency_s: Callable[[int], float | np.ndarray] = lambda _: 0.005,
    here: Callable[[int], np.ndarray] | None = None,
) -> Iterator[Window]:
    """Yield windows of clients of one server port; each is a number or float64[clients].

    A client makes a connection for each request; `here` marks those that are watched.
    """
    rng = np.random.default_rng(seed)
    pairs = tuple(Pair(f"c{i}", "api", 8080) for i in range(clients))
    for tick in range(ticks):
        there = np.arange(clients) if here is None else np.flatnonzero(here(tick))
        tried = rng.poisson(np.broadcast_to(rate(tick), clients))[there]
        failed = rng.binomial(tried, np.broadcast_to(failing(tick), clients)[there])
        done = tried - failed
        usual = np.broadcast_to(latency_s(tick), clients)[there]
        trying, served = np.flatnonzero(tried), np.flatnonzero(done)
        sample_of = np.repeat(np.arange(len(served)), done[served])
        took = usual[served][sample_of] * rng.lognormal(0.0, 0.5, len(sample_of))
        cells, number = np.unique(sample_of * 65536 + bucket_of(took * 1e9), return_counts=True)
        row, bucket = cells >> 16, cells & 0xFFFF
        first = np.searchsorted(row, np.arange(len(served)))
        before = 2 * len(there) + len(trying)
        nothing = np.full(2 * len(there), np.nan)
        yield Window(
            time=1.7e9 + tick,
            width=1.0,
            nominal=1.0,
            lost=0,
            pairs=pairs,
            signals=SIGNALS,
            pair=np.concatenate([there, there, there[trying], there[served]]).astype(np.int32),
            signal=np.repeat(
                np.arange(4, dtype=np.int16), [len(there), len(there), len(trying), len(served)]
            ),
            value=np.concatenate(
                [done, done, failed[trying] / tried[trying], lower_edge_s(bucket[first])]
            ),
            count=np.concatenate([nothing, tried[trying], done[served]]),
            histograms=Histograms((before + row).astype(np.int32), bucket.astype(np.int16), number),
            causes={
                int(2 * len(there) + at): {"refused": int(failed[i])}
                for at, i in enumerate(trying)
                if failed[i]
            },
        )


def fired(found: list[Finding]) -> list[tuple[Pair, str, str]]:
    return [(f.pair, f.signal, f.direction) for f in found if f.state == "firing"]


def test_errors_of_500_thin_clients_are_found_within_15_windows() -> None:
    windows = thin(FAULT + 40, failing=lambda t: 0.2 if t >= FAULT else 0.0)
    found = told(Detector(), list(windows))
    assert fired(found) == [(API, "connect_errors", "up")]
    assert found[0].detected - (1.7e9 + FAULT) <= 15
    assert abs(found[0].onset - (1.7e9 + FAULT)) <= 5
    assert (found[0].side, found[0].cause) == ("server", "refused")


def test_a_fivefold_latency_of_500_thin_clients_is_found_within_15_windows() -> None:
    windows = thin(FAULT + 40, latency_s=lambda t: 0.025 if t >= FAULT else 0.005)
    found = told(Detector(), list(windows))
    assert fired(found) == [(API, "request_latency", "up")]
    assert found[0].detected - (1.7e9 + FAULT) <= 15


def test_a_server_that_all_thin_clients_stop_asking_is_found() -> None:
    windows = thin(FAULT + 60, rate=lambda t: 0.0 if t >= FAULT else RATE)
    found = fired(told(Detector(), list(windows)))
    assert (API, "requests", "down") in found
    assert all(is_rollup(pair) for pair, _, _ in found)


@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_thin_clients_that_fall_silent_together_are_one_finding(rate: float) -> None:
    detector = Detector()
    windows = thin(FAULT + 120, clients=60, rate=lambda t: 0.0 if t >= FAULT else rate)
    assert fired(told(detector, list(windows))) == [(API, "requests", "down")]
    assert [f.pair for f in detector.firing()] == [API]
    restored = Detector.from_bytes(detector.to_bytes())
    assert restored.firing() == detector.firing()


def test_a_client_of_many_servers_is_found_on_its_own_side() -> None:
    windows = []
    for window in thin(FAULT + 60, clients=100, latency_s=lambda t: 0.05 if t >= FAULT else 0.005):
        to = tuple(Pair("shop", f"s{i}", 80) for i in range(100))
        windows.append(_with_pairs(window, to))
    found = told(Detector(), windows)
    assert fired(found) == [(Pair("shop", EVERY, 0), "request_latency", "up")]
    assert found[0].side == "client"


def test_the_fault_of_a_fat_client_is_told_of_its_pair_only() -> None:
    rates = np.r_[20.0, np.full(200, RATE)]
    fault = np.r_[1.0, np.zeros(200)]
    windows = thin(
        FAULT + 60,
        clients=201,
        rate=lambda _: rates,
        failing=lambda t: 0.5 * fault if t >= FAULT else 0.0,
        latency_s=lambda t: 0.005 * (1 + 9 * fault) if t >= FAULT else 0.005,
    )
    found = fired(told(Detector(), list(windows)))
    assert {(pair.client, signal) for pair, signal, _ in found} >= {
        ("c0", "connect_errors"),
        ("c0", "request_latency"),
    }
    assert {pair.client for pair, _, _ in found} == {"c0"}


def test_a_fat_client_does_not_hide_what_thin_ones_suffer() -> None:
    rates = np.r_[200.0, np.full(200, RATE)]
    suffer = np.r_[0.0, np.ones(200)]
    windows = thin(
        FAULT + 60,
        clients=201,
        rate=lambda _: rates,
        failing=lambda t: 0.4 * suffer if t >= FAULT else 0.0,
    )
    assert fired(told(Detector(), list(windows))) == [(API, "connect_errors", "up")]


def test_what_a_member_is_told_of_is_not_told_of_all() -> None:
    rates = np.r_[0.8, np.full(9, RATE)]
    only = np.r_[1.0, np.zeros(9)]
    windows = thin(
        FAULT + 400,
        clients=10,
        rate=lambda _: rates,
        failing=lambda t: only if FAULT <= t < FAULT + 200 else 0.0,
    )
    found = fired(told(Detector(), list(windows)))
    assert sum(signal == "connect_errors" for _, signal, _ in found) == 1


def test_a_member_that_falls_silent_is_told_once() -> None:
    rates = np.full(4, 0.9)
    windows = thin(
        FAULT + 500,
        clients=4,
        rate=lambda t: np.r_[0.0, rates[1:]] if FAULT <= t < FAULT + 400 else rates,
    )
    found = fired(told(Detector(), list(windows)))
    assert (Pair("c0", "api", 8080), "silent_pair", "gone") in found
    assert {pair.client for pair, _, _ in found} == {"c0"}


@pytest.mark.parametrize("clients", [10, 24, 60])
def test_members_that_come_and_go_together_are_no_change(clients: int) -> None:
    """Ten clients stay; the others come at 500, and their rows end one by one from 1,000 on."""
    ends = np.r_[np.full(10, np.inf), 1000.0 + 40.0 * np.arange(clients - 10)]
    begins = np.r_[np.zeros(10), np.full(clients - 10, 500.0)]
    windows = thin(
        1400 + 40 * (clients - 10),
        clients=clients,
        rate=lambda _: 0.5,
        here=lambda t: (begins <= t) & (t < ends),
    )
    found = fired(told(Detector(), list(windows)))
    assert [each for each in found if is_rollup(each[0])] == []


def test_members_that_come_back_are_no_change() -> None:
    """Ten clients stay; 20 more have no rows for long, and are no new pairs then."""
    stays = np.arange(30) < 10
    windows = thin(
        1300, clients=30, rate=lambda _: 0.5, here=lambda t: stays | (not 100 <= t < 1000)
    )
    assert fired(told(Detector(), list(windows))) == []


def test_an_hour_of_clients_that_come_and_go_is_quiet() -> None:
    rng = np.random.default_rng(5)
    # Each client is there for some ten minutes; in all, always about 100 are
    begin = np.sort(rng.uniform(-600, 3600, 700))
    end = begin + rng.exponential(600.0, 700)
    windows = thin(3600, clients=700, here=lambda t: (begin <= t) & (t < end))
    found = fired(told(Detector(), list(windows)))
    assert [each for each in found if is_rollup(each[0])] == []
    assert [each for each in found if each[1] not in ("new_pair", "silent_pair")] == []


def test_fifty_minutes_of_calm_thin_clients_are_quiet() -> None:
    detector = Detector()
    assert told(detector, list(thin(3000, clients=200))) == []
    assert Detector.from_bytes(detector.to_bytes()).to_bytes() == detector.to_bytes()


def test_two_pairs_are_no_group_and_three_are() -> None:
    for clients, groups in ((2, 0), (3, 1)):
        detector = Detector()
        told(detector, list(thin(400, clients=clients, rate=lambda _: 0.5)))
        assert detector.learning().judged == 4 * (clients + groups)


def test_a_restart_within_a_fault_changes_nothing() -> None:
    windows = list(thin(300, clients=60, rate=lambda _: 0.2, failing=lambda t: 0.3 * (t > 230)))
    whole = Detector()
    found = told(whole, windows)
    assert fired(found)
    for cut in (63, 64, 65, 150, 231, 236, 260):
        first = Detector()
        early = told(first, windows[:cut])
        second = Detector.from_bytes(first.to_bytes())
        assert early + told(second, windows[cut:]) == found
        assert second.to_bytes() == whole.to_bytes()


def _with_pairs(window: Window, pairs: tuple[Pair, ...]) -> Window:
    fields = {name: getattr(window, name) for name in Window.__dataclass_fields__}
    return Window(**{**fields, "pairs": pairs})
