"""Conntrack, followed: who is behind an address, and what happens when it is too much."""

from __future__ import annotations

import ipaddress
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from probes.conntrack.follower import Conntrack
from probes.identity.rules import Rule
from probes.identity.sources import NamingSettings
from probes.window import Pair
from tests.support.ctnetlink import fill_in, message
from tests.support.nat import more_clients, routed, within
from tests.support.netns import lone_host
from tests.support.traffic import hear, running, wait_for
from tests.support.tun import asking, echo
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
_ASKED = random.randrange(30_000, 32_000)
_REAL = _ASKED + 10
_MOST = Path("/proc/sys/net/netfilter/nf_conntrack_max")

_SERVER = """
import socket, sys
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.bind(("", int(sys.argv[1])))
print("ready", flush=True)
while True:
    question, who = end.recvfrom(1000)
    end.sendto(question, who)
"""

# from one port, not connected: nothing but its namespace tells it from others
_CLIENT = """
import socket, sys
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.settimeout(10)
end.bind(("", 5000))
for _ in range(int(sys.argv[3])):
    end.sendto(b"x" * 100, (sys.argv[1], int(sys.argv[2])))
    end.recv(1000)
print("done", flush=True)
sys.stdin.read()
"""

_TCP_CLIENT = """
import socket, sys
for _ in range(int(sys.argv[3])):
    end = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    end.sendall(b"x" * 100)
    end.shutdown(socket.SHUT_WR)
    assert end.recv(10) == b""
print("done", flush=True)
sys.stdin.read()
"""


def _inode(namespace: str) -> int:
    return Path("/run/netns", namespace).stat().st_ino


def _pairs(watch: Watch, port: int) -> set[Pair]:
    return {pair for pair in watch.pairs() if pair.port == port}


def _client(directory: Path, name: str) -> Path:
    """Return a program of that name: the clients of one test must be told apart."""
    program = directory / name
    program.symlink_to("/usr/bin/python3")
    return program


def test_many_clients_of_one_virtual_address_behind_one_source_address(tmp_path: Path) -> None:
    number = 12
    with routed() as hosts, more_clients(hosts, number) as clients:
        hosts.translate(source="snat", destination=True, ports=(_ASKED, _REAL))
        server_command = within(hosts.server, sys.executable, "-c", _SERVER, _REAL)
        with running(*server_command, stdout=-1) as server, watching(0.5) as watch:
            assert hear(server) == "ready"
            assert watch.observer.conntrack.wait(20)
            running_clients = []
            try:
                for each, namespace in enumerate(clients):
                    program = _client(tmp_path, f"client{each}")
                    command = within(
                        namespace, program, "-c", _CLIENT, hosts.public[0], _ASKED, 1 + each
                    )
                    running_clients.append(
                        subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
                    )
                for client in running_clients:
                    assert hear(client) == "done"
                watch.settle(6)
            finally:
                for client in running_clients:
                    client.kill()
                    client.communicate()
        assert _pairs(watch, _REAL) | _pairs(watch, _ASKED) == {
            Pair(f"client{each}", "python", _REAL, "udp") for each in range(number)
        }
        for each in range(number):
            pair = Pair(f"client{each}", "python", _REAL, "udp")
            assert watch.total(pair, "connections") == 1
            assert watch.total(pair, "requests") == 1 + each
            assert watch.total(pair, "bytes_sent") == 100 * (1 + each)
            assert watch.samples(pair, "drops") == 4 * (1 + each)  # datagrams at both ends
            assert watch.samples(pair, "server_latency") >= 1


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("ruled", [False, True], ids=["by its address", "by a rule"])
def test_a_server_elsewhere_behind_a_virtual_address(*, transport: str, ruled: bool) -> None:
    with routed() as hosts:
        far = f"192.0.2.{hosts.net}"
        # the router's side of the server is where "elsewhere" is
        rules = (
            f"table inet far {{\nchain pre {{ type nat hook prerouting priority -101; "
            f"ip daddr {hosts.public[0]} {transport} dport {_ASKED} "
            f"dnat ip to {far}:{_REAL};\n}}\n}}"
        )
        command = within(hosts.routers[0], "nft", "-f", "-")
        subprocess.run(command, input=rules, text=True, check=True)
        rule = Rule("bank", address=ipaddress.ip_network(far))
        naming = NamingSettings(rules=[rule] if ruled else [], container_sockets=())
        with echo(hosts.routers[0], far), watching(0.5, naming=naming) as watch:
            assert watch.observer.conntrack.wait(20)
            program = {"udp": _CLIENT, "tcp": _TCP_CLIENT}[transport]
            asked = hosts.public[0], _ASKED, 5
            command = within(hosts.client, sys.executable, "-c", program, *asked)
            with running(*command, stdin=-1, stdout=-1) as client:
                assert hear(client) == "done"
                watch.settle(6)
        pair = Pair("python", "bank" if ruled else far, _REAL, transport)
        assert _pairs(watch, _REAL) | _pairs(watch, _ASKED) == {pair}
        assert watch.total(pair, "bytes_sent") == 500


@pytest.mark.parametrize("number", [1, 2], ids=["one client", "two clients"])
def test_a_client_elsewhere_behind_a_source_address(number: int) -> None:
    with routed() as hosts:
        hosts.translate(source="masquerade", destination=False, ports=(_ASKED, _REAL))
        far = [f"10.251.{hosts.net}.{1 + each}" for each in range(number)]
        server_command = within(hosts.server, sys.executable, "-c", _SERVER, _REAL)
        with running(*server_command, stdout=-1) as server, watching(0.5) as watch:
            assert hear(server) == "ready"
            assert watch.observer.conntrack.wait(20)
            with asking(hosts.routers[0], far, (hosts.real[0], _REAL), 5):
                watch.settle(8)
        # of two, it is not known whose a datagram is
        client = far[0] if number == 1 else hosts.address(1, 254)[0]
        pair = Pair(client, "python", _REAL, "udp")
        assert _pairs(watch, _REAL) == {pair}
        assert watch.total(pair, "connections") == 5 * number
        assert watch.total(pair, "requests") == 5 * number
        assert watch.total(pair, "bytes_sent") == 500 * number


def test_what_there_was_what_comes_and_what_goes() -> None:
    with lone_host() as host:
        inode = _inode(host)
        fill_in(host, 500, 100)
        # of what there was before anybody listened, no end is told
        conntrack = Conntrack(again_s=1.0)
        try:
            assert conntrack.wait(20)
            assert conntrack.kept_of(inode) == 100
            fill_in(host, 50, 20, first=1000)
            wait_for(lambda: conntrack.kept_of(inode) == 120, what="20 more")
            subprocess.run(within(host, "conntrack", "-F"), check=True, capture_output=True)
            wait_for(lambda: conntrack.kept_of(inode) == 0, what="none is left")
            assert conntrack.overruns == 0
        finally:
            conntrack.close()


def test_an_overrun_is_counted_and_healed() -> None:
    with lone_host() as host:
        inode = _inode(host)
        conntrack = Conntrack(receive_bytes=2048)
        try:
            assert conntrack.wait(20)
            fill_in(host, 5000, 5000)
            wait_for(lambda: conntrack.kept_of(inode) == 5000, within_s=30, what="all are known")
            assert conntrack.overruns
            assert any("events of conntrack were lost" in each for each in conntrack.problems)
            subprocess.run(within(host, "conntrack", "-F"), check=True, capture_output=True)
            wait_for(lambda: conntrack.kept_of(inode) == 0, within_s=30, what="none is left")
        finally:
            conntrack.close()


def test_more_than_there_is_room_for_is_counted() -> None:
    with lone_host() as host:
        fill_in(host, 500, 500)
        conntrack = Conntrack(most=300)
        try:
            assert conntrack.wait(20)
            assert conntrack.kept == 300
            assert conntrack.refused >= 200
            assert any("found no room" in each for each in conntrack.problems)
        finally:
            conntrack.close()


def test_a_namespace_comes_and_is_let_go() -> None:
    conntrack = Conntrack()
    link = f"v{random.randrange(1 << 40):x}"
    try:
        assert conntrack.wait(20)
        with lone_host() as host:
            inode = _inode(host)
            command = [
                "ip",
                "link",
                "add",
                link,
                "type",
                "veth",
                "peer",
                "name",
                "e0",
                "netns",
                host,
            ]
            subprocess.run(command, check=True)
            wait_for(lambda: conntrack.follows(inode), what="it is followed")
            assert link in dict(socket.if_nameindex()).values()
        wait_for(lambda: not conntrack.follows(inode), what="it is let go")
        # a namespace that somebody holds keeps its links
        wait_for(lambda: link not in dict(socket.if_nameindex()).values(), what="it is gone")
    finally:
        conntrack.close()


@pytest.mark.parametrize(
    ("kept", "said"),
    [("-all", "CAP_NET_ADMIN"), ("-all,+net_admin", "CAP_SYS_ADMIN"), ("+all", "")],
    ids=["none", "no other namespaces", "all"],
)
def test_what_is_not_permitted_is_said(kept: str, said: str) -> None:
    program = (
        "from probes.conntrack.follower import Conntrack\n"
        "c = Conntrack(); print(c.wait(20), c.namespaces, *c.problems); c.close()"
    )
    with lone_host():
        command = ["setpriv", "--inh-caps=-all", f"--bounding-set={kept}", sys.executable, "-c"]
        shown = subprocess.run(
            [*command, program], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split(maxsplit=2)
    assert shown[0] == "True"
    assert int(shown[1]) >= {"-all": 0, "-all,+net_admin": 1, "+all": 2}[kept]
    assert said in "".join(shown[2:])
    if not said:
        assert len(shown) == 2


def test_two_hundred_thousand_connections_hold_nothing_up() -> None:
    number = min(200_000, int(_MOST.read_text()) * 3 // 4)
    with routed() as hosts, lone_host() as crowded:
        hosts.translate(source="snat", destination=True, ports=(_ASKED, _REAL))
        fill_in(crowded, number, number // 10)
        fill_in(hosts.routers[0], 100, 100)
        server_command = within(hosts.server, sys.executable, "-c", _SERVER, _REAL)
        with running(*server_command, stdout=-1) as server, watching(0.5) as watch:
            assert hear(server) == "ready"
            assert watch.observer.conntrack.wait(60)
            assert watch.observer.conntrack.kept_of(_inode(crowded)) == number // 10
            asked = hosts.public[0], _ASKED, 20
            command = within(hosts.client, sys.executable, "-c", _CLIENT, *asked)
            with running(*command, stdin=-1, stdout=-1) as client:
                assert hear(client) == "done"
                watch.settle(6)
        pair = Pair("python", "python", _REAL, "udp")
        assert _pairs(watch, _REAL) | _pairs(watch, _ASKED) == {pair}
        assert watch.total(pair, "requests") == 20
        assert watch.lost == 0
        assert max(window.width for window in watch.windows[1:]) < 2 * 0.5


def test_the_kernel_takes_what_the_tests_send() -> None:
    """As a check on the tests' own messages: conntrack(8) shows them."""
    with lone_host() as host:
        assert len(message(1, translated=True)) > len(message(1, translated=False))
        fill_in(host, 2, 1)
        shown = subprocess.run(
            within(host, "conntrack", "-L"), check=True, capture_output=True, text=True
        ).stdout
    assert shown.count("src=198.51.100.1") == 1
    assert shown.count("udp") == 2
