"""Every kind of traffic, really made: the right pair, each byte and each request, once."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from probes.window import Pair
from tests.support.peers import (
    TRAFFIC,
    ended,
    expect,
    failures,
    figures,
    names,
    program,
    seen,
    traffic,
)
from tests.support.traffic import hear, say
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with watching() as watch:
        yield watch


STREAM_SERVER = """
family, protocol, address, many = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
s = socket(family, int(sys.argv[6]), protocol)
s.bind(address.replace("@", chr(0), 1) if family == AF_UNIX else (address, 0))
s.listen()
tell(s.getsockname()[1] if family != AF_UNIX else 0)
for _ in range(many): serve(s.accept()[0])
"""

STREAM_CLIENT = """
family, protocol, address, port = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
s = socket(family, int(sys.argv[7]), protocol)
if len(sys.argv) > 8: s.bind(sys.argv[8])
s.connect(address.replace("@", chr(0), 1) if family == AF_UNIX else (address, port))
request(s, int(sys.argv[6]))
"""

V4, V6, UNIX = int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_UNIX)
STREAM, SEQPACKET = int(socket.SOCK_STREAM), int(socket.SOCK_SEQPACKET)
MPTCP = 262


@pytest.mark.parametrize(
    ("server", "client"),
    [
        pytest.param((V4, 0, "127.0.0.1"), (V4, 0, "127.0.0.1"), id="IPv4"),
        pytest.param((V6, 0, "::1"), (V6, 0, "::1"), id="IPv6"),
        pytest.param((V4, 0, "127.0.0.1"), (V6, 0, "::ffff:127.0.0.1"), id="mapped-client"),
        pytest.param((V6, 0, "::"), (V4, 0, "127.0.0.1"), id="mapped-server"),
        pytest.param((V6, 0, "::"), (V6, 0, "::ffff:127.0.0.1"), id="mapped-both"),
        pytest.param((V4, MPTCP, "127.0.0.1"), (V4, MPTCP, "127.0.0.1"), id="MPTCP"),
        pytest.param((V6, MPTCP, "::1"), (V6, MPTCP, "::1"), id="MPTCP-IPv6"),
        pytest.param((V4, 0, "127.0.0.1"), (V4, MPTCP, "127.0.0.1"), id="MPTCP-refused"),
    ],
)
def test_tcp(watch: Watch, server: tuple[int, int, str], client: tuple[int, int, str]) -> None:
    asking, answering = names()
    with program(answering, STREAM_SERVER, *server, 2, STREAM) as serves:
        port = int(hear(serves))
        for _ in range(2):
            with program(asking, STREAM_CLIENT, *client, port, 20, STREAM) as asks:
                ended(asks)
        ended(serves)
    expect(watch, Pair(asking, answering, port), 2, 40, 40 * 300, 40 * 700)


@pytest.fixture(params=[False, True], ids=["path", "abstract"])
def unix_name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A name for a UNIX socket; @ stands for the zero byte."""
    return f"@{uuid.uuid4()}" if request.param else str(tmp_path / "socket")


@pytest.mark.parametrize("bound", [False, True], ids=["", "client-bound"])
@pytest.mark.parametrize("kind", [STREAM, SEQPACKET], ids=["stream", "seqpacket"])
def test_unix_connections(
    watch: Watch, unix_name: str, tmp_path: Path, kind: int, bound: bool
) -> None:
    asking, answering = names()
    with program(answering, STREAM_SERVER, UNIX, 0, unix_name, 2, kind) as serves:
        hear(serves)
        for number in range(2):
            own = [tmp_path / f"client{number}"] if bound else []
            with program(asking, STREAM_CLIENT, UNIX, 0, unix_name, 0, 20, kind, *own) as asks:
                ended(asks)
        ended(serves)
    expect(watch, Pair(asking, answering, 0, "unix"), 2, 40, 40 * 300, 40 * 700)


UDP_SERVER = """
family, address, many = int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
s = socket(family, SOCK_DGRAM)
s.bind((address, 0))
tell(s.getsockname()[1])
for _ in range(many):
    data, who = s.recvfrom(2000)
    assert len(data) == 300
    s.sendto(bytes(700), who)
"""

UDP_CLIENT = """
family, address, port, many = int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
s = socket(family, SOCK_DGRAM)
s.settimeout(10)
if sys.argv[6] == "connected": s.connect((address, port))
tell("ready"); wait()
for _ in range(many):
    if sys.argv[6] == "connected": s.send(bytes(300))
    else: s.sendto(bytes(300), (address, port))
    assert len(s.recvfrom(2000)[0]) == 700
"""


@pytest.mark.parametrize("how", ["connected", "unconnected"])
@pytest.mark.parametrize(
    ("server", "client"),
    [
        pytest.param((V4, "127.0.0.1"), (V4, "127.0.0.1"), id="IPv4"),
        pytest.param((V4, "0.0.0.0"), (V4, "127.0.0.1"), id="IPv4-wildcard"),
        pytest.param((V6, "::1"), (V6, "::1"), id="IPv6"),
        pytest.param((V6, "::"), (V4, "127.0.0.1"), id="mapped"),
    ],
)
def test_udp(watch: Watch, server: tuple[int, str], client: tuple[int, str], how: str) -> None:
    # one socket of the server, three programs that ask it at once
    answering, asking = names()[1], [names()[0] for _ in range(3)]
    with program(answering, UDP_SERVER, *server, 600) as serves, ExitStack() as stack:
        port = int(hear(serves))
        clients = [
            stack.enter_context(program(who, UDP_CLIENT, *client, port, 200, how)) for who in asking
        ]
        for asks in clients:
            assert hear(asks) == "ready"
        for asks in clients:
            say(asks)
        for asks in clients:
            ended(asks)
        ended(serves)
    watch.settle()
    pairs = {Pair(who, answering, port, "udp") for who in asking}
    assert seen(watch, answering, *asking, port=port) == pairs
    for pair in pairs:
        assert figures(watch, pair, *TRAFFIC) == traffic(1, 200, 200 * 300, 200 * 700)
        assert failures(watch, pair) == {}


DATAGRAM_SERVER = """
s = socket(AF_UNIX, SOCK_DGRAM)
s.bind(sys.argv[2].replace("@", chr(0), 1))
tell("ready")
for _ in range(int(sys.argv[3])): assert len(s.recv(2000)) == 300
tell("all")
wait()
"""

DATAGRAM_CLIENT = """
s = socket(AF_UNIX, SOCK_DGRAM)
path = sys.argv[2].replace("@", chr(0), 1)
if sys.argv[4] == "connected": s.connect(path)
for _ in range(int(sys.argv[3])):
    if sys.argv[4] == "connected": s.send(bytes(300))
    elif sys.argv[4] == "sendmsg": s.sendmsg([bytes(100), bytes(200)], [], 0, path)
    else: s.sendto(bytes(300), path)
"""

ANSWERING_SERVER = """
s = socket(AF_UNIX, SOCK_DGRAM)
s.bind(sys.argv[2])
tell("ready")
for _ in range(int(sys.argv[3])): s.sendto(bytes(700), s.recvfrom(2000)[1])
"""

ANSWERED_CLIENT = """
s = socket(AF_UNIX, SOCK_DGRAM)
s.bind(sys.argv[4])
for _ in range(int(sys.argv[3])):
    s.sendto(bytes(300), sys.argv[2])
    assert len(s.recv(2000)) == 700
"""


@pytest.mark.parametrize("how", ["connected", "unconnected", "sendmsg"])
def test_unix_datagrams(watch: Watch, unix_name: str, how: str) -> None:
    asking, answering = names()
    with program(answering, DATAGRAM_SERVER, unix_name, 40) as serves:
        assert hear(serves) == "ready"
        for _ in range(2):
            with program(asking, DATAGRAM_CLIENT, unix_name, 20, how) as asks:
                ended(asks)
        assert hear(serves) == "all"
        expect(watch, Pair(asking, answering, 0, "unix"), 2, 0, 40 * 300, 0)


def test_unix_datagrams_that_are_answered(watch: Watch, tmp_path: Path) -> None:
    asking, answering = names()
    path = str(tmp_path / "socket")
    with program(answering, ANSWERING_SERVER, path, 20) as serves:
        assert hear(serves) == "ready"
        with program(asking, ANSWERED_CLIENT, path, 20, tmp_path / "own") as asks:
            ended(asks)
        ended(serves)
    expect(watch, Pair(asking, answering, 0, "unix"), 1, 20, 20 * 300, 20 * 700)


def test_syslog(watch: Watch, tmp_path: Path) -> None:
    # as logger(1) and every libc do it: a datagram to a name that a symbolic link leads to
    asking, answering = names()
    (tmp_path / "log").symlink_to("socket")
    with program(answering, DATAGRAM_SERVER, tmp_path / "socket", 20) as serves:
        assert hear(serves) == "ready"
        with program(asking, DATAGRAM_CLIENT, tmp_path / "log", 20, "unconnected") as asks:
            ended(asks)
        assert hear(serves) == "all"
        expect(watch, Pair(asking, str(tmp_path / "log"), 0, "unix"), 1, 0, 20 * 300, 0)
