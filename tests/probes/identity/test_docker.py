"""A real Docker engine at its worst: containers that live for a moment, an engine that hangs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes.identity.docker import DockerContainers
from probes.identity.sources import NamingSettings
from probes.observer import Observer
from probes.window import Pair
from tests.support.docker import Engine, engine
from tests.support.relay import Relay, relay
from tests.support.traffic import free_port, hear, running, wait_for
from tests.support.watching import Watch

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_PYTHON = "/usr/bin/python3"

_SERVER = """
import socket, sys, threading
server = socket.create_server(("", int(sys.argv[1])), backlog=64)
print("ready", flush=True)
def serve(end):
    while said := end.recv(100): end.sendall(said)
while True: threading.Thread(target=serve, args=(server.accept()[0],)).start()
"""

# bash: a container's whole life is then the runtime's work and a few milliseconds of its own
_JOB = """
exec 3<>/dev/tcp/$1/$2
printf x >&3
read -rN1 -u3
"""

_TALK = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as end:
    while True:
        end.sendall(b"x")
        assert end.recv(10) == b"x"
        time.sleep(0.05)
"""

_LIVES = 24
_GATEWAY = "10.67.0.1"
_NETWORK = ("--network", "jobs")


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("docker")) as found:
        (found.directory / "server.py").write_text(_SERVER)
        (found.directory / "job.sh").write_text(_JOB)
        (found.directory / "talk.py").write_text(_TALK)
        found("network", "create", "--subnet", "10.67.0.0/24", "--gateway", _GATEWAY, "jobs")
        yield found


@pytest.fixture(scope="module")
def port(docker: Engine) -> Iterator[int]:
    port = free_port()
    with running(
        *docker.on_host(_PYTHON, docker.directory / "server.py", port), stdout=-1
    ) as server:
        assert hear(server) == "ready"
        yield port


@contextmanager
def _watching(socket: Path) -> Iterator[Watch]:
    with Observer(0.25, naming=NamingSettings(container_sockets=[socket])) as observer:
        watch = Watch(observer)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()


def _on(watch: Watch, port: int) -> set[Pair]:
    return {pair for pair in watch.pairs() if pair.port == port}


def test_containers_that_live_for_a_moment(docker: Engine, port: int) -> None:
    mounts = ("-v", "/usr:/usr:ro", "-v", f"{docker.directory}:/srv")
    with _watching(docker.socket) as watch:
        wait_for(lambda: not watch.observer.naming_problems)
        for number in range(_LIVES):
            # every third is a Compose service's, under the project's name
            labels = [
                f"--label=com.docker.compose.{key}={value}"
                for key, value in (("project", f"p{number}"), ("service", "db"))
                if number % 3 == 0
            ]
            name = f"p{number}-db-1" if labels else f"job-{number}"
            options = ("--rm", "--init=false", "--name", name, *_NETWORK, *labels, *mounts)
            docker("run", *options, "host", "/usr/bin/bash", "/srv/job.sh", _GATEWAY, port)
        watch.settle(8)
        found = {pair: watch.total(pair, "connections") for pair in _on(watch, port)}
        resolutions = {name: one.resolution for name, one in watch.observer.services.items()}
    names = {f"p{n}/db" if n % 3 == 0 else f"job-{n}" for n in range(_LIVES)}
    right = {pair: number for pair, number in found.items() if pair.client in names}
    # a busy engine may tell of one too late: that is its id, never another's name
    for pair in found.keys() - right.keys():
        assert resolutions[pair.client] == "container id"
    assert len(right) >= _LIVES - 2
    assert set(found.values()) == {1}
    assert len(found) == _LIVES
    assert {pair.server for pair in found} == {"server.py"}
    for pair in right:
        assert resolutions[pair.client] == ("compose" if "/" in pair.client else "container")


@contextmanager
def _talking(docker: Engine, port: int, name: str) -> Iterator[str]:
    """Run a container that talks to the server; give its id."""
    id_ = docker.run(name, _PYTHON, "/srv/talk.py", _GATEWAY, port, options=_NETWORK)
    try:
        yield id_
    finally:
        docker("rm", "-f", name)


_PROBER = """
import socket, time
for _ in range(5):
    address = socket.getaddrinfo("named", 20444, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    with socket.socket() as s: assert s.connect_ex(address)
time.sleep(600)
"""


def test_a_name_by_dockers_own_dns(docker: Engine, port: int) -> None:
    # it is at 127.0.0.11 of each container, translated there to a port of the engine's
    with _watching(docker.socket) as watch, _talking(docker, port, "named"):
        wait_for(lambda: not watch.observer.naming_problems)
        docker.run("prober", _PYTHON, "-c", _PROBER, options=_NETWORK)
        pair = Pair("prober", "named", 20444)
        wait_for(lambda: pair in watch.pairs() and watch.total(pair, "connect_errors") == 5)
        assert _on(watch, 20444) == {pair}
        docker("rm", "-f", "prober")


def _hang(it: Relay) -> None:
    it.hang()


def _babble(it: Relay) -> None:
    it.babble(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1, null]")


def _talk_binary(it: Relay) -> None:
    it.babble(bytes(range(256)) * 300)


def _go_away(it: Relay) -> None:
    it.stop()


@pytest.mark.parametrize("fail", [_hang, _babble, _talk_binary, _go_away])
def test_an_engine_that_fails_and_comes_back(
    docker: Engine, port: int, tmp_path: Path, fail: Callable[[Relay], None]
) -> None:
    with (
        relay(tmp_path / "docker.sock", docker.socket) as it,
        _watching(it.path) as watch,
        _talking(docker, port, "before"),
    ):
        known = Pair("before", "server.py", port)
        wait_for(lambda: known in _on(watch, port), what="the name before")
        assert watch.observer.naming_problems == []
        fail(it)
        with _talking(docker, port, "during") as id_:
            unknown = Pair(id_[:12], "server.py", port)
            wait_for(lambda: unknown in _on(watch, port), what="the id")
            wait_for(lambda: bool(watch.observer.naming_problems), within_s=20)
            # what is known stays known
            assert _on(watch, port) == {known, unknown}
            if fail is _go_away:
                it.start()
            else:
                it.behave()
            named = Pair("during", "server.py", port)
            wait_for(lambda: named in _on(watch, port), within_s=60, what="the name after")
            wait_for(lambda: not watch.observer.naming_problems, within_s=30)
            watch.settle(2)
            late = max(window.width - window.nominal for window in watch.windows)
            assert late < 1.0, "an engine must not hold up a window"
            watch.windows.clear()
            watch.settle(4)
            assert _on(watch, port) == {known, named}
            # what happened on the one connection is there, whoever it was
            assert watch.total(named, "requests") > 0


def test_an_engine_that_hangs_from_the_start(docker: Engine, port: int, tmp_path: Path) -> None:
    with relay(tmp_path / "docker.sock", docker.socket) as it:
        it.hang()
        with _talking(docker, port, "hung") as id_, _watching(it.path) as watch:
            unknown = Pair(id_[:12], "server.py", port)
            wait_for(lambda: unknown in _on(watch, port), what="the id")
            wait_for(
                lambda: any("imed out" in each for each in watch.observer.naming_problems),
                within_s=20,
            )
            assert _on(watch, port) == {unknown}
            it.behave()
            named = Pair("hung", "server.py", port)
            wait_for(lambda: named in _on(watch, port), within_s=60, what="the name")
    assert max(window.width - window.nominal for window in watch.windows) < 1.0


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    nobody = DockerContainers(tmp_path / "none.sock")
    try:
        assert nobody.get("a" * 64) is None
        wait_for(lambda: nobody.problem == "there is no such socket")
    finally:
        nobody.close()


def test_who_asks_does_not_wait(tmp_path: Path) -> None:
    silent = """
import socket, sys
server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); server.listen()
print("ready", flush=True)
import time; time.sleep(60)
"""
    path = tmp_path / "silent.sock"
    with running(sys.executable, "-c", silent, path, stdout=-1) as process:
        assert hear(process) == "ready"
        asked = DockerContainers(path)
        try:
            began = time.monotonic()
            assert asked.get("a" * 64) is None
            assert time.monotonic() - began < 0.1
            wait_for(lambda: "imed out" in asked.problem, within_s=15, what=asked.problem)
        finally:
            asked.close()
