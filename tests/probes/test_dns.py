"""DNS by real resolvers against a real server: each outcome, each way to ask, and its time."""

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.window import Pair
from tests.support.dns import dig, dig_many, dns_server, slow_server, with_resolver
from tests.support.netns import Hosts, two_hosts
from tests.support.traffic import running
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel
PYTHON = Path(sys.executable).name


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with two_hosts() as hosts, dns_server(hosts, tmp_path_factory.mktemp("dns")):
        yield hosts


def _outcomes(watch: Watch, pair: Pair) -> tuple[float, float, dict[str, int]]:
    return *watch.part_and_whole(pair, "dns_errors"), dict(watch.causes(pair, "dns_errors"))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_every_outcome_is_counted(hosts: Hosts, tmp_path: Path, transport: str) -> None:
    with watching() as watch:
        for name, times in (
            ("a.good.test", 7),
            ("none.good.test", 5),
            ("x.refuse.test", 4),
            ("x.broken.test", 3),
        ):
            words = ["+tcp"] if transport == "tcp" else []
            assert len(dig_many(hosts, tmp_path, [name] * times, *words)) == times
        watch.settle()
        pair = Pair("dig", "unbound", 53, transport)
        assert _outcomes(watch, pair) == (7, 19, {"nxdomain": 5, "refused": 4, "servfail": 3})
        assert watch.lost == 0


def test_many_queries_over_one_connection(hosts: Hosts, tmp_path: Path) -> None:
    names = ["a.good.test"] * 40 + ["none.good.test"] * 3
    with watching() as watch:
        assert len(dig_many(hosts, tmp_path, names, "+tcp", "+keepopen")) == 43
        watch.settle()
        pair = Pair("dig", "unbound", 53)
        assert watch.total(pair, "connections") == 1
        assert _outcomes(watch, pair) == (0, 43, {"nxdomain": 3})


def test_the_time_to_an_answer_is_what_dig_says(hosts: Hosts, tmp_path: Path) -> None:
    with slow_server(hosts, "10.77.0.3", 0.050), watching() as watch:
        times = dig_many(hosts, tmp_path, ["a.good.test"] * 40, server="10.77.0.3")
        assert len(times) == 40
        watch.settle()
        measured = watch.quantile(Pair("dig", PYTHON, 53, "udp"), "dns_latency", 0.5)
        # dig's own begins before the system call and ends in another thread
        assert measured == pytest.approx(statistics.median(times) / 1e6, rel=0.10)
        assert measured > 0.050


_LOOK_UP = """
import socket, sys
for _ in range(int(sys.argv[2])):
    found = {a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)}
    assert found == {"192.0.2.1", "2001:db8::1"}, found
"""


@pytest.mark.parametrize("options", ["attempts:1", "single-request", "use-vc"])
def test_a_c_library_asks_for_both_families(hosts: Hosts, tmp_path: Path, options: str) -> None:
    command = (sys.executable, "-c", _LOOK_UP, "a.good.test", 20)
    with watching() as watch:
        subprocess.run(with_resolver(hosts, tmp_path, options, *command), check=True)
        watch.settle()
        pair = Pair(PYTHON, "unbound", 53, "tcp" if options == "use-vc" else "udp")
        assert _outcomes(watch, pair) == (0, 40, {})
        assert watch.lost == 0


def test_a_dropped_query_has_timed_out(hosts: Hosts) -> None:
    with watching() as watch:
        for _ in range(3):
            assert dig(hosts, "x.silent.test", "+time=1") == ""
        assert "NOERROR" in dig(hosts, "a.good.test")
        pair = Pair("dig", "unbound", 53, "udp")
        watch.settle()
        assert _outcomes(watch, pair) == (0, 1, {})
        time.sleep(5)
        watch.settle()
        assert _outcomes(watch, pair) == (3, 4, {"timed_out": 3})
        # and once is enough
        time.sleep(1)
        watch.settle()
        assert _outcomes(watch, pair) == (3, 4, {"timed_out": 3})


_ASK_ALL = """
import os, socket, sys
name, servers = sys.argv[1], sys.argv[2:]
asked = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
question = b"\\1\\0\\0\\1" + bytes(6) + asked + b"\\0\\0\\1\\0\\1"
for _ in range(10):
    s = socket.socket(type=socket.SOCK_DGRAM)
    s.settimeout(0.3)
    query = os.urandom(2) + question
    for server in servers: s.sendto(query, (server, 53))
    try: answer, who = s.recvfrom(512)
    except TimeoutError: continue
    assert answer[:2] == query[:2] and who == (servers[0], 53)
    s.close()
"""


def test_who_asks_two_servers_waits_for_one(hosts: Hosts) -> None:
    def ask(*words: str) -> None:
        subprocess.run(hosts.on_left(sys.executable, "-c", _ASK_ALL, *words), check=True)

    with slow_server(hosts, "10.77.0.4", 0.5), watching() as watch:
        fast, slow = Pair(PYTHON, "unbound", 53, "udp"), Pair(PYTHON, PYTHON, 53, "udp")
        ask("a.good.test", hosts.right_address, "10.77.0.4")
        time.sleep(5)
        watch.settle()
        assert watch.total(slow, "bytes_sent") > 0
        assert _outcomes(watch, slow) == (0, 0, {})
        # the relay to the slow one has asked there as well
        assert _outcomes(watch, fast) == (0, 20, {})
        ask("x.silent.test", hosts.right_address)
        time.sleep(5)
        watch.settle()
        assert _outcomes(watch, fast) == (10, 30, {"timed_out": 10})


def test_a_server_that_hangs(tmp_path: Path) -> None:
    with two_hosts() as hosts, dns_server(hosts, tmp_path) as server, watching() as watch:
        assert "NOERROR" in dig(hosts, "a.good.test")
        watch.settle()
        server.send_signal(signal.SIGSTOP)
        try:
            assert dig(hosts, "a.good.test", "+time=1", "+tries=2") == ""
            command = [sys.executable, "-c", _LOOK_UP, "a.good.test", "1"]
            lookup = with_resolver(hosts, tmp_path, "timeout:1 attempts:2", *command)
            with running(*lookup, stderr=subprocess.DEVNULL) as client:
                assert client.wait(timeout=20) != 0
        finally:
            server.send_signal(signal.SIGCONT)
        time.sleep(5)
        watch.settle()
        assert _outcomes(watch, Pair("dig", "unbound", 53, "udp")) == (2, 3, {"timed_out": 2})
        # both families, both asked twice
        assert _outcomes(watch, Pair(PYTHON, "unbound", 53, "udp")) == (4, 4, {"timed_out": 4})
