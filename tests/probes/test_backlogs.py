"""Connections that listeners turn away: as many as the kernel counts, and for the right reason."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bpf import layout
from probes.backlogs import Backlogs
from probes.identity.resolver import Services
from probes.naming import PairNames
from probes.window import Pair
from tests.support.netns import Hosts, two_hosts
from tests.support.traffic import hear, running
from tests.support.watching import Watch, watching

kernel = pytest.mark.kernel
PYTHON = Path(sys.executable).name

_LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=2)
print("listening", flush=True)
sys.stdin.readline()
"""
_ACCEPT = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=200)
print("listening", flush=True)
while True: server.accept()[0].close()
"""
_CONNECT = """
import socket, sys, time
sockets = []
for _ in range(int(sys.argv[3])):
    c = socket.socket()
    c.setblocking(False)
    c.connect_ex((sys.argv[1], int(sys.argv[2])))
    sockets.append(c)
# the first repetitions of their SYNs come after one second
time.sleep(float(sys.argv[4]))
"""


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


@contextlib.contextmanager
def _server(hosts: Hosts, source: str, port: int) -> Iterator[None]:
    command = hosts.on_right(sys.executable, "-c", source, hosts.right_address, port)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(*command, **pipes) as process:
        assert hear(process) == "listening"
        yield


def _connect(hosts: Hosts, port: int, times: int, wait_s: float) -> None:
    words = (sys.executable, "-c", _CONNECT, hosts.right_address, port, times, wait_s)
    subprocess.run(hosts.on_left(*words), check=True)


def _netstat(hosts: Hosts) -> tuple[int, int]:
    """Return (ListenOverflows, ListenDrops) of the right host, as nstat(8) reads them."""
    counts = {}
    for name in ("TcpExtListenOverflows", "TcpExtListenDrops"):
        said = subprocess.run(
            hosts.on_right("nstat", "-asz", name), check=True, capture_output=True, text=True
        ).stdout
        counts[name] = int(said.split(name)[1].split()[0])
    return counts["TcpExtListenOverflows"], counts["TcpExtListenDrops"]


def _drops(watch: Watch, port: int, came: int) -> tuple[float, dict[str, int]]:
    pair = Pair("any", PYTHON, port)
    part, whole = watch.part_and_whole(pair, "drops")
    # who was let in before anybody was turned away is not in it
    assert part <= whole <= came
    return part, dict(watch.causes(pair, "drops"))


@kernel
def test_a_server_that_does_not_accept(hosts: Hosts) -> None:
    with _server(hosts, _LISTEN, 8080), watching() as watch:
        _connect(hosts, 8080, 50, 1.5)
        watch.settle()
        overflows, drops = _netstat(hosts)
        assert overflows == drops > 47
        # its queue has room for one more than it says
        assert _drops(watch, 8080, drops + 3) == (drops, {"accept_queue": drops})


@kernel
def test_it_began_to_listen_while_watched(hosts: Hosts) -> None:
    with watching() as watch, _server(hosts, _LISTEN, 8080):
        _connect(hosts, 8080, 50, 0.1)
        watch.settle()
        overflows, _ = _netstat(hosts)
        assert overflows == 47
        assert _drops(watch, 8080, 50) == (47, {"accept_queue": 47})


@kernel
def test_too_many_half_open_connections(hosts: Hosts) -> None:
    subprocess.run(hosts.on_right("sysctl", "-qw", "net.ipv4.tcp_syncookies=0"), check=True)
    lose = (
        "table inet t {\nchain in {\n"
        "type filter hook input priority 0; policy accept;\nmeta l4proto tcp drop\n}\n}\n"
    )
    subprocess.run(hosts.on_left("nft", "-f", "-"), input=lose, text=True, check=True)
    with _server(hosts, _LISTEN, 8080), watching() as watch:
        _connect(hosts, 8080, 50, 1.5)
        watch.settle()
        overflows, drops = _netstat(hosts)
        assert (overflows, drops > 47) == (0, True)
        assert _drops(watch, 8080, drops) == (drops, {"syn": drops})


@kernel
def test_each_listener_has_its_own(hosts: Hosts) -> None:
    with (
        _server(hosts, _LISTEN, 8080),
        _server(hosts, _LISTEN, 8081),
        _server(hosts, _ACCEPT, 8082),
        watching() as watch,
    ):
        _connect(hosts, 8080, 50, 0.1)
        _connect(hosts, 8081, 20, 0.1)
        _connect(hosts, 8082, 30, 0.3)
        watch.settle()
        assert _netstat(hosts) == (64, 64)
        assert _drops(watch, 8080, 50) == (47, {"accept_queue": 47})
        assert _drops(watch, 8081, 20) == (17, {"accept_queue": 17})
        assert _drops(watch, 8082, 30) == (0, {})


@kernel
def test_what_was_dropped_before_is_not_counted(hosts: Hosts) -> None:
    with _server(hosts, _LISTEN, 8080):
        _connect(hosts, 8080, 50, 0.1)
        assert _netstat(hosts) == (47, 47)
        with watching() as watch:
            watch.settle()
            assert _drops(watch, 8080, 0) == (0, {})
            _connect(hosts, 8080, 5, 0.1)
            watch.settle()
            assert _netstat(hosts) == (52, 52)
            assert _drops(watch, 8080, 5) == (5, {"accept_queue": 5})


class _Host:
    """Two listeners in the network namespace of this process, and what the kernel says of them."""

    def __init__(self, proc: Path, **options: bool) -> None:
        process = proc / "77"
        (process / "ns").mkdir(parents=True)
        (process / "ns" / "net").touch()
        (process / "net").mkdir()
        self._netstat = process / "net" / "netstat"
        self._netns = (process / "ns" / "net").stat().st_ino
        names = PairNames(Services(proc=proc), own_tgid=1)
        at = np.zeros(2, layout.ENDPOINT)
        at["netns"], at["port"] = self._netns, (80, 81)
        who = np.zeros(2, layout.LISTENER)
        who["owner"]["tgid"] = 77
        names.set_listeners(at, who)
        self._at = at
        self._backlogs = Backlogs(names, proc=proc, **options)

    def sweep(
        self, drops: tuple[int, int], waiting: tuple[int, int], overflows: int, total: int
    ) -> set[tuple[int, int, int]]:
        """Return {(port, accept_queue, syn)}; the sockets' drops, the namespace's counts."""
        self._netstat.write_text(
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops\n"
            f"TcpExt: 5 {overflows} {total}\nIpExt: InNoRoutes\nIpExt: 0\n"
        )
        read = np.zeros(2, layout.BACKLOG)
        read["socket"], read["at"], read["drops"] = (0xB000, 0xA000), self._at, drops
        read["length"], read["limit"] = waiting, 10
        return {(r.port, r.accept_queue, r.syn) for r in self._backlogs.update(read)}


def test_the_full_queue_is_where_the_overflows_were(tmp_path: Path) -> None:
    host = _Host(tmp_path)
    assert host.sweep((100, 200), (0, 11), overflows=50, total=290) == set()
    # of the first listener's twelve, three were repeated SYNs of which the namespace does not know
    assert host.sweep((112, 206), (0, 11), overflows=56, total=305) == {(80, 0, 9), (81, 6, 0)}
    assert host.sweep((112, 206), (0, 11), overflows=56, total=305) == set()
    assert host.sweep((115, 206), (0, 0), overflows=58, total=308) == {(80, 2, 1)}


def test_without_the_namespaces_counts_the_sockets_own_are_taken(tmp_path: Path) -> None:
    host = _Host(tmp_path, readable=False)
    assert host.sweep((100, 200), (0, 11), overflows=50, total=290) == set()
    assert host.sweep((112, 206), (0, 11), overflows=0, total=0) == {(80, 0, 12), (81, 6, 0)}


def test_another_socket_in_the_same_place_begins_at_zero(tmp_path: Path) -> None:
    host = _Host(tmp_path, readable=False)
    host.sweep((100, 200), (11, 11), overflows=0, total=0)
    assert host.sweep((7, 200), (11, 11), overflows=0, total=0) == {(80, 7, 0)}
