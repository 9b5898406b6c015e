"""Podman by its socket and containerd by its files: real ones, with real containers."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes.identity import sources
from probes.identity.bundles import BundleContainers
from probes.identity.sources import NamingSettings
from probes.observer import Observer
from probes.window import Pair
from tests.support.netns import lone_host
from tests.support.runtimes import Runtime, containerd, podman, podman_options
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

_TALK = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as end:
    for _ in range(int(sys.argv[3])):
        end.sendall(b"x")
        assert end.recv(10) == b"x"
        time.sleep(0.05)
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "srv"
    directory.mkdir()
    (directory / "server.py").write_text(_SERVER)
    (directory / "talk.py").write_text(_TALK)
    return directory


@contextmanager
def _server(shared: Path, host: str) -> Iterator[int]:
    port = free_port()
    command = ["nsenter", f"--net=/run/netns/{host}", _PYTHON, "server.py", str(port)]
    with running(*command, cwd=shared, stdout=-1) as server:
        assert hear(server) == "ready"
        yield port


@contextmanager
def _watching(sockets: Sequence[Path]) -> Iterator[Watch]:
    with Observer(0.25, naming=NamingSettings(container_sockets=sockets)) as observer:
        watch = Watch(observer)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()


def _clients(watch: Watch, port: int) -> dict[str, str]:
    """Return who talks to the server, and how that is known."""
    found = {pair for pair in watch.pairs() if pair.port == port}
    assert {pair.server for pair in found} <= {"server.py"}
    return {p.client: watch.observer.services[p.client].resolution for p in found}


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_podman_s_containers(shared: Path, tmp_path: Path) -> None:
    with (
        podman(tmp_path) as (engine, host),
        _server(shared, host) as port,
        _watching([engine.socket]) as watch,
    ):
        wait_for(lambda: not watch.observer.naming_problems, what="the engine is followed")
        options, where = podman_options(shared), ("10.88.0.1", port)
        label = ("--label", "io.podman.compose.service=db", "--label",
                 "io.podman.compose.project=shop")  # fmt: skip
        run = ("run", "-d", *options, "--name")
        engine(*run, "web", "host", _PYTHON, "/srv/talk.py", *where, 10_000)
        engine(*run, "shop_db_1", *label, "host", _PYTHON, "/srv/talk.py", *where, 10_000)
        expected = {"web": "container", "shop/db": "compose"}
        wait_for(lambda: _clients(watch, port) == expected, what=str(_clients(watch, port)))
        for number in range(5):
            name = f"brief-{number}"
            engine("run", "--rm", *options, "--name", name, "host",
                   _PYTHON, "/srv/talk.py", *where, 1)  # fmt: skip
            expected |= {name: "container"}
        engine("rename", "web", "door")
        expected |= {"door": "container"}
        wait_for(lambda: _clients(watch, port) == expected, what=str(_clients(watch, port)))
        watch.settle(2)
        watch.windows.clear()
        watch.settle(4)
        assert _clients(watch, port) == {"door": "container", "shop/db": "compose"}


def test_containerd_s_containers(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [uuid.uuid4().hex * 2 for _ in range(3)]
    names = {ids[0]: "billing", ids[1]: "ledger"}  # as nerdctl tells of them; the last of none
    with containerd(tmp_path) as engine, lone_host() as host, _server(shared, host) as port:
        monkeypatch.setattr(sources, "BundleContainers", lambda: BundleContainers(engine.run))
        with _watching([]) as watch:
            for each in ids:
                _start(engine, tmp_path, host, each, names.get(each, ""), port)
            wait_for(lambda: len(_clients(watch, port)) == 3, what=str(_clients(watch, port)))
            watch.settle(2)
            expected = {"billing": "container", "ledger": "container", ids[2][:12]: "container id"}
            assert _clients(watch, port) == expected
            for name in expected:
                pair = Pair(name, "server.py", port)
                assert watch.total(pair, "connections") == 1
            image = watch.observer.services["billing"].version
            assert image == "example.com/billing:7"


def _start(engine: Runtime, directory: Path, host: str, id_: str, name: str, port: int) -> None:
    told = {"nerdctl/name": name, "io.kubernetes.cri.image-name": "example.com/billing:7"}
    annotations = [f"--annotation={key}={value}" for key, value in told.items() if name]
    mounts = [
        f"--mount=type=bind,src={source},dst={to},options=rbind:ro"
        for source, to in (("/usr", "/usr"), ("/etc", "/etc"), (directory / "srv", "/srv"))
    ]
    engine("run", "-d", "--rootfs", f"--with-ns=network:/run/netns/{host}", "--cgroup",
           f"/{id_}", *annotations, *mounts, directory / "rootfs", id_,
           _PYTHON, "/srv/talk.py", "127.0.0.1", port, 10_000)  # fmt: skip
