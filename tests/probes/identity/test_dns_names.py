"""Peers elsewhere, called by the names under which real resolvers found them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bpf import layout
from probes.identity.sources import NamingSettings
from probes.observer import Observer
from probes.programs import Capacity, Programs
from probes.window import is_other
from tests.support.dns import dig, dig_many, dns_server, with_resolver
from tests.support.netns import Hosts, two_hosts
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel
PYTHON = Path(sys.executable).name
PORT = 20443


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with two_hosts() as hosts, dns_server(hosts, tmp_path_factory.mktemp("dns")):
        yield hosts


# nobody is there, and a connect that fails for want of a route is counted like any other
_CONNECT = """
import socket, sys
def connect(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as s: assert s.connect_ex((address, int(port)))
"""
_LOOK_UP = (
    _CONNECT
    + """
family = {"4": socket.AF_INET, "6": socket.AF_INET6, "0": 0}[sys.argv[3]]
for found in socket.getaddrinfo(sys.argv[1], sys.argv[2], family, socket.SOCK_STREAM):
    connect(found[4][0], sys.argv[2])
"""
)


def _look_up(
    hosts: Hosts, directory: Path, name: str, *, family: int = 4,
    options: str = "attempts:2", right: bool = False,
) -> None:  # fmt: skip
    command = (sys.executable, "-c", _LOOK_UP, name, PORT, family)
    made = with_resolver(hosts, directory, options, *command, right=right)
    subprocess.run(made, check=True, timeout=30)


def _expect(watch: Watch, expected: dict[str, float]) -> None:
    """Check who was called, and how often in vain, as soon as all of it is counted."""
    found: dict[str, float] = {}
    for _ in range(20):
        watch.settle(1)
        pairs = {p for p in watch.pairs() if p.port == PORT and p.client == PYTHON}
        found = {pair.server: watch.total(pair, "connect_errors") for pair in pairs}
        if sum(found.values()) >= sum(expected.values()):
            break
    assert found == expected


@pytest.mark.parametrize("options", ["attempts:2", "single-request", "use-vc"])
def test_a_peer_is_called_by_what_was_asked_for(hosts: Hosts, tmp_path: Path, options: str) -> None:
    with watching() as watch:
        _look_up(hosts, tmp_path, "api.shop.test", family=0, options=options)
        # IPv4 and IPv6, and an alias of an alias
        _look_up(hosts, tmp_path, "WWW.shop.test", options=options)
        _expect(watch, {"api.shop.test": 2, "www.shop.test": 1})
        services = watch.observer.services
        assert services["api.shop.test"].resolution == "dns"
        assert watch.observer.lost == dict.fromkeys(watch.observer.lost, 0)


def test_an_answer_that_is_too_long_for_a_datagram(hosts: Hosts, tmp_path: Path) -> None:
    with watching() as watch:
        _look_up(hosts, tmp_path, "many.shop.test")  # truncated, then by TCP: 988 bytes
        _expect(watch, {"many.shop.test": 60})


def test_a_resolver_on_the_same_host(hosts: Hosts, tmp_path: Path) -> None:
    with watching() as watch:
        _look_up(hosts, tmp_path, "api.shop.test", right=True)
        _expect(watch, {"api.shop.test": 1})


_UNCONNECTED = (
    _CONNECT
    + """
import os
server, how, name, *addresses = sys.argv[1:]
asked = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
query = os.urandom(2) + b"\\1\\0\\0\\1" + bytes(6) + asked + b"\\0\\0\\1\\0\\1"
s = socket.socket(type=socket.SOCK_DGRAM)
s.settimeout(5)
if how == "read":
    s.setblocking(True)
    s.connect((server, 53))
    os.write(s.fileno(), query)
    os.read(s.fileno(), 512)
else:
    s.sendto(query, (server, 53))
if how == "recvfrom": s.recvfrom(2048)
elif how == "recvmsg": s.recvmsg(2048)
elif how == "pieces": s.recvmsg_into([bytearray(2048), bytearray(2048)])
for address in addresses: connect(address, 20443)
"""
)


@pytest.mark.parametrize("how", ["recvfrom", "recvmsg", "pieces", "read"])
def test_every_way_to_receive(hosts: Hosts, how: str) -> None:
    command = [sys.executable, "-c", _UNCONNECTED, hosts.right_address, how]
    with watching() as watch:
        subprocess.run(hosts.on_left(*command, "www.shop.test", "11.0.0.2"), check=True)
        _expect(watch, {"www.shop.test": 1})


def test_another_process_has_asked(hosts: Hosts) -> None:
    command = hosts.on_left(sys.executable, "-c", _CONNECT + "connect(*sys.argv[1:])")
    with watching() as watch:
        assert "NOERROR" in dig(hosts, "www.shop.test", "+tcp")
        subprocess.run([*command, "11.0.0.2", str(PORT)], check=True)
        subprocess.run([*command, "11.0.0.3", str(PORT)], check=True)
        _expect(watch, {"www.shop.test": 1, "external 11.0.0.0/24": 1})


def test_each_process_means_what_it_asked_for(hosts: Hosts, tmp_path: Path) -> None:
    with watching(1.0) as watch:
        _look_up(hosts, tmp_path, "www.shop.test")  # at one address, within a window
        _look_up(hosts, tmp_path, "other.shop.test")
        _expect(watch, {"www.shop.test": 1, "other.shop.test": 1})


def test_a_name_that_comes_later(hosts: Hosts) -> None:
    twice = _CONNECT + "connect(*sys.argv[1:])\ninput()\nconnect(*sys.argv[1:])"
    command = hosts.on_left(sys.executable, "-c", twice, "10.99.0.5", str(PORT))
    with (
        watching() as watch,
        subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process,
    ):
        _expect(watch, {"10.99.0.5": 1})
        assert "NOERROR" in dig(hosts, "inside.shop.test")
        generation = watch.observer._names.generation
        end = time.monotonic() + 20
        while watch.observer._names.generation == generation:
            assert time.monotonic() < end
            watch.settle(1)
        process.communicate("go on\n")
        _expect(watch, {"10.99.0.5": 1, "inside.shop.test": 1})
        # who is called otherwise now has not fallen silent
        last = watch.windows[-1]
        rows = {last.pairs[pair].server for pair in last.pair if last.pairs[pair].port == PORT}
        assert rows == {"inside.shop.test"}


def test_without_dns_names(hosts: Hosts, tmp_path: Path) -> None:
    with Observer(0.25, naming=NamingSettings(dns_names=False)) as observer:
        watch = Watch(observer)
        watch.start()
        try:
            _look_up(hosts, tmp_path, "api.shop.test")
            _expect(watch, {"external 11.0.0.0/24": 1})
        finally:
            watch.stop()


def test_a_restart_forgets_no_name(hosts: Hosts, tmp_path: Path) -> None:
    with watching() as watch:
        _look_up(hosts, tmp_path, "api.shop.test")
        _expect(watch, {"api.shop.test": 1})
        saved = watch.observer.memory()
    with Observer(0.25) as observer:
        observer.restore(saved)
        watch = Watch(observer)
        watch.start()
        try:
            command = hosts.on_left(sys.executable, "-c", _CONNECT + "connect(*sys.argv[1:])")
            subprocess.run([*command, "11.0.0.1", str(PORT)], check=True)
            _expect(watch, {"api.shop.test": 1})
        finally:
            watch.stop()


def test_no_more_pairs_than_asked_for(hosts: Hosts) -> None:
    many = _CONNECT + "for i in range(60): connect(f'10.55.0.{i}', 20443)"
    with Observer(0.25, naming=NamingSettings(most_pairs=20)) as observer:
        watch = Watch(observer)
        watch.start()
        try:
            subprocess.run(hosts.on_left(sys.executable, "-c", many), check=True)

            def tried() -> float:
                mine = [p for p in watch.pairs() if p.port == PORT and p.client == PYTHON]
                others = [p for p in watch.pairs() if is_other(p)]
                return sum(watch.total(pair, "connect_errors") for pair in (*mine, *others))

            for _ in range(20):
                watch.settle(1)
                if tried() >= 60:
                    break
            assert tried() >= 60  # the rest of this machine may have pairs as well
            assert observer.folded >= 40
            last = watch.windows[-1]
            assert len({i for i in last.pair if not is_other(last.pairs[i])}) <= 20
        finally:
            watch.stop()


def test_answers_that_find_no_room_are_counted(hosts: Hosts, tmp_path: Path) -> None:
    programs = Programs(Capacity(groups=1 << 10, answers=8))
    try:
        programs.tune(layout.TUNING_ANSWERS, 1)
        programs.attach()
        names = ["api.shop.test"] * 20
        assert len(dig_many(hosts, tmp_path, names)) == 20
        snapshot = programs.sweep()
        assert programs.lost_kinds["answers"] == 12
        assert snapshot.lost == 0  # names are lost, and nothing of what is counted
        answers = programs.answers()
        assert len(answers) == 8
        assert np.all(np.diff(answers["at_ns"].astype(np.int64)) > 0)
        assert len(programs.answers()) == 0
        # and there is room again
        assert len(dig_many(hosts, tmp_path, names[:8])) == 8
        assert len(programs.answers()) == 8
        assert programs.lost()["answers"] == 12
    finally:
        programs.close()


def test_an_empty_answer_takes_no_room(hosts: Hosts) -> None:
    programs = Programs(Capacity(groups=1 << 10, answers=8))
    try:
        programs.tune(layout.TUNING_ANSWERS, 1)
        programs.attach()
        assert "NXDOMAIN" in dig(hosts, "none.shop.test")
        assert len(programs.answers()) == 0
        programs.tune(layout.TUNING_ANSWERS, 0)
        assert "NOERROR" in dig(hosts, "api.shop.test")
        assert len(programs.answers()) == 0
    finally:
        programs.close()
