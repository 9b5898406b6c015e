"""From sweeps to signals, with groups written by hand: what either end says of its pair."""

from __future__ import annotations

from pathlib import Path

import pytest

from bpf import layout
from probes.histogram import bucket_of
from probes.window import Pair
from tests.support.groups import BOTH, PAIR
from tests.support.groups import Run as _Run
from tests.support.groups import client as _client
from tests.support.groups import server as _server


def test_both_ends_latencies_find_their_pair(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    slow, quick = int(bucket_of(5_000_000)), int(bucket_of(3_000_000))
    seen = run.sweep(
        BOTH, [(2, "request", slow, 3, 3), (3, "request", quick, 3, 3), (9, "request", 1, 1, 1)]
    )
    value, count = seen[PAIR, "request_latency"]
    assert value == pytest.approx(0.005, rel=0.06)
    assert count == 3
    assert seen[PAIR, "server_latency"][0] == pytest.approx(0.003, rel=0.06)
    assert run.window.histograms.number.sum() == 6


def test_a_sample_that_stands_for_many_shifts_the_shape_and_not_the_number(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    quick, slow = int(bucket_of(1_000_000)), int(bucket_of(10_000_000))
    # a busy connection with one request in 30 timed, and ten calm ones with all
    seen = run.sweep(BOTH, [(2, "request", quick, 100, 3000), (2, "request", slow, 900, 900)])
    value, count = seen[PAIR, "request_latency"]
    assert count == 1000
    assert value == pytest.approx(0.001, rel=0.06)
    number = dict(zip(run.window.histograms.bucket, run.window.histograms.number, strict=True))
    assert number == {quick: 769, slow: 231}


def test_both_ends_segments_make_the_retransmits(tmp_path: Path) -> None:
    seen = _Run(tmp_path).sweep(
        [
            _client(2, link=3, segments=90, retransmits=1),
            _server(3, peer=2, segments=110, retransmits=9, timeouts=2),
        ]
    )
    assert seen[PAIR, "retransmits"] == (0.05, 200)


def test_who_is_to_blame_for_a_stall(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    seen = run.sweep([_client(2, link=3, stalls=1, active=2), _server(3, peer=2, active=2)])
    assert seen[PAIR, "stalls"] == (0.25, 4)
    assert {"by_server": 1} in run.window.causes.values()


def test_datagrams(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    udp = {"transport": layout.UDP, "port": 53}
    seen = run.sweep(
        [
            _client(2, link=3, established=1, datagrams=8, refused=2, bytes_out=80, **udp),
            _server(3, peer=2, datagrams=6, drops=2, **udp),
        ]
    )
    pair = Pair("web", "api", 53, "udp")
    assert seen[pair, "connect_errors"] == (0.2, 10)
    assert seen[pair, "drops"] == (0.125, 16)
    assert seen[pair, "bytes_sent"][0] == 80


def test_a_client_that_reads_by_splice_has_its_requests_from_the_server(tmp_path: Path) -> None:
    # no hook tells of splice(2) out of a socket, only the socket's own positions
    run = _Run(tmp_path)
    bucket = int(bucket_of(5_000_000))
    seen = run.sweep(
        [
            _client(2, link=3, established=1, bytes_out=10, bytes_in=99),
            _server(3, peer=2, established=1, bytes_in=10, bytes_out=99, requests=4),
        ],
        [(3, "request", bucket, 4, 4)],
    )
    assert seen[PAIR, "requests"][0] == 4
    assert seen[PAIR, "request_latency"][0] == pytest.approx(0.005, rel=0.06)
    assert seen[PAIR, "server_latency"][1] == 4


def test_busy_groups_time_fewer_requests(tmp_path: Path) -> None:
    run = _Run(tmp_path)

    def paced(requests: int) -> dict[int, int]:
        run.sweep([_client(2, requests=requests), _client(3, requests=0)])
        slots, interval = run.tracker.paced
        return dict(zip(slots.tolist(), interval.tolist(), strict=True))

    assert paced(0) == {}
    assert paced(3_000) == {}
    assert paced(23_000) == {2: 8}
    assert paced(43_000) == {}
    assert paced(1_043_000) == {2: 32}
    assert paced(1_043_100) == {2: 1}
