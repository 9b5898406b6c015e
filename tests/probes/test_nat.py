"""Connections whose addresses are translated on the way: still one pair, seen at both ends."""

from __future__ import annotations

import sys

import pytest

from probes.window import Pair
from tests.support.nat import Routed, routed
from tests.support.traffic import hear, running
from tests.support.watching import watching

pytestmark = pytest.mark.kernel

_ASKED, _REAL = 8080, 9090
_NUMBER = 40

_SERVER = """
import socket, sys
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    end = server.accept()[0]
    end.sendall(b"y" * len(end.recv(100)) * 2)
    end.close()
"""

_CLIENT = """
import socket, sys
for _ in range(int(sys.argv[3])):
    end = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    end.sendall(b"x" * 100)
    got = 0
    while data := end.recv(1000): got += len(data)
    assert got == 200, got
print("done", flush=True)
"""


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("source", "destination"),
    [(False, False), (True, False), (False, True), (True, True)],
    ids=["none", "SNAT", "DNAT", "both"],
)
def test_tcp(*, source: bool, destination: bool, version: int) -> None:
    with routed() as hosts:
        hosts.translate(source=source, destination=destination, ports=(_ASKED, _REAL))
        where = (hosts.public, _ASKED) if destination else (hosts.real, _REAL)
        with (
            running("ip", "netns", "exec", hosts.server, sys.executable, "-c", _SERVER, str(_REAL),
                    stdout=-1) as server,
            watching(0.5) as watch,
        ):  # fmt: skip
            assert hear(server) == "ready"
            _run(hosts, where[0][version], where[1])
            watch.settle(3)
        active = {pair for pair in watch.pairs() if pair.port in (_ASKED, _REAL)}
        assert active == {Pair("python", "python", _REAL)}
        pair = active.pop()
        assert watch.total(pair, "connections") == _NUMBER
        assert watch.total(pair, "requests") == _NUMBER
        assert watch.total(pair, "bytes_sent") == 100 * _NUMBER
        assert watch.total(pair, "bytes_received") == 200 * _NUMBER
        assert watch.samples(pair, "server_latency") == _NUMBER  # the server's end is joined
        assert watch.lost == 0


def _run(hosts: Routed, address: str, port: int) -> None:
    command = ["ip", "netns", "exec", hosts.client, sys.executable, "-c", _CLIENT, address]
    with running(*command, str(port), str(_NUMBER), stdout=-1) as client:
        assert hear(client) == "done"
