"""Which side a change is blamed on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detector.engine import Detector
from detector.finding import Finding
from detector.sides import Sides
from probes.histogram import bucket_of
from probes.window import Pair, Window
from tests.program.windows import window

PAIR = Pair("web", "api", 8080)
CALM = {
    "request_latency": 0.002,
    "server_latency": 0.001,
    "server_read_latency": 0.0,
    "client_read_latency": 0.0,
    "rtt": 0.0005,
}


def _window(**seconds: float) -> Window:
    rows = [(PAIR, signal, max(value, 1e-9), 10.0) for signal, value in seconds.items()]
    buckets = bucket_of(np.array([value * 1e9 for value in seconds.values()]))
    return window(rows, histograms={row: {int(b): 10} for row, b in enumerate(buckets)})


def _blamed(before: dict[str, float], after: dict[str, float]) -> str:
    sides = Sides()
    for _ in range(30):
        sides.update(_window(**before), np.array([0]), 1, ())
    for _ in range(3):
        sides.update(_window(**after), np.array([0]), 1, ())
    return sides.guilty(0, "request_latency", "up", "")


@pytest.mark.parametrize(
    ("rise", "side"),
    [
        ({"server_latency": 0.02}, "server"),
        ({"server_read_latency": 0.02}, "server"),
        ({"client_read_latency": 0.02}, "client"),
        ({}, "network"),
        ({"rtt": 0.02}, "network"),
        ({"server_latency": 0.009, "client_read_latency": 0.009}, ""),
    ],
)
def test_the_side_whose_part_rose(rise: dict[str, float], side: str) -> None:
    after = {name: value + rise.get(name, 0.0) for name, value in CALM.items()}
    after["request_latency"] += 0.02
    assert _blamed(CALM, after) == side


def test_without_the_servers_view_the_round_trip_decides() -> None:
    known = ("request_latency", "client_read_latency", "rtt")
    before = {name: CALM[name] for name in known}
    slower = before | {"request_latency": 0.022}
    assert _blamed(before, slower) == "server"
    assert _blamed(before, slower | {"rtt": 0.02}) == "network"
    del before["rtt"], slower["rtt"]
    assert _blamed(before, slower) == ""


def test_what_the_servers_own_host_measures_is_the_servers() -> None:
    before = {"request_latency": 0.001, "server_read_latency": 0.0}
    assert _blamed(before, before | {"request_latency": 0.02}) == "server"


def test_while_a_pair_is_changed_its_baseline_stays() -> None:
    sides = Sides()
    for _ in range(30):
        sides.update(_window(**CALM), np.array([0]), 1, ())
    slow = CALM | {"request_latency": 0.022, "server_latency": 0.021}
    for _ in range(500):
        sides.update(_window(**slow), np.array([0]), 1, {0})
    assert sides.guilty(0, "request_latency", "up", "") == "server"
    sides.adopt(0)
    assert sides.guilty(0, "request_latency", "up", "") == ""
    assert math.isclose(float(sides.table["base"][0, 0]), 0.022, rel_tol=0.05)


@pytest.mark.parametrize(
    ("signal", "direction", "cause", "side"),
    [
        ("connect_errors", "up", "refused", "server"),
        ("connect_errors", "up", "timed_out", ""),
        ("connect_errors", "up", "no_port", "client"),
        ("resets", "up", "by_client", "client"),
        ("stalls", "up", "by_server", "server"),
        ("retransmits", "up", "timeout", "network"),
        ("requests", "up", "", "client"),
        ("requests", "down", "", ""),
    ],
)
def test_a_cause_tells_the_side(signal: str, direction: str, cause: str, side: str) -> None:
    assert Sides().guilty(0, signal, direction, cause) == side


@pytest.mark.parametrize(("share", "side"), [(0.1, "network"), (0.95, "")])
def test_who_gets_no_answer_at_all_has_no_lossy_way(share: float, side: str) -> None:
    rng = np.random.default_rng(1)
    detector, found = Detector(), list[Finding]()
    for tick in range(400):
        lost = rng.binomial(200, share if tick >= 380 else 0.0005) / 200
        row = (PAIR, "retransmits", lost, 200.0)
        found += detector.update(window([row], time=1.7e9 + tick))
    assert [(each.signal, each.side) for each in found] == [("retransmits", side)]
