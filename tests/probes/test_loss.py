"""What cannot be kept is counted, and the rest stays right."""

import subprocess
import sys

import pytest

from probes.observer import Observer
from probes.programs import Capacity
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


def _watch(capacity: Capacity, connections: int) -> Watch:
    port = free_port()
    with Observer(1.0, capacity=capacity) as observer:
        watch = Watch(observer)
        watch.start()
        subprocess.run([sys.executable, "-c", _MANY, str(port), str(connections)], check=True)
        watch.settle()
        watch.stop()
    return watch


def test_full_maps_are_counted() -> None:
    watch = _watch(Capacity(connections=64, closed=64, latencies=64, listeners=64), 150)
    assert watch.lost >= 150 * 2 - 64 - 64


def test_nothing_is_lost_where_there_is_room() -> None:
    assert _watch(Capacity(), 150).lost == 0
