"""Connections whose addresses are translated on the way: still one pair, seen at both ends."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack

import pytest

from probes.join import Joiner
from probes.window import Pair, Window
from tests.support.nat import Routed, routed
from tests.support.traffic import hear, running
from tests.support.watching import watching

pytestmark = pytest.mark.kernel

_ASKED, _REAL = 8080, 9090
_NUMBER = 40
_RATES = frozenset(
    f"{end}{signal}"
    for end in ("", "server_")
    for signal in ("connections", "requests", "bytes_sent", "bytes_received")
)

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


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("translated", [False, True], ids=["none", "both"])
def test_two_agents_that_see_one_end_each(*, translated: bool, version: int) -> None:
    with routed() as hosts, ExitStack() as stack:
        hosts.translate(source=translated, destination=translated, ports=(_ASKED, _REAL))
        where = (hosts.public, _ASKED) if translated else (hosts.real, _REAL)
        command = ("ip", "netns", "exec", hosts.server, sys.executable, "-c", _SERVER, str(_REAL))
        assert hear(stack.enter_context(running(*command, stdout=-1))) == "ready"
        left, right = (
            stack.enter_context(watching(0.5, netns=[name]))
            for name in (hosts.client, hosts.server)
        )
        _run(hosts, where[0][version], where[1])
        for each in (left, right):
            each.settle(3)
        met = max(left.windows[-1].time, right.windows[-1].time)
        _run(hosts, where[0][version], where[1])
        for each in (left, right):
            each.settle(3)
    by_time: dict[float, list[tuple[str, Window]]] = {}
    for host, watch in (("left", left), ("right", right)):
        for window in watch.windows:
            by_time.setdefault(window.time, []).append((host, window))
    joiner, moved = Joiner(), Counter[tuple[Pair, str]]()
    for time in sorted(by_time):
        joined = joiner.join(by_time[time]).window
        for pair, signal, value in zip(joined.pair, joined.signal, joined.value, strict=True):
            amount = round(float(value) * joined.width)
            if time > met and amount and joined.signals[signal] in _RATES:
                moved[joined.pairs[pair], joined.signals[signal]] += amount
    one = Pair("python", "python", _REAL)
    assert moved == {
        (one, "connections"): _NUMBER,
        (one, "requests"): _NUMBER,
        (one, "server_requests"): _NUMBER,
        (one, "bytes_sent"): 100 * _NUMBER,
        (one, "server_bytes_received"): 100 * _NUMBER,
        (one, "bytes_received"): 200 * _NUMBER,
        (one, "server_bytes_sent"): 200 * _NUMBER,
    }


def _run(hosts: Routed, address: str, port: int) -> None:
    command = ["ip", "netns", "exec", hosts.client, sys.executable, "-c", _CLIENT, address]
    with running(*command, str(port), str(_NUMBER), stdout=-1) as client:
        assert hear(client) == "done"
