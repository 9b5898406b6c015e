"""Traffic whose addresses are translated on the way: still one pair, seen at both ends."""

from __future__ import annotations

import random
import sys
from collections import Counter
from contextlib import ExitStack

import pytest

from probes.join import Joiner
from probes.window import Pair, Window
from tests.support.nat import Routed, Source, routed, within
from tests.support.traffic import hear, running
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel

_ASKED = random.randrange(20_000, 29_000)  # others of this host have ports too
_REAL = _ASKED + 10
_NUMBER = 40
_RATES = frozenset(
    f"{end}{signal}"
    for end in ("", "server_")
    for signal in ("connections", "requests", "bytes_sent", "bytes_received")
)

_SERVERS = {
    "tcp": """
import socket, sys
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    end = server.accept()[0]
    end.sendall(b"y" * len(end.recv(100)) * 2)
    end.close()
""",
    "udp": """
import socket, sys
end = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
end.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
while True:
    question, who = end.recvfrom(1000)
    end.sendto(question * 2, who)
""",
}

_CLIENTS = {
    "tcp": """
import socket, sys
for _ in range(int(sys.argv[3])):
    end = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    end.sendall(b"x" * 100)
    got = 0
    while data := end.recv(1000): got += len(data)
    assert got == 200, got
print("done", flush=True)
sys.stdin.read()  # one that is gone has no name
""",
    # every other socket is connected: only that one knows its own address
    "udp": """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
for number in range(int(sys.argv[3])):
    end = socket.socket(family, socket.SOCK_DGRAM)
    end.settimeout(10)
    if number % 2: end.connect((sys.argv[1], int(sys.argv[2])))
    for question in range(1 + number % 3):
        if number % 2: end.send(b"x" * 100)
        else: end.sendto(b"x" * 100, (sys.argv[1], int(sys.argv[2])))
        assert len(end.recv(1000)) == 200
print("done", flush=True)
sys.stdin.read()  # one that is gone has no name
""",
}
_QUESTIONS = {"tcp": _NUMBER, "udp": sum(1 + number % 3 for number in range(_NUMBER))}


@pytest.mark.parametrize(
    ("source", "destination", "routers"),
    [
        ("", False, 1),
        ("snat", False, 1),
        ("masquerade", False, 1),
        ("", True, 1),
        ("snat", True, 1),
        ("masquerade", True, 1),
        ("snat", True, 2),
    ],
    ids=["none", "SNAT", "masquerade", "DNAT", "SNAT and DNAT", "masquerade and DNAT",
         "two routers, SNAT and DNAT"],
)  # fmt: skip
def test_one_pair(*, source: Source, destination: bool, routers: int) -> None:
    with routed(routers) as hosts, ExitStack() as stack:
        hosts.translate(source=source, destination=destination, ports=(_ASKED, _REAL))
        addresses, port = (hosts.public, _ASKED) if destination else (hosts.real, _REAL)
        for source_text in _SERVERS.values():
            command = within(hosts.server, sys.executable, "-c", source_text, _REAL)
            assert hear(stack.enter_context(running(*command, stdout=-1))) == "ready"
        with watching(0.5) as watch:
            assert watch.observer.conntrack.wait(20)
            for source_text in _CLIENTS.values():
                command = within(hosts.client, sys.executable, "-c", source_text)
                for address in addresses:
                    asking = (*command, address, str(port), str(_NUMBER))
                    client = stack.enter_context(running(*asking, stdin=-1, stdout=-1))
                    assert hear(client) == "done"
            watch.settle(6)
        pairs = {transport: Pair("python", "python", _REAL, transport) for transport in _SERVERS}
        assert _of(watch, hosts) == set(pairs.values())
        for transport, pair in pairs.items():
            _check(watch, pair, len(addresses) * _NUMBER, len(addresses) * _QUESTIONS[transport])


def _check(watch: Watch, pair: Pair, connections: int, questions: int) -> None:
    assert watch.total(pair, "connections") == connections
    assert watch.total(pair, "requests") == questions
    assert watch.total(pair, "bytes_sent") == 100 * questions
    assert watch.total(pair, "bytes_received") == 200 * questions
    if pair.transport == "udp":
        assert watch.samples(pair, "connect_errors") == 2 * questions  # datagrams of the client's
        assert watch.samples(pair, "drops") == 4 * questions  # and of both ends
        # a port may come again, and of what waits one request is timed
        assert watch.samples(pair, "server_latency") >= connections // 2
    else:
        assert watch.samples(pair, "server_latency") == connections  # the server's end is joined
    assert watch.lost == 0


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("transport", "translated"),
    [("tcp", False), ("tcp", True), ("udp", False)],
    ids=["TCP", "TCP, SNAT and DNAT", "UDP"],
)
def test_two_agents_that_see_one_end_each(
    *, transport: str, translated: bool, version: int
) -> None:
    with routed() as hosts, ExitStack() as stack:
        hosts.translate(
            source="snat" if translated else "", destination=translated, ports=(_ASKED, _REAL)
        )
        where = (hosts.public, _ASKED) if translated else (hosts.real, _REAL)
        serving = within(hosts.server, sys.executable, "-c", _SERVERS[transport], _REAL)
        assert hear(stack.enter_context(running(*serving, stdout=-1))) == "ready"
        left, right = (
            stack.enter_context(watching(0.5, netns=[name]))
            for name in (hosts.client, hosts.server)
        )
        _call(hosts, transport, where[0][version], where[1])
        for each in (left, right):
            each.settle(6)
        met = max(left.windows[-1].time, right.windows[-1].time)
        _call(hosts, transport, where[0][version], where[1])
        for each in (left, right):
            each.settle(6)
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
    one, asked = Pair("python", "python", _REAL, transport), _QUESTIONS[transport]
    assert moved == {
        (one, "connections"): _NUMBER,
        (one, "requests"): asked,
        (one, "server_requests"): asked,
        (one, "bytes_sent"): 100 * asked,
        (one, "server_bytes_received"): 100 * asked,
        (one, "bytes_received"): 200 * asked,
        (one, "server_bytes_sent"): 200 * asked,
    }


def _call(hosts: Routed, transport: str, address: str, port: int) -> None:
    # who asks without connect(2) does not say by which of its addresses
    source = _CLIENTS[transport].replace("number % 2", "True")
    command = within(hosts.client, sys.executable, "-c", source, address, port, _NUMBER)
    with running(*command, stdin=-1, stdout=-1) as client:
        assert hear(client) == "done"


def _of(watch: Watch, hosts: Routed) -> set[Pair]:
    """Return the pairs that are ours: by their port, or by an address."""
    addresses = {
        address
        for segment in range(len(hosts.routers) + 1)
        for host in (1, 2, 254)
        for address in hosts.address(segment, host)
    }
    return {
        pair
        for pair in watch.pairs()
        if pair.port in (_ASKED, _ASKED + 1, _REAL) or addresses & {pair.client, pair.server}
    }
