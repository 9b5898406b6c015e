"""Too many pairs: those that do most have rows, the rest counts under `other`, nothing is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bpf import layout
from detector.engine import Detector
from detector.finding import Finding
from probes.endpoints import mapped
from probes.identity.resolver import Services
from probes.naming import PairNames
from probes.places import Places
from probes.programs import Snapshot
from probes.tracker import Tracker
from probes.window import Pair, Window, is_other

PAIRS, MOST, BUSY = 12_000, 1_000, 900


def test_under_whom_a_pair_is_put() -> None:
    places = Places(4)
    for pair in (Pair("a", "db", 1), Pair("b", "db", 1), Pair("crawler", "x", 1),
                 Pair("crawler", "y", 1)):  # fmt: skip
        index = places.number(pair)
        assert places.rows[index] == index

    def counted(pair: Pair) -> Pair:
        index = places.number(pair)
        return places.pairs[places.rows[index]]

    assert counted(Pair("c", "db", 1)) == Pair("other", "db", 1)
    # a tenth of the rows, and one at least, is for those
    assert counted(Pair("crawler", "z", 2)) == Pair("other", "other", 0)
    assert counted(Pair("alone", "w", 2)) == Pair("other", "other", 0)
    assert (places.folded, places.room) == (3, 0)
    places = Places(20)
    for i in range(21):
        places.number(Pair("crawler", f"s{i}", i))
    assert counted(Pair("crawler", "s20", 20)) == Pair("crawler", "other", 0)


def test_what_is_forgotten_makes_room_and_what_counts_for_others_stays() -> None:
    places = Places(2)
    numbers = [places.number(Pair(f"c{i}", "db", 1)) for i in range(4)]
    other = places.number(Pair("other", "db", 1))
    places.forget(np.array([numbers[0], other]))
    assert (places.folded, places.room) == (2, 1)
    assert places.number(Pair("other", "db", 1)) == other
    places.unfold(numbers[2])
    assert (places.folded, places.room) == (1, 0)
    places.forget(np.array([numbers[3]]))
    places.forget(np.array([other]))
    assert (places.folded, len(places)) == (0, 2)


def test_pairs_beyond_all_numbers_are_still_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.places._LEAST_NUMBERS", 8)
    places = Places(2)
    for i in range(100):
        places.number(Pair(f"c{i}", "db", 1))
    assert len(places.pairs) == 8
    assert places.pairs[places.number(Pair("c99", "db", 1))] == Pair("other", "db", 1)


class _Host:
    """So many clients elsewhere of one server here, each a group of its own."""

    def __init__(self, tmp_path: Path, pairs: int, most: int) -> None:
        services = Services(proc=tmp_path)
        self.names = PairNames(services, own_tgid=999, most_pairs=most)
        self.tracker = Tracker(self.names, capacity=pairs + 1)
        self.groups = np.zeros(pairs + 1, layout.GROUP)
        self.groups["id"] = np.arange(pairs + 1) + 1
        self.groups["owner"]["tgid"] = 100
        self.groups["owner"]["command"] = self.groups["owner"]["executable"] = b"api"
        key = self.groups["key"]
        key["transport"], key["port"], key["netns"] = layout.TCP, 80, 1
        key["role"], key["tgid"] = layout.SERVER, 100
        for i in range(1, pairs + 1):
            key["remote"][i] = np.void(mapped(self.client(i)))
        self.second = 0

    @staticmethod
    def client(i: int) -> str:
        return f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"

    def sweep(self, requests: np.ndarray) -> Window:
        """Args: requests: of each group in this second."""
        self.second += 1
        counts = self.groups["counts"]
        counts[1:, layout.COUNTERS.index("requests")] += requests.astype(np.uint64)
        counts[1:, layout.COUNTERS.index("bytes_in")] += requests.astype(np.uint64) * 100
        counts[1:, layout.COUNTERS.index("established")] += (requests > 0).astype(np.uint64)
        snapshot = Snapshot(
            np.arange(len(self.groups)),
            self.groups.copy(),
            np.empty(0, layout.LATENCY_KEY),
            np.empty(0, layout.LATENCY),
            0,
            np.zeros(len(self.groups), layout.DETAILS),
        )
        return self.tracker.update(
            snapshot, now_s=self.second, time=float(self.second), width=1.0, nominal=1.0
        )


def _requests(window: Window) -> dict[Pair, float]:
    mine = window.signal == window.signals.index("requests")
    return {
        window.pairs[pair]: float(value)
        for pair, value in zip(window.pair[mine], window.value[mine], strict=True)
    }


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.identity.elsewhere.MOST_ADDRESSES", PAIRS)


@pytest.mark.slow
def test_the_busiest_have_rows_and_the_sums_are_exact(tmp_path: Path, unlimited: None) -> None:
    host = _Host(tmp_path, PAIRS, MOST)
    random = np.random.default_rng(7)
    busy = np.zeros(PAIRS, bool)
    busy[random.choice(PAIRS, BUSY, replace=False)] = True
    detector = Detector()
    findings: list[Finding] = []
    total = 0
    rows: Counter[int] = Counter()
    for _ in range(150):
        requests = np.where(busy, random.poisson(60, PAIRS), random.poisson(0.2, PAIRS))
        window = host.sweep(requests)
        found = _requests(window)
        rows[len(found)] += 1
        total += int(requests.sum())
        assert sum(found.values()) == requests.sum()
        findings += detector.update(window)
    assert total > 8_000_000
    assert max(rows) <= MOST + 1
    expected = {Pair(host.client(i + 1), "api", 80) for i in np.flatnonzero(busy)}
    own = {pair for pair in found if not is_other(pair)}
    assert expected <= own
    assert set(found) - own == {Pair("other", "api", 80)}
    assert host.names.places.folded == PAIRS - MOST
    # a pair that is put under `other`, or comes back, is neither silent nor new nor changed
    assert findings == []
