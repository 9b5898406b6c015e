"""Sockets that change hands, or were there before us: who they count for, and from when on."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.window import Pair
from tests.support.netns import two_hosts
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


SERVER = """
s = create_server(("127.0.0.1", 0))
tell(s.getsockname()[1])
"""

CLIENT = """
c = create_connection(("127.0.0.1", int(sys.argv[2])))
"""


def test_a_connection_that_was_open_before() -> None:
    asking, answering = names()
    with program(answering, SERVER + "serve(s.accept()[0])") as serves:
        port = int(hear(serves))
        ask = "request(c, 5); tell('open'); wait(); request(c, 20)"
        with program(asking, CLIENT + ask, port) as asks:
            assert hear(asks) == "open"
            with watching() as watch:
                say(asks)
                ended(asks)
                ended(serves)
                expect(watch, Pair(asking, answering, port), 0, 20, 6000, 14000)


def test_a_busy_connection_that_was_open_before() -> None:
    # it moves data while it is looked for: its server's end may be met before its client's
    (asking, answering) = names()
    serve = 's = create_server(("", 0)); tell(s.getsockname()[1]); serve(s.accept()[0])'
    ask = "c = create_connection((sys.argv[2], int(sys.argv[3]))); tell('open')\n"
    with two_hosts() as hosts, program(answering, serve, prefix=hosts.on_right()) as serves:
        port = int(hear(serves))
        where = (hosts.right_address, port)
        forever = ask + "while True: request(c)"
        with program(asking, forever, *where, prefix=hosts.on_left()) as asks:
            assert hear(asks) == "open"
            for _ in range(3):
                with watching() as watch:
                    watch.settle(3)
                    pair = Pair(asking, answering, port)
                    assert seen(watch, asking, answering, port=port) == {pair}
                    assert figures(watch, pair, "requests")["requests"] > 0


def test_a_listener_that_was_there_before() -> None:
    asking, answering = names()
    with program(answering, SERVER + "serve(s.accept()[0])") as serves:
        port = int(hear(serves))
        with watching() as watch:
            with program(asking, CLIENT + "request(c, 20)", port) as asks:
                ended(asks)
            ended(serves)
            expect(watch, Pair(asking, answering, port), 1, 20, 6000, 14000)


def test_a_client_s_socket_that_is_passed_on(watch: Watch, tmp_path: Path) -> None:
    (asking, answering), (heir, _) = names(), names()
    inherit = """
s = socket(AF_UNIX, SOCK_STREAM); s.bind(sys.argv[2]); s.listen(); tell("ready")
way = s.accept()[0]
c = socket(fileno=recv_fds(way, 1, 1)[1][0])
request(c, 30)
"""
    give = """
request(c, 20)
way = socket(AF_UNIX, SOCK_STREAM); way.connect(sys.argv[3])
send_fds(way, [b"x"], [c.fileno()])
assert way.recv(1) == b""
"""
    with (
        program(answering, SERVER + "serve(s.accept()[0])") as serves,
        program(heir, inherit, tmp_path / "way") as inherits,
    ):
        assert hear(inherits) == "ready"
        port = int(hear(serves))
        with program(asking, CLIENT + give, port, tmp_path / "way") as gives:
            ended(gives)
        ended(inherits)
        ended(serves)
    watch.settle()
    before, after = Pair(asking, answering, port), Pair(heir, answering, port)
    way = Pair(asking, heir, 0, "unix")
    assert seen(watch, asking, answering, heir, port=port) == {before, after, way}
    # tracepoints tell of the heir's first send after the fact: its bytes went to who had it before
    sent = figures(watch, before, "bytes_sent")["bytes_sent"]
    assert sent in (6000, 6300)
    assert figures(watch, before, *TRAFFIC) == traffic(1, 20, int(sent), 14000)
    assert figures(watch, after, *TRAFFIC) == traffic(0, 30, 15000 - int(sent), 21000)
    assert figures(watch, way, "bytes_sent") == {"bytes_sent": 1}


def test_a_server_s_socket_that_a_child_inherits(watch: Watch) -> None:
    # as inetd does, and every server that forks for each connection: the child has it alone
    (asking, answering), (_, child) = names(), names()
    fork = """
c = s.accept()[0]
for _ in range(20): all_of(c, 300); c.sendall(bytes(700))
if os.fork() == 0:
    name(sys.argv[2]); serve(c); os._exit(0)
c.close()
os.wait()
"""
    ask = "request(c, 20); tell('half'); wait(); request(c, 30)"
    with program(answering, SERVER + fork, child) as serves:
        port = int(hear(serves))
        with program(asking, CLIENT + ask, port) as asks:
            assert hear(asks) == "half"
            # one client's traffic to one address is one group, whose server is the last that was
            # seen: it changes with a window, not with a request
            watch.settle()
            say(asks)
            ended(asks)
        ended(serves)
    watch.settle()
    before, after = Pair(asking, answering, port), Pair(asking, child, port)
    assert seen(watch, asking, answering, child, port=port) == {before, after}
    assert figures(watch, before, *TRAFFIC) == traffic(1, 20, 6000, 14000)
    assert figures(watch, after, *TRAFFIC) == traffic(0, 30, 9000, 21000)
    assert failures(watch, before) == failures(watch, after) == {}


def test_two_processes_of_a_server_on_one_port(watch: Watch) -> None:
    asking, answering = names()
    serve = """
s = socket(AF_INET, SOCK_STREAM)
s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
s.bind(("127.0.0.1", int(sys.argv[2])))
s.listen()
tell(s.getsockname()[1])
s.settimeout(2)
served = 0
try:
    while True:
        c = s.accept()[0]
        c.setblocking(True)
        serve(c)
        served += 1
except TimeoutError: tell(served)
"""
    ask = """
for _ in range(40):
    with create_connection(("127.0.0.1", int(sys.argv[2]))) as c: request(c, 3)
"""
    with program(answering, serve, 0) as one:
        port = int(hear(one))
        with program(answering, serve, port) as two:
            assert int(hear(two)) == port
            with program(asking, ask, port) as asks:
                ended(asks)
            shares = [int(hear(each)) for each in (one, two)]
    assert sum(shares) == 40
    assert min(shares) > 0
    expect(watch, Pair(asking, answering, port), 40, 120, 36_000, 84_000)


def test_a_connection_that_nobody_accepted(watch: Watch) -> None:
    asking, answering = names()
    with program(answering, SERVER + "tell(s.fileno()); wait()") as serves:
        port = int(hear(serves))
        with program(
            asking,
            CLIENT + "tell('open'); c.sendall(bytes(300)); wait()\ntry: c.recv(1)"
            "\nexcept ConnectionResetError: tell('reset')",
            port,
        ) as asks:
            assert hear(asks) == "open"
            hear(serves)
            watch.settle()
            say(serves)
            ended(serves)
            say(asks)
            assert hear(asks) == "reset"
            ended(asks)
    watch.settle()
    pair = Pair(asking, answering, port)
    assert seen(watch, asking, answering, port=port) == {pair}
    assert figures(watch, pair, *TRAFFIC) == traffic(1, 0, 300, 0)
    assert failures(watch, pair) == {"resets": 1}
    assert watch.causes(pair, "resets") == {"by_server": 1}


@pytest.mark.parametrize("family", [int(socket.AF_INET), int(socket.AF_INET6)])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_two_network_namespaces(watch: Watch, kind: str, family: int) -> None:
    asking, answering = names()
    here = """
family = AF_INET6 if ":" in sys.argv[2] else AF_INET
s = socket(family, SOCK_DGRAM if sys.argv[3] == "udp" else SOCK_STREAM)
"""
    serve = """
s.bind((sys.argv[2], 8080))
if sys.argv[3] == "tcp":
    s.listen(); tell("ready"); serve(s.accept()[0])
else:
    tell("ready")
    for _ in range(20): s.sendto(bytes(700), s.recvfrom(2000)[1])
"""
    ask = "s.connect((sys.argv[2], 8080)); request(s, 20)"
    with two_hosts() as hosts:
        address = hosts.right_address if family == socket.AF_INET else hosts.right_address6
        right, left = hosts.on_right(), hosts.on_left()
        # a fresh link takes its time to find its neighbour, and who sends to it must wait
        first = f"import socket; socket.socket({family}).connect_ex(({address!r}, 9))"
        subprocess.run([*left, sys.executable, "-c", first], check=True)
        with program(answering, here + serve, address, kind, prefix=right) as serves:
            assert hear(serves) == "ready"
            with program(asking, here + ask, address, kind, prefix=left) as asks:
                ended(asks)
            ended(serves)
        watch.settle()
    pair = Pair(asking, answering, 8080, kind)
    assert seen(watch, asking, answering) == {pair}
    assert figures(watch, pair, *TRAFFIC) == traffic(1, 20, 6000, 14000)
