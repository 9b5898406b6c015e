"""Every cause of an error, really made: its counter moves, and no other; against what was met."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes.window import Pair
from tests.support.netns import Hosts, two_hosts
from tests.support.peers import causes, ended, failures, names, program, seen
from tests.support.traffic import free_port, hear, say
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with watching() as watch:
        yield watch


SERVER = """
s = create_server((sys.argv[2], 0), family=AF_INET6 if ":" in sys.argv[2] else AF_INET)
tell(s.getsockname()[1])
def hard(c): c.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0)); c.close()
"""

CLIENT = """
import errno
host, port = sys.argv[2], int(sys.argv[3])
def hard(c): c.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0)); c.close()
def attempt(function, *args):
    # tell the error that it met
    try: function(*args)
    except TimeoutError as e: tell(errno.errorcode.get(e.errno, "gave up"))
    except OSError as e: tell(errno.errorcode[e.errno])
    else: tell("fine")
def connected():
    c = socket(AF_INET6 if ":" in host else AF_INET)
    c.connect((host, port))
    return c
"""


def _only(
    watch: Watch, pair: Pair, signal: str, of: tuple[int, int], **expected: dict[str, int] | None
) -> None:
    """See that this signal of the pair, and no other error of it, is so many of so many."""
    watch.settle()
    assert pair in seen(watch, pair.client, pair.server)
    assert failures(watch, pair) == {signal: of[0]}
    assert watch.part_and_whole(pair, signal) == of
    assert causes(watch, pair).get(signal) == expected.get("causes")


@contextmanager
def _rule(hosts: Hosts, *rules: str, hook: str = "input") -> Iterator[None]:
    """Have packets that reach the right host (or leave it) meet nftables rules."""
    text = "".join(f"{rule}\n" for rule in rules)
    table = f"table inet t {{\nchain c {{\ntype filter hook {hook} priority 0;\n{text}}}\n}}\n"
    subprocess.run(hosts.on_right("nft", "-f", "-"), input=table, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(hosts.on_right("nft", "flush", "ruleset"), check=True)


def _packets(hosts: Hosts) -> int:
    """Return how many packets have met the rule's counter."""
    command = hosts.on_right("nft", "list", "ruleset")
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(told.partition("counter packets ")[2].split()[0])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connect_refused(watch: Watch, host: str) -> None:
    asking, port = names()[0], free_port()
    with program(asking, CLIENT + "for _ in range(5): attempt(connected)", host, port) as asks:
        assert [hear(asks) for _ in range(5)] == ["ECONNREFUSED"] * 5
        ended(asks)
    _only(watch, Pair(asking, host, port), "connect_errors", (5, 5), causes={"refused": 5})


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


def _attempt(watch: Watch, hosts: Hosts, source: str, error: str, cause: str) -> None:
    """Try to connect from the left host to the right."""
    asking, address = names()[0], hosts.right_address
    with program(asking, CLIENT + source, address, 81, prefix=hosts.on_left()) as asks:
        assert hear(asks) == error
        ended(asks)
    _only(watch, Pair(asking, address, 81), "connect_errors", (1, 1), causes={cause: 1})


_ONE_SYN = """
c = socket()
c.setsockopt(IPPROTO_TCP, TCP_SYNCNT, 1)
"""


def test_connect_timed_out(watch: Watch, hosts: Hosts) -> None:
    asking, address = names()[0], hosts.right_address
    with _rule(hosts, "tcp dport 81 counter drop"):
        source = CLIENT + _ONE_SYN + "attempt(c.connect, (host, port))"
        with program(asking, source, address, 81, prefix=hosts.on_left()) as asks:
            assert hear(asks) == "ETIMEDOUT"
            ended(asks)
        again = _packets(hosts) - 1
    watch.settle()
    pair = Pair(asking, address, 81)
    # SYNs that are repeated are retransmissions, and nothing else has gone wrong
    assert again > 0
    assert failures(watch, pair) == {"connect_errors": 1, "retransmits": again}
    assert causes(watch, pair) == {"connect_errors": {"timed_out": 1}}


@pytest.mark.parametrize(
    ("kind", "error"), [("host-unreachable", "EHOSTUNREACH"), ("net-unreachable", "ENETUNREACH")]
)
def test_connect_unreachable(watch: Watch, hosts: Hosts, kind: str, error: str) -> None:
    # an ICMP is only an opinion (RFC 1122, 4.2.3.9): the kernel tries on until it gives up
    asking, address = names()[0], hosts.right_address
    with _rule(hosts, f"tcp dport 81 counter reject with icmp type {kind}"):
        source = CLIENT + _ONE_SYN + "attempt(c.connect, (host, port))"
        with program(asking, source, address, 81, prefix=hosts.on_left()) as asks:
            assert hear(asks) == error
            ended(asks)
        again = _packets(hosts) - 1
    watch.settle()
    pair = Pair(asking, address, 81)
    had = failures(watch, pair)
    assert had.pop("retransmits", 0) == again
    assert had == {"connect_errors": 1}
    assert causes(watch, pair) == {"connect_errors": {"unreachable": 1}}


def test_connect_given_up(watch: Watch, hosts: Hosts) -> None:
    with _rule(hosts, "tcp dport 81 drop"):
        source = "attempt(create_connection, (host, port), 0.3)"
        _attempt(watch, hosts, source, "gave up", "aborted")


def test_connect_that_meets_a_reset(watch: Watch, hosts: Hosts) -> None:
    # what a firewall sends that rejects with a reset: to the caller it is refused
    with _rule(hosts, "tcp dport 81 reject with tcp reset"):
        _attempt(watch, hosts, "attempt(connected)", "ECONNREFUSED", "refused")


def _resets(watch: Watch, server: str, client: str, met: str, cause: str, number: int = 1) -> None:
    asking, answering = names()
    host = "127.0.0.1"
    with program(answering, SERVER + server, host) as serves:
        port = int(hear(serves))
        with program(asking, CLIENT + client, host, port) as asks:
            assert hear(asks) == met
            ended(asks)
        ended(serves)
    _only(watch, Pair(asking, answering, port), "resets", (number, number), causes={cause: number})


def test_reset_by_the_server_before_data(watch: Watch) -> None:
    _resets(
        watch,
        "hard(s.accept()[0])",
        "c = connected(); attempt(c.recv, 1)",
        "ECONNRESET",
        "by_server_before_data",
    )


def test_reset_by_the_server_after_data(watch: Watch) -> None:
    _resets(
        watch,
        "c = s.accept()[0]; all_of(c, 300); c.sendall(bytes(700)); time.sleep(0.1); hard(c)",
        "c = connected(); request(c); attempt(c.recv, 1)",
        "ECONNRESET",
        "by_server",
    )


def test_reset_by_the_client_before_data(watch: Watch) -> None:
    _resets(
        watch,
        "c = s.accept()[0]\ntry: c.recv(1)\nexcept ConnectionResetError: pass",
        "c = connected(); time.sleep(0.1); hard(c); tell('done')",
        "done",
        "by_client_before_data",
    )


def test_reset_by_the_client_after_data(watch: Watch) -> None:
    _resets(
        watch,
        "c = s.accept()[0]\ntry: serve(c)\nexcept ConnectionResetError: pass",
        "c = connected(); request(c); hard(c); tell('done')",
        "done",
        "by_client",
    )


def test_a_close_with_unread_data_by_the_client(watch: Watch) -> None:
    _resets(
        watch,
        "c = s.accept()[0]\ntry: serve(c)\nexcept ConnectionResetError: pass",
        "c = connected(); c.sendall(bytes(300)); all_of(c, 100); c.close(); tell('done')",
        "done",
        "by_client",
    )


def test_a_close_with_unread_data(watch: Watch) -> None:
    # the kernel says by a reset that what was sent has not been read (RFC 2525, 2.17)
    _resets(
        watch,
        "c = s.accept()[0]; all_of(c, 100); time.sleep(0.2); c.close()",
        "c = connected(); c.sendall(bytes(300)); attempt(c.recv, 1)",
        "ECONNRESET",
        "by_server",
    )


_RETRANSMITS = """
def total(c): return struct.unpack_from("I", c.getsockopt(IPPROTO_TCP, TCP_INFO, 104), 100)[0]
"""


def test_retransmission_by_time_out(watch: Watch, hosts: Hosts) -> None:
    asking, answering = names()
    address = hosts.right_address
    serve = "c = s.accept()[0]; serve(c)"
    ask = (
        _RETRANSMITS
        + """
c = connected(); request(c, 5)
time.sleep(0.3) # the last acknowledgement is on its way too
tell("open"); wait()
c.sendall(bytes(300)); time.sleep(1.5); tell("sent"); wait()
all_of(c, 700); tell(total(c))
"""
    )
    with program(answering, SERVER + serve, address, prefix=hosts.on_right()) as serves:
        port = int(hear(serves))
        with program(asking, CLIENT + ask, address, port, prefix=hosts.on_left()) as asks:
            assert hear(asks) == "open"
            with _rule(hosts, f"tcp dport {port} drop"):
                say(asks)
                assert hear(asks) == "sent"
            say(asks)
            truth = int(hear(asks))
            ended(asks)
        ended(serves)
    watch.settle()
    pair = Pair(asking, answering, port)
    assert truth >= 2
    assert failures(watch, pair) == {"retransmits": truth}
    timeouts = causes(watch, pair)["retransmits"]["timeout"]
    assert 2 <= timeouts <= truth  # the first may be a tail loss probe (RFC 8985), which is none


def test_a_connection_that_dies_of_silence(watch: Watch, hosts: Hosts) -> None:
    asking, answering = names()
    address = hosts.right_address
    ask = (
        _RETRANSMITS
        + """
c = connected(); c.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 1000); request(c, 5)
tell("open"); wait()
c.sendall(bytes(300)); attempt(c.recv, 1)
"""
    )
    serve = "c = s.accept()[0]\ntry: serve(c)\nexcept ConnectionResetError: pass"
    with program(answering, SERVER + serve, address, prefix=hosts.on_right()) as serves:
        port = int(hear(serves))
        with program(asking, CLIENT + ask, address, port, prefix=hosts.on_left()) as asks:
            assert hear(asks) == "open"
            with _rule(hosts, f"tcp dport {port} drop"):
                say(asks)
                assert hear(asks) == "ETIMEDOUT"
                ended(asks)
        watch.settle()
        pair = Pair(asking, answering, port)
        had = failures(watch, pair)
        assert had.pop("retransmits") >= 1
        assert had == {"resets": 1}
        assert causes(watch, pair)["resets"] == {"timed_out": 1}


@pytest.mark.parametrize("who", ["by_server", "by_client"])
def test_who_does_not_read_stalls_the_other(watch: Watch, who: str) -> None:
    asking, answering = names()
    small = "s.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)\n"
    push = "c.settimeout(2)\ntry: c.sendall(bytes(30_000_000))\nexcept TimeoutError: tell('held')\n"
    idle = "tell('idle'); wait()\n"
    serve = small + "c = s.accept()[0]; all_of(c, 1)\n" + (idle if who == "by_server" else push)
    ask = "c = connected(); c.sendall(b'x'); time.sleep(0.2)\n" + (
        push if who == "by_server" else idle
    )
    ask = ask.replace("c = connected()", "s = c = socket()\n" + small + "c.connect((host, port))")
    with program(answering, SERVER + serve + "wait()", "127.0.0.1") as serves:
        port = int(hear(serves))
        with program(asking, CLIENT + ask + "wait()", "127.0.0.1", port) as asks:
            assert {hear(asks), hear(serves)} == {"held", "idle"}
            watch.settle()
            pair = Pair(asking, answering, port)
            had = failures(watch, pair)
            # one connection, swept four times a second for two seconds
            assert 4 <= had.pop("stalls") <= 14
            assert had.keys() <= {"retransmits"}
            assert causes(watch, pair)["stalls"].keys() == {who}


def _snmp(line: str, name: str, pid: int | str = "self") -> int:
    rows = [
        row.split()
        for row in Path(f"/proc/{pid}/net/snmp").read_text().splitlines()
        if row.startswith(f"{line}:")
    ]
    return int(rows[1][rows[0].index(name)])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_refused(watch: Watch, host: str) -> None:
    asking, port = names()[0], free_port()
    ask = """
c = socket(AF_INET6 if ":" in host else AF_INET, SOCK_DGRAM)
c.connect((host, port))
for _ in range(5): c.send(bytes(300)); attempt(c.recv, 1)
"""
    with program(asking, CLIENT + ask, host, port) as asks:
        assert [hear(asks) for _ in range(5)] == ["ECONNREFUSED"] * 5
        ended(asks)
    pair = Pair(asking, host, port, "udp")
    _only(watch, pair, "connect_errors", (5, 10), causes={"refused": 5})


def test_datagrams_dropped(watch: Watch, hosts: Hosts) -> None:
    # in a host of its own, whose counters nobody else moves
    asking, answering = names()
    address = hosts.right_address
    serve = """
s = socket(AF_INET, SOCK_DGRAM)
s.setsockopt(SOL_SOCKET, SO_RCVBUF, 20_000)
s.bind((sys.argv[2], 0)); tell(s.getsockname()[1])
s.sendto(b"x", s.recvfrom(2000)[1]); wait()
s.settimeout(0.5)
read = 0
try:
    while s.recv(2000): read += 1
except TimeoutError: tell(read)
"""
    ask = """
c = socket(AF_INET, SOCK_DGRAM); c.connect((host, port))
c.send(bytes(1000)); c.recv(1)
for _ in range(200): c.send(bytes(1000))
"""
    with program(answering, serve, address, prefix=hosts.on_right()) as serves:
        port = int(hear(serves))
        with program(asking, CLIENT + ask, address, port, prefix=hosts.on_left()) as asks:
            ended(asks)
        dropped = _snmp("Udp", "RcvbufErrors", serves.pid)
        say(serves)
        read = int(hear(serves))
        ended(serves)
    assert dropped > 0
    assert read + dropped == 200
    pair = Pair(asking, answering, port, "udp")
    _only(watch, pair, "drops", (dropped, dropped + read + 1 + 201 + 2), causes={"buffer": dropped})
