"""Connects that fail before the first packet leaves: no route, no local port."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.window import Pair
from tests.support import programs
from tests.support.netns import Hosts, two_hosts
from tests.support.traffic import hear, running
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel
PYTHON = Path(sys.executable).name
NOWHERE, NOWHERE6 = "192.0.2.1", "2001:db8::1"


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


def _run(hosts: Hosts, source: str, *words: object) -> str:
    command = hosts.on_left(sys.executable, "-c", source, *words)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _errors(watch: Watch, pair: Pair) -> tuple[float, float, dict[str, int]]:
    return *watch.part_and_whole(pair, "connect_errors"), dict(watch.causes(pair, "connect_errors"))


_TRY = """
import errno, socket, sys
how, host, port, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
kept = socket.socket(family)
kept.setblocking(how != "again, waiting for nothing")
failed = 0
for _ in range(times):
    c = kept if how.startswith("again") else socket.socket(family)
    if how == "waiting for nothing": c.setblocking(False)
    failed += c.connect_ex((host, port)) == errno.ENETUNREACH
    if c is not kept: c.close()
print(failed)
"""


@pytest.mark.parametrize("how", ["", "waiting for nothing", "again", "again, waiting for nothing"])
@pytest.mark.parametrize("address", [NOWHERE, NOWHERE6])
def test_without_a_route(hosts: Hosts, how: str, address: str) -> None:
    with watching() as watch:
        assert _run(hosts, _TRY, how, address, 80, 20) == "20"
        watch.settle(3)
        pair = Pair(PYTHON, address, 80)
        assert _errors(watch, pair) == (20, 20, {"unreachable": 20})
        assert watch.lost == 0


_SAME_SOCKET = """
import socket, sys, time
c = socket.socket()
assert c.connect_ex((sys.argv[1], 80)) != 0
time.sleep(0.5)
c.connect((sys.argv[2], int(sys.argv[3])))
# AF_UNSPEC parts them again
import ctypes
assert ctypes.CDLL(None).connect(c.fileno(), ctypes.create_string_buffer(16), 16) == 0
assert c.connect_ex((sys.argv[1], 80)) != 0
c.close()
u = socket.socket(type=socket.SOCK_DGRAM)
assert u.connect_ex((sys.argv[1], 80)) != 0
print("done")
"""


def test_one_socket_and_its_fates(hosts: Hosts) -> None:
    serve = hosts.on_right(sys.executable, "-c", programs.HTTP_SERVER, hosts.right_address, 8080, 0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(*serve, **pipes) as server, watching() as watch:
        assert hear(server) == "ready"
        assert _run(hosts, _SAME_SOCKET, NOWHERE, hosts.right_address, 8080) == "done"
        watch.settle(3)
        assert _errors(watch, Pair(PYTHON, NOWHERE, 80)) == (2, 2, {"unreachable": 2})
        pair = Pair(PYTHON, PYTHON, 8080)
        assert _errors(watch, pair) == (0, 1, {})
        assert watch.total(pair, "connections") == 1


_MANY = """
import errno, socket, sys
sockets = [socket.socket() for _ in range(14)]
print([c.connect_ex((sys.argv[1], 8080)) for c in sockets].count(errno.EADDRNOTAVAIL))
"""


def test_without_a_local_port(hosts: Hosts) -> None:
    ports = "net.ipv4.ip_local_port_range=40000 40003"
    subprocess.run(hosts.on_left("sysctl", "-qw", ports), check=True)
    serve = hosts.on_right(sys.executable, "-c", programs.HTTP_SERVER, hosts.right_address, 8080, 0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(*serve, **pipes) as server, watching() as watch:
        assert hear(server) == "ready"
        assert _run(hosts, _MANY, hosts.right_address) == "10"
        watch.settle()
        assert _errors(watch, Pair(PYTHON, PYTHON, 8080)) == (10, 14, {"no_port": 10})
