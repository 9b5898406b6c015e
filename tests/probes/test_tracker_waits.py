"""Which slow answers are waits, with groups written by hand: those that are slow on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from probes.histogram import bucket_of
from tests.support.groups import BOTH, PAIR
from tests.support.groups import Run as _Run
from tests.support.groups import client as _client
from tests.support.groups import server as _server


def _waiting(run: _Run, kind: str, seconds: float) -> Any:
    bucket = int(bucket_of(int(seconds * 1e9)))
    return run.sweep(BOTH, [(2, kind, bucket, 1, 1), (3, kind, bucket, 1, 1)])


def test_who_waits_from_the_beginning_does_so_on_purpose(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep(BOTH)
    assert (PAIR, "waits") not in run.sweep(BOTH)
    run.second = 150
    seen = _waiting(run, "wait", 40)
    assert seen[PAIR, "waits"][0] == 1
    assert not {(PAIR, "request_latency"), (PAIR, "server_latency")} & seen.keys()
    run.second = 3000
    assert run.sweep(BOTH)[PAIR, "waits"][0] == 0
    assert _waiting(run, "wait", 25)[PAIR, "waits"][0] == 1
    # and over a restart of the daemon
    later = _Run(tmp_path)
    later.restore(run.save())
    later.second = 3100
    assert _waiting(later, "wait", 12)[PAIR, "waits"][0] == 1
    # what is quick is a request all the same
    assert _waiting(later, "request", 0.2)[PAIR, "request_latency"][1] == 1


def _jobs(run: _Run, woken: int, other: int = 0, requests: int = 0) -> Any:
    """Sweep a server's answers of 0.2 s: after another client's word, and not."""
    bucket = int(bucket_of(2 * 10**8))
    number = woken + other
    ends = [BOTH[0], _server(3, peer=2, established=1, requests=requests)]
    asked = [(2, "request", bucket, number, number)]
    at_server = [(3, "woken", bucket, woken, woken), (3, "request", bucket, other, other)]
    return run.sweep(ends, [each for each in (*asked, *at_server) if each[3]])


def test_who_waits_for_what_others_say_waits_on_purpose(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    for _ in range(2):
        seen = _jobs(run, woken=3, other=1)
        assert seen[PAIR, "request_latency"][1] == 4
        assert seen[PAIR, "server_latency"][1] == 4
        assert (PAIR, "waits") not in seen
    # likely: until it turns out that it is not
    assert (PAIR, "request_latency") not in _jobs(run, woken=2)
    assert _jobs(run, woken=0, other=10)[PAIR, "request_latency"][1] == 10
    # sure: for good
    assert _jobs(run, woken=20)[PAIR, "waits"][0] == 20
    later = _Run(tmp_path)
    later.restore(run.save())  # over a restart of the daemon, too
    seen = _jobs(later, woken=0, other=30)
    assert seen[PAIR, "waits"][0] == 30
    assert not {(PAIR, "request_latency"), (PAIR, "server_latency")} & seen.keys()


@pytest.mark.parametrize(
    ("woken", "other", "per_s"), [(1, 2, 0), (0, 5, 0), (1, 3, 1000), (6, 10, 1500), (9, 1, 3000)]
)
def test_a_slow_server_near_whose_answers_others_ask_is_slow(
    tmp_path: Path, woken: int, other: int, per_s: int
) -> None:
    run = _Run(tmp_path)
    for second in range(1, 50):
        seen = _jobs(run, woken, other, per_s * second)
        assert seen[PAIR, "request_latency"][1] == woken + other


def test_a_server_that_begins_to_hang_is_slow(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep(BOTH)
    later = _Run(tmp_path)
    later.restore(run.save())  # a new daemon does not make an old pair new
    for each, second in ((run, 140), (later, 300)):
        each.second = second
        seen = _waiting(each, "wait", 11)
        assert seen[PAIR, "request_latency"][0] == pytest.approx(11, rel=0.06)
        assert seen[PAIR, "server_latency"][1] == 1
        assert (PAIR, "waits") not in seen


def test_messages_that_nobody_asked_for_are_waits(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep(BOTH)
    run.second = 500
    pushed = [_client(2, link=3, requests=3, waits=3, established=1), BOTH[1]]
    assert run.sweep(pushed)[PAIR, "waits"][0] == 3
    seen = run.sweep(pushed, [(2, "wait", int(bucket_of(11 * 10**9)), 1, 1)])
    assert seen[PAIR, "waits"][0] == 1
    assert (PAIR, "request_latency") not in seen
