"""Each signal on real connections: latency, errors and causes, resets, loss, both families."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from probes.window import Pair
from tests.support import programs
from tests.support.netns import two_hosts
from tests.support.traffic import free_port, hear, nginx, python, running, say, wrk
from tests.support.watching import watching

pytestmark = pytest.mark.kernel
PYTHON = Path(sys.executable).name


@pytest.mark.parametrize("delay_ms", [5, 20, 100])
@pytest.mark.parametrize("protocol", ["http", "binary"])
def test_a_server_that_sleeps_shows_its_median(delay_ms: int, protocol: str) -> None:
    port, number = free_port(), max(400 // delay_ms, 8)
    http = protocol == "http"
    server_source = programs.HTTP_SERVER if http else programs.BINARY_SERVER
    with python(server_source, "127.0.0.1", port, delay_ms / 1000) as server:
        assert hear(server) == "ready"
        with watching() as watch:
            if http:
                rate = 0.8 * 1000 / delay_ms
                client = (programs.HTTP_CLIENT, "127.0.0.1", port, rate, number / rate)
            else:
                client = (programs.BINARY_CLIENT, "127.0.0.1", port, number)
            with python(*client) as process:
                answered = int(hear(process))
            watch.settle()
            pair = watch.pair(port=port)
            median = watch.quantile(pair, "request_latency", 0.5)
            assert median == pytest.approx(delay_ms / 1000, rel=0.10)
            assert watch.total(pair, "requests") == answered


def test_a_binary_answer_in_two_parts_is_one_request() -> None:
    port = free_port()
    with python(programs.BINARY_SERVER, "127.0.0.1", port, 0) as server:
        assert hear(server) == "ready"
        with watching() as watch:
            with python(programs.BINARY_CLIENT, "127.0.0.1", port, 500) as client:
                assert hear(client) == "500"
            watch.settle()
            pair = watch.pair(port=port)
            assert watch.total(pair, "requests") == 500
            assert watch.total(pair, "bytes_sent") == 500 * 304
            assert watch.total(pair, "bytes_received") == 500 * 304


def _connect_from_elsewhere(host: str, port: int, times: int, timeout_s: float = 5) -> None:
    source = (
        "import socket\n"
        f"for _ in range({times}):\n"
        f"    try: socket.create_connection(({host!r}, {port}), timeout={timeout_s}).close()\n"
        "    except OSError: pass\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_refused_connects(host: str) -> None:
    port = free_port()
    with watching() as watch:
        _connect_from_elsewhere(host, port, 7)
        watch.settle()
        pair = Pair(PYTHON, host, port)
        assert watch.part_and_whole(pair, "connect_errors") == (7, 7)
        assert watch.causes(pair, "connect_errors") == {"refused": 7}
        assert watch.total(pair, "connections") == 0


def test_a_server_that_stops_keeps_its_name() -> None:
    port = free_port()
    with watching() as watch:
        with python(programs.HTTP_SERVER, "127.0.0.1", port, 0) as server:
            assert hear(server) == "ready"
            _connect_from_elsewhere("127.0.0.1", port, 3)
            watch.settle()
        _connect_from_elsewhere("127.0.0.1", port, 5)
        watch.settle()
        pair = Pair(PYTHON, PYTHON, port)
        assert watch.part_and_whole(pair, "connect_errors") == (5, 8)
        assert watch.total(pair, "connections") == 3


def test_an_unanswered_connect_that_the_caller_gives_up() -> None:
    with two_hosts() as hosts, watching() as watch:
        hosts.lose(100)
        source = f"""
import socket
try: socket.create_connection(({hosts.right_address!r}, 80), timeout=0.5)
except TimeoutError: print("gave up")
"""
        run = subprocess.run(
            hosts.on_left(sys.executable, "-c", source), capture_output=True, text=True, check=True
        )
        assert run.stdout == "gave up\n"
        watch.settle()
        pair = Pair(PYTHON, hosts.right_address, 80)
        assert watch.part_and_whole(pair, "connect_errors") == (1, 1)
        assert watch.causes(pair, "connect_errors") == {"aborted": 1}


def test_resets_and_who_sent_them() -> None:
    with watching() as watch, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = f"""
import socket, struct, sys
for reset in (1, 1, 0):
    c = socket.create_connection(("127.0.0.1", {port}))
    c.sendall(b"x"); c.recv(1)
    if reset: c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
"""
        # the server is a process of its own too: Tailrace does not look at itself
        with python(_ECHO_ONCE, server.fileno(), pass_fds=[server.fileno()]):
            subprocess.run([sys.executable, "-c", source], check=True)
            watch.settle()
            pair = watch.pair(port=port)
            assert watch.part_and_whole(pair, "resets") == (2, 3)
            assert watch.causes(pair, "resets") == {"by_client": 2}


_ECHO_ONCE = """
import socket, sys
server = socket.socket(fileno=int(sys.argv[1]))
while True:
    c, _ = server.accept()
    try:
        c.sendall(c.recv(1)); c.recv(1)
    except OSError: pass
    c.close()
"""


@pytest.mark.parametrize("family", [4, 6])
def test_two_namespaces_are_one_pair(family: int) -> None:
    with two_hosts() as hosts, watching() as watch:
        address = hosts.right_address if family == 4 else hosts.right_address6
        serve = hosts.on_right(sys.executable, "-c", programs.HTTP_SERVER, address, 8080, 0.005)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with running(*serve, **pipes) as server:
            assert hear(server) == "ready"
            ask = hosts.on_left(sys.executable, "-c", programs.HTTP_CLIENT, address, 8080, 100, 1.0)
            subprocess.run(ask, check=True, capture_output=True)
            watch.settle()
            pair = watch.pair(port=8080)
            assert pair == Pair(PYTHON, PYTHON, 8080)
            assert watch.total(pair, "requests") == pytest.approx(100, abs=2)
            assert watch.total(pair, "connections") == 1


def test_lost_packets_show_as_retransmits() -> None:
    with two_hosts() as hosts, watching() as watch:
        serve = hosts.on_right(
            sys.executable, "-c", programs.HTTP_SERVER, hosts.right_address, 8080, 0
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with running(*serve, **pipes) as server:
            assert hear(server) == "ready"
            hosts.lose(5)
            ask = hosts.on_left(
                sys.executable, "-c", programs.HTTP_CLIENT, hosts.right_address, 8080, 200, 6.0
            )
            subprocess.run(ask, check=True, capture_output=True)
            watch.settle()
            again, sent = watch.part_and_whole(watch.pair(port=8080), "retransmits")
            assert sent > 200
            assert 0.02 < again / sent < 0.12


def test_long_open_sockets_have_owner_and_direction() -> None:
    source = """
import socket, sys
c = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("open", flush=True); sys.stdin.readline()
c.sendall(b"12345"); c.recv(9)
print("sent", flush=True); sys.stdin.readline()
"""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            python(_ECHO_ONCE, listener.fileno(), pass_fds=[listener.fileno()]),
            python(source, port) as client,
        ):
            assert hear(client) == "open"
            with watching() as watch:
                assert watch.observer.connections >= 2
                say(client)
                assert hear(client) == "sent"
                watch.settle()
                pair = watch.pair(port=port)
                assert pair == Pair(PYTHON, PYTHON, port)
                assert watch.total(pair, "bytes_sent") == 5
                assert watch.total(pair, "connections") == 0
                say(client)


def test_busy_sockets_that_are_open_already_have_their_direction() -> None:
    port = free_port()
    with python(programs.HTTP_SERVER, "127.0.0.1", port, 0) as server:
        assert hear(server) == "ready"
        client = (programs.RATE_CLIENT, "127.0.0.1", port, 500, *programs.GET)
        with python(*client), python(*client), watching() as watch:
            watch.settle(4)
            assert watch.pair(port=port) == Pair(PYTHON, PYTHON, port)
            assert not [p for p in watch.pairs() if "127.0.0.1" in (p.client, p.server)]


@pytest.mark.slow
def test_many_calm_connections_of_a_busy_pair_are_sampled(tmp_path: Path) -> None:
    with nginx(tmp_path) as server, watching(1.0) as watch:
        wrk(tmp_path, f"http://127.0.0.1:{server.port}/", connections=100, seconds=2)
        watch.settle(1)
        watch.windows.clear()  # until then, it was not known how busy they are
        done = wrk(tmp_path, f"http://127.0.0.1:{server.port}/", connections=400, seconds=5)
        watch.settle(2)
        pair = next(p for p in watch.pairs() if p.port == server.port and p.client == "wrk")
        assert watch.total(pair, "requests") == pytest.approx(done.requests, rel=0.001)
        timed = watch.samples(pair, "request_latency")
        assert 5 * 2000 <= timed <= done.requests / 3
