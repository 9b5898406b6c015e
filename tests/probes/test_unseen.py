"""Ends that the kernel told nobody of: the next sweep finds them, and counts nothing that is not
theirs."""

from __future__ import annotations

import pytest

from tests.support.traffic import free_port, hear, python, say
from tests.support.watching import watching

pytestmark = pytest.mark.kernel

_NUMBER = 200

_BOTH_ENDS = """
import socket, sys
def talk(server, size):
    ends = []
    for _ in range(int(sys.argv[2])):
        client = socket.create_connection(server.getsockname())
        peer = server.accept()[0]
        client.sendall(b"x" * 10)
        peer.recv(10, socket.MSG_WAITALL)
        peer.sendall(b"y" * size)
        client.recv(size, socket.MSG_WAITALL)
        ends += [client, peer]
    return ends
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
other = socket.create_server(("127.0.0.1", 0))
ends = talk(server, 20)
print("open", flush=True)
again = sys.stdin.readline().strip()
for end in ends: end.close()
if again: ends = talk(other, 100_000)
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("again", ["", "again"], ids=["left alone", "used again"])
def test_the_end_of_sockets_whose_memory_is(again: str) -> None:
    port = free_port()
    with watching(0.25) as watch, python(_BOTH_ENDS, port, _NUMBER) as process:
        assert hear(process) == "open"
        watch.settle()
        before = watch.observer.connections
        watch.observer._programs.loaded.detach()
        say(process, again)
        assert hear(process) == "closed"
        watch.settle(3)
        pair = watch.pair(port=port)
        assert watch.total(pair, "connections") == _NUMBER
        assert watch.total(pair, "requests") == _NUMBER
        assert watch.total(pair, "bytes_sent") == 10 * _NUMBER
        assert watch.total(pair, "bytes_received") == 20 * _NUMBER
        reset, ended = watch.part_and_whole(pair, "resets")
        assert (reset, ended) == (0, _NUMBER)
        assert before - watch.observer.connections == 2 * _NUMBER
        say(process)
