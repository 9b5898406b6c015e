"""From snapshots to windows: the arithmetic, with records written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bpf import layout
from probes import memory
from probes.histogram import bucket_of
from probes.naming import PairNames, address_text, mapped
from probes.programs import Snapshot
from probes.services import ServiceNames
from probes.tracker import Tracker
from probes.window import Pair, Window

S = 1_000_000_000


def _record(**fields: Any) -> Any:
    record = np.zeros((), layout.CONNECTION)
    owner = {"tgid": fields.pop("tgid", 1), "command": fields.pop("command", b"x")}
    owner["executable"] = owner["command"]
    addresses = {"local_address": "10.0.0.1", "remote_address": "10.0.0.2"}
    for name, value in {**addresses, **fields}.items():
        record[name] = mapped(value) if name.endswith("_address") else value
    for name, value in owner.items():
        record["owner"][name] = value
    return record


def _client(id_: int, **fields: Any) -> Any:
    defaults = {
        "id": id_, "role": layout.CLIENT, "flags": layout.FLAG_ATTEMPT, "opened_ns": 1,
        "established_ns": 2, "local_port": 4000 + id_, "remote_port": 80, "tgid": 10,
        "command": b"web",
    }  # fmt: skip
    return _record(**{**defaults, **fields})


def _server(id_: int, *, of: int, **fields: Any) -> Any:
    """Return the other end of client `of`."""
    defaults = {
        "id": id_, "role": layout.SERVER, "flags": layout.FLAG_ATTEMPT, "opened_ns": 1,
        "established_ns": 1, "local_port": 80, "remote_port": 4000 + of, "tgid": 20,
        "command": b"api", "local_address": "10.0.0.2", "remote_address": "10.0.0.1",
    }  # fmt: skip
    return _record(**{**defaults, **fields})


class _Run:
    def __init__(self, tmp_path: Path, *, most_pairs: int = 10_000) -> None:
        services = ServiceNames(proc=tmp_path)  # nobody is alive: programs are the names
        self.names = PairNames(services, own_tgid=999, most_pairs=most_pairs)
        self.tracker = Tracker(self.names)
        self.second = 0

    def save(self) -> bytes:
        return memory.save(self.names, self.tracker)

    def restore(self, saved: bytes) -> None:
        memory.restore(saved, self.names, self.tracker)

    def sweep(
        self,
        live: Sequence[Any] = (),
        closed: Sequence[Any] = (),
        latencies: Sequence[tuple[int, int, int]] = (),
        *,
        lost: int = 0,
    ) -> dict[tuple[Pair, str], tuple[float, float]]:
        self.second += 1
        snapshot = Snapshot(
            np.array(list(live), layout.CONNECTION),
            np.array(list(closed), layout.CONNECTION),
            np.array([t[0] for t in latencies], np.uint64),
            np.array([t[1] for t in latencies], np.uint32),
            np.array([t[2] for t in latencies], np.uint64),
            lost,
        )
        self.window = self.tracker.update(
            snapshot, now_ns=self.second * S, time=self.second, width=1.0, nominal=1.0
        )
        return _table(self.window)


def _table(window: Window) -> dict[tuple[Pair, str], tuple[float, float]]:
    return {
        (window.pairs[pair], window.signals[signal]): (float(value), float(count))
        for pair, signal, value, count in zip(
            window.pair, window.signal, window.value, window.count, strict=True
        )
    }


PAIR = Pair("web", "api", 80)


def test_two_ends_are_one_pair_counted_at_the_client(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    seen = run.sweep([_client(1, bytes_out=10, bytes_in=99), _server(2, of=1, bytes_in=9)])
    assert {pair for pair, _ in seen} == {PAIR}
    assert seen[PAIR, "connections"][0] == 1
    assert seen[PAIR, "bytes_sent"][0] == 10
    assert seen[PAIR, "bytes_received"][0] == 99


def test_a_window_is_a_difference(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep([_client(1, bytes_out=10, turnarounds=1), _server(2, of=1)])
    seen = run.sweep([_client(1, bytes_out=25, turnarounds=4), _server(2, of=1)])
    assert seen[PAIR, "bytes_sent"][0] == 15
    assert seen[PAIR, "requests"][0] == 3
    assert seen[PAIR, "connections"][0] == 0


def test_a_connection_closed_between_the_two_reads_counts_once(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep([_client(1, bytes_out=10), _server(2, of=1)])
    last = _client(1, bytes_out=30, closed_ns=2 * S)
    seen = run.sweep([_client(1, bytes_out=20), _server(2, of=1)], [last])
    assert seen[PAIR, "bytes_sent"][0] == 20
    assert seen[PAIR, "resets"] == (0, 1)
    assert run.sweep([_server(2, of=1)])[PAIR, "bytes_sent"][0] == 0


def test_a_record_born_during_the_sweep_waits_for_its_other_end(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    born = 1 * S + 5
    assert run.sweep([], [_server(2, of=1, opened_ns=born, bytes_in=7)]) == {}
    client = _client(1, opened_ns=born - 1, established_ns=born, bytes_out=7)
    seen = run.sweep([client])
    assert {pair for pair, _ in seen} == {PAIR}
    assert seen[PAIR, "connections"][0] == 1
    assert seen[PAIR, "bytes_sent"][0] == 7


def test_a_server_end_that_comes_a_window_after_its_client_has_gone(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep([], [_client(1, bytes_out=7, closed_ns=5)])
    seen = run.sweep([_server(2, of=1, bytes_in=7)])
    assert not [pair for pair, _ in seen if pair.client == "10.0.0.1"]


def test_one_tuple_used_twice_in_a_window(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    first = [_client(1, bytes_out=5, closed_ns=9), _server(2, of=1, bytes_in=5, closed_ns=9)]
    again = [_client(3, local_port=4001, bytes_out=6), _server(4, of=1, bytes_in=6)]
    seen = run.sweep(again, first)
    assert {pair for pair, _ in seen} == {PAIR}
    assert seen[PAIR, "connections"][0] == 2
    assert seen[PAIR, "bytes_sent"][0] == 11


def test_namespaces_with_the_same_addresses_stay_apart(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    loop = {"local_address": "127.0.0.1", "remote_address": "127.0.0.1"}
    seen = run.sweep(
        [
            _client(1, netns=1, **loop),
            _server(2, of=1, netns=1, **loop),
            _client(1 + 10, local_port=4001, netns=2, command=b"cron", tgid=11, **loop),
            _server(12, of=1, netns=2, command=b"mail", tgid=21, **loop),
        ]
    )
    assert {pair for pair, _ in seen} == {PAIR, Pair("cron", "mail", 80)}


def test_a_client_elsewhere_is_named_by_its_address(tmp_path: Path) -> None:
    seen = _Run(tmp_path).sweep([_server(2, of=1, bytes_in=5, bytes_out=8)])
    pair = Pair("10.0.0.1", "api", 80)
    assert seen[pair, "bytes_sent"][0] == 5
    assert seen[pair, "bytes_received"][0] == 8
    assert (pair, "connect_errors") not in seen


def test_a_server_that_is_down_keeps_its_name_even_over_a_restart(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep([_client(1), _server(2, of=1)])
    refused = {"established_ns": 0, "error": 111, "flags": layout.FLAG_ATTEMPT | layout.FLAG_FAILED}
    seen = run.sweep([], [_client(3, **refused)])
    assert seen[PAIR, "connect_errors"] == (1, 1)
    (row,) = run.window.causes
    assert run.window.causes[row] == {"refused": 1}
    later = _Run(tmp_path)
    later.restore(run.save())
    assert later.sweep([], [_client(3, **refused)])[PAIR, "connect_errors"] == (1, 1)


def test_a_silent_pair_says_zero_after_a_restart_too(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep([_client(1, bytes_out=4), _server(2, of=1)])
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
    seen = run.sweep([_client(1), _server(2, of=1, tgid=0, command=b"")])
    assert {pair for pair, _ in seen} == {Pair("web", "unknown", 80)}
    seen = run.sweep([_client(1, bytes_out=3), _server(2, of=1)])
    assert seen[PAIR, "bytes_sent"][0] == 3


def test_a_connection_handed_to_another_service(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep([_client(1), _server(2, of=1, tgid=1, command=b"systemd")])
    seen = run.sweep([_client(1, bytes_out=3), _server(2, of=1, segments_out=5)])
    assert seen[PAIR, "bytes_sent"][0] == 3
    assert seen[PAIR, "retransmits"] == (0, 5)
    seen = run.sweep([_server(2, of=1, segments_out=9)], [_client(1, bytes_out=4)])
    assert seen[PAIR, "bytes_sent"][0] == 1
    for _ in range(2):
        run.sweep([_server(2, of=1, segments_out=9)])
    # nobody is left who could say who called the worker
    seen = run.sweep([_server(2, of=1, tgid=21, command=b"worker", segments_out=12)])
    assert seen[PAIR, "retransmits"] == (0, 3)


def test_our_own_connections_are_nobody_s(tmp_path: Path) -> None:
    assert _Run(tmp_path).sweep([_client(1, tgid=999), _server(2, of=1)]) == {}


def test_latencies_find_their_pair(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    bucket = int(bucket_of(5_000_000))
    seen = run.sweep(
        [_client(1, turnarounds=3), _server(2, of=1, turnarounds=3)],
        [],
        [(1, bucket, 3), (2, 9, 3)],
    )
    value, count = seen[PAIR, "request_latency"]
    assert value == pytest.approx(0.005, rel=0.06)
    assert count == 3
    assert run.window.histograms.number.sum() == 3 + 1  # and one connect latency


def test_both_ends_segments_make_the_retransmits(tmp_path: Path) -> None:
    seen = _Run(tmp_path).sweep(
        [
            _client(1, segments_out=90, retransmits=1),
            _server(2, of=1, segments_out=110, retransmits=9),
        ]
    )
    assert seen[PAIR, "retransmits"] == (0.05, 200)


def test_too_many_clients_are_folded(tmp_path: Path) -> None:
    run = _Run(tmp_path, most_pairs=2)
    seen = run.sweep(
        [_server(i, of=i, remote_address=f"10.1.0.{i}", bytes_in=1) for i in range(1, 6)]
    )
    assert len({pair for pair, _ in seen}) == 3
    assert seen[Pair("other", "api", 80), "bytes_sent"][0] == 3
    assert run.names.folded == 3


def test_idle_pairs_make_room(tmp_path: Path) -> None:
    run = _Run(tmp_path, most_pairs=2)
    run.sweep([], [_server(i, of=i, remote_address=f"10.1.0.{i}") for i in (1, 2)])
    run.second += 4000
    run.sweep()
    late = _server(3, of=3, remote_address="10.1.0.3", opened_ns=run.second * S, bytes_in=1)
    seen = run.sweep([late])
    assert seen[Pair("10.1.0.3", "api", 80), "bytes_sent"][0] == 1
    assert {pair for pair, _ in seen} == {Pair("10.1.0.3", "api", 80)}
    assert run.names.folded == 0


def test_idle_pairs_say_zero_and_lost_samples_travel(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    run.sweep([_client(1), _server(2, of=1)])
    seen = run.sweep([_client(1), _server(2, of=1)], lost=4)
    assert {s for _, s in seen} == {"connections", "requests", "bytes_sent", "bytes_received"}
    assert all(value == 0 for value, _ in seen.values())
    assert run.window.lost == 4


def test_addresses() -> None:
    assert address_text(mapped("10.1.2.3")) == "10.1.2.3"
    assert address_text(mapped("fd00::1%eth0")) == "fd00::1"
    assert address_text(mapped("::1")) == "::1"
