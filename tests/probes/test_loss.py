"""What cannot be kept is counted, and the rest stays right."""

import subprocess
import sys

import pytest

from probes.capacity import Capacity
from probes.observer import Observer
from probes.window import Pair
from tests.support.traffic import free_port
from tests.support.watching import Watch

pytestmark = pytest.mark.kernel

_MANY = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
ends = []
for _ in range(int(sys.argv[2])):
    c = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    ends += [c, server.accept()[0]]
for end in ends[::2]: end.sendall(b"x")
for end in ends: end.close()
"""


def _watch(capacity: Capacity, connections: int) -> tuple[Watch, int]:
    port = free_port()
    with Observer(1.0, capacity=capacity) as observer:
        watch = Watch(observer)
        watch.start()
        subprocess.run([sys.executable, "-c", _MANY, str(port), str(connections)], check=True)
        watch.settle()
        watch.stop()
    return watch, port


def test_connections_that_find_no_room_are_counted() -> None:
    watch, _ = _watch(Capacity(connections=64), 150)
    assert watch.lost >= 150 * 2 - 64


_MANY_PORTS = """
import socket, sys
servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
for server in servers:
    c = socket.create_connection(server.getsockname())
    c.sendall(b"x")
    c.close()
"""


def test_a_group_that_finds_no_room_is_folded_into_one_for_all() -> None:
    with Observer(1.0, capacity=Capacity(groups=64)) as observer:
        watch = Watch(observer)
        watch.start()
        subprocess.run([sys.executable, "-c", _MANY_PORTS, "200"], check=True)
        watch.settle()
        watch.stop()
    other = Pair("other", "other", 0)
    named = [pair for pair in watch.pairs() if pair != other]
    assert len(named) < 64
    assert watch.lost >= 200 - 64
    # both ends of a pair count where nobody can tell them apart
    assert watch.total(other, "connections") >= 2 * (200 - 64)
    assert watch.total(other, "bytes_sent") + watch.total(other, "bytes_received") >= 200 - 64


def test_latencies_that_find_no_room_are_counted() -> None:
    watch, port = _watch(Capacity(latencies=4), 150)
    assert watch.lost >= 1
    assert watch.total(watch.pair(port=port), "connections") == 150


def test_nothing_is_lost_where_there_is_room() -> None:
    watch, port = _watch(Capacity(), 150)
    assert watch.lost == 0
    assert watch.total(watch.pair(port=port), "connections") == 150
