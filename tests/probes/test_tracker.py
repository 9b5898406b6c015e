"""From sweeps to pairs, with groups written by hand: whose a group is, and how long it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bpf import layout
from probes.endpoints import address_text, mapped
from probes.programs import Snapshot
from probes.window import Pair
from tests.support.groups import BOTH, PAIR, table
from tests.support.groups import Run as _Run
from tests.support.groups import client as _client
from tests.support.groups import server as _server


def test_two_ends_are_one_pair_counted_at_the_client(tmp_path: Path) -> None:
    seen = _Run(tmp_path).sweep(
        [
            _client(2, link=3, established=1, bytes_out=10, bytes_in=99, requests=4),
            _server(3, peer=2, established=1, bytes_in=9, bytes_out=99, requests=4),
        ]
    )
    assert {pair for pair, _ in seen} == {PAIR}
    assert seen[PAIR, "connections"][0] == 1
    assert seen[PAIR, "requests"][0] == 4
    assert seen[PAIR, "bytes_sent"][0] == 10
    assert seen[PAIR, "bytes_received"][0] == 99


def test_a_window_is_a_difference(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep([_client(2, link=3, bytes_out=10, requests=1, established=1), _server(3, peer=2)])
    seen = run.sweep(
        [_client(2, link=3, bytes_out=25, requests=4, established=1), _server(3, peer=2)]
    )
    assert seen[PAIR, "bytes_sent"][0] == 15
    assert seen[PAIR, "requests"][0] == 3
    assert seen[PAIR, "connections"][0] == 0


def test_a_place_that_is_used_again_begins_at_zero(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep([_client(2, bytes_out=100)])
    other = _client(2, "cron", bytes_out=7)
    other["id"] = 12
    groups = np.array([other], layout.GROUP)
    snapshot = Snapshot(
        np.array([2]),
        groups,
        np.empty(0, layout.LATENCY_KEY),
        np.empty(0, layout.LATENCY),
        0,
        np.zeros(32, layout.DETAILS),
    )
    window = run.tracker.update(snapshot, now_s=9, time=9, width=1, nominal=1)
    seen = table(window)
    assert seen[Pair("cron", "10.0.0.2", 80), "bytes_sent"][0] == 7


def test_what_comes_in_bits_beyond_64_is_still_a_difference(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep([_client(2, bytes_out=2**64 - 5)])
    seen = run.sweep([_client(2, bytes_out=5)])
    assert seen[Pair("web", "10.0.0.2", 80), "bytes_sent"][0] == 10


def test_namespaces_with_the_same_addresses_stay_apart(tmp_path: Path) -> None:
    seen = _Run(tmp_path).sweep(
        [
            _client(2, remote="127.0.0.1", netns=1, link=3, established=1),
            _server(3, peer=2, netns=1),
            _client(4, "cron", remote="127.0.0.1", netns=2, link=5, established=1),
            _server(5, "mail", peer=4, netns=2),
        ]
    )
    assert {pair for pair, _ in seen} == {PAIR, Pair("cron", "mail", 80)}


def test_a_client_elsewhere_is_named_by_its_address(tmp_path: Path) -> None:
    seen = _Run(tmp_path).sweep([_server(3, bytes_in=5, bytes_out=8, established=1)])
    pair = Pair("10.0.0.1", "api", 80)
    assert seen[pair, "bytes_sent"][0] == 5
    assert seen[pair, "bytes_received"][0] == 8
    assert (pair, "connect_errors") not in seen


def test_a_server_end_that_nobody_could_link_is_not_counted_twice(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    unlinked = _server(3, remote="127.0.0.1", self=1, bytes_in=5, established=1)
    seen = run.sweep([_client(2, remote="127.0.0.1", self=1, bytes_out=5), unlinked])
    assert [pair.client for pair, _ in seen if pair.client != "web"] == []


def test_a_server_end_whose_client_has_gone_adds_nothing(tmp_path: Path) -> None:
    assert _Run(tmp_path).sweep([_server(3, peer=2, bytes_in=7)]) == {}


def test_a_listener_names_a_server_on_the_same_host(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    at = np.zeros(1, layout.ENDPOINT)
    at["netns"], at["port"] = 1, 80
    who = np.zeros(1, layout.LISTENER)
    who["owner"]["tgid"], who["owner"]["command"], who["owner"]["executable"] = 5, b"api", b"api"
    run.names.set_listeners(at, who)
    seen = run.sweep([_client(2, remote="127.0.0.1", self=1, established=1)])
    assert {pair for pair, _ in seen} == {PAIR}


def test_a_server_that_is_down_keeps_its_name_even_over_a_restart(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep(BOTH)
    seen = run.sweep([*BOTH, _client(4, refused=1)])
    assert seen[PAIR, "connect_errors"] == (1, 1)
    (row,) = [row for row, causes in run.window.causes.items() if "refused" in causes]
    assert run.window.causes[row] == {"refused": 1}
    later = _Run(tmp_path)
    later.restore(run.save())
    assert later.sweep([_client(4, refused=1)])[PAIR, "connect_errors"] == (1, 1)


def test_a_silent_pair_says_zero_after_a_restart_too(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep(BOTH)
    later = _Run(tmp_path)
    later.restore(run.save())
    assert later.sweep()[PAIR, "bytes_sent"][0] == 0
    rebooted = _Run(tmp_path)
    rebooted.restore(run.save().replace(b'"boot": "', b'"boot": "another'))
    assert rebooted.sweep() == {}


@pytest.mark.parametrize(
    "saved", [b"", b"[]", b"{}", b'{"schema": "else"}', b"\xff", b'{"schema": 1, "boot": 2}']
)
def test_a_memory_that_is_none_is_refused(tmp_path: Path, saved: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        _Run(tmp_path).restore(saved)


def test_an_owner_who_becomes_known_late(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    unknown = _server(3, "", peer=2, tgid=0)
    seen = run.sweep([_client(2, link=3, established=1), unknown])
    assert {pair for pair, _ in seen} == {Pair("web", "unknown", 80)}
    known = _server(4, peer=2)
    seen = run.sweep([_client(2, link=4, bytes_out=3, established=1), unknown, known])
    assert seen[PAIR, "bytes_sent"][0] == 3


def test_our_own_connections_are_nobody_s(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    assert run.sweep([_client(2, tgid=999, link=3, established=1), _server(3, peer=2)]) == {}
    theirs = (_client(4, link=5, established=1), _server(5, peer=4, tgid=999))
    assert run.sweep(theirs) == {}


def test_too_many_clients_are_folded(tmp_path: Path) -> None:
    run = _Run(tmp_path, most_pairs=2)
    seen = run.sweep([_server(i, remote=f"10.1.0.{i}", bytes_in=1) for i in range(2, 7)])
    assert len({pair for pair, _ in seen}) == 3
    assert seen[Pair("other", "api", 80), "bytes_sent"][0] == 3
    assert run.names.places.folded == 3


def test_idle_pairs_make_room(tmp_path: Path) -> None:
    run = _Run(tmp_path, most_pairs=2)
    run.sweep([_server(i, remote=f"10.1.0.{i}", bytes_in=1) for i in (2, 3)])
    run.second += 4000
    assert run.tracker.idle(run.second, full=False)[0].tolist() == [2, 3]
    run.second += 3
    assert run.tracker.idle(run.second, full=False)[1].tolist() == [2, 3]
    run.sweep()
    seen = run.sweep([_server(4, remote="10.1.0.4", bytes_in=1)])
    assert seen[Pair("10.1.0.4", "api", 80), "bytes_sent"][0] == 1
    assert {pair for pair, _ in seen} == {Pair("10.1.0.4", "api", 80)}
    assert run.names.places.folded == 0


def test_a_group_is_given_up_only_when_nothing_uses_it(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    opened, ended = _client(2, joined=2, left=1), _client(3, joined=2, left=2)
    run.sweep([opened, ended])
    assert run.tracker.connections == 1
    run.second += 100
    retire, release = run.tracker.idle(run.second, full=False)
    assert (retire.tolist(), release.tolist()) == ([3], [])
    # one connection found it just before it was retired: it goes on counting
    run.sweep([opened, _client(3, joined=3, left=3, bytes_out=5)])
    run.second += 3
    assert run.tracker.idle(run.second, full=False)[1].tolist() == []
    run.second += 100
    assert run.tracker.idle(run.second, full=False)[1].tolist() == [3]


def test_idle_pairs_say_zero_and_lost_samples_travel(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep(BOTH)
    seen = run.sweep(BOTH, lost=4)
    ends = {"bytes_sent", "bytes_received", "requests"}
    ours = {"connections"} | ends | {f"server_{signal}" for signal in ends}
    assert {s for _, s in seen} == ours
    assert all(value == 0 for value, _ in seen.values())
    assert run.window.lost == 4


def test_addresses() -> None:
    assert address_text(mapped("10.1.2.3")) == "10.1.2.3"
    assert address_text(mapped("fd00::1%eth0")) == "fd00::1"
    assert address_text(mapped("::1")) == "::1"


def test_a_sender_of_datagrams_waits_for_the_name_of_the_receiver(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    udp = {"transport": layout.UDP, "port": 53}
    assert run.sweep([_client(2, bytes_out=5, **udp)]) == {}
    seen = run.sweep([_client(2, link=3, bytes_out=5, **udp), _server(3, peer=2, **udp)])
    assert {pair for pair, _ in seen} == {Pair("web", "api", 53, "udp")}
    assert seen[Pair("web", "api", 53, "udp"), "bytes_sent"][0] == 5
    # who is elsewhere never gets a name, and who was answered has been heard
    elsewhere, udp["remote"] = Pair("web", "10.0.0.9", 53, "udp"), "10.0.0.9"
    first, second = _client(4, bytes_out=7, **udp), _client(5, "dig", requests=1, bytes_in=1, **udp)
    seen = run.sweep([first, second])
    assert seen[elsewhere._replace(client="dig"), "requests"][0] == 1
    assert (elsewhere, "bytes_sent") not in seen
    assert run.sweep([first, second])[elsewhere, "bytes_sent"][0] == 7
