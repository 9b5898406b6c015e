"""What happens to containers of a real Docker engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.identity.service_event import ServiceEvent
from probes.identity.sources import NamingSettings
from tests.support.docker import Engine, engine, tree
from tests.support.traffic import running, wait_for
from tests.support.watching import Watch, watching

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_PORT = 18481
_SERVER = f"""
import socket
listener = socket.create_server(("0.0.0.0", {_PORT}))
while True:
    connection, _ = listener.accept()
    connection.recv(100)
    connection.close()
"""

_CLIENT = f"""
import socket, sys, time
while True:
    for address in open(sys.argv[1]).read().split():
        try:
            with socket.create_connection((address, {_PORT}), timeout=1) as asking:
                asking.sendall(b"x")
                asking.recv(100)
        except OSError:
            pass
    time.sleep(0.2)
"""


class _Shop:
    """Containers of one Compose service, and a client of them all."""

    def __init__(self, docker: Engine, watch: Watch) -> None:
        self.docker, self.watch = docker, watch
        self.name = f"shop-{int(time.time())}/web"
        self.addresses = docker.directory / "addresses"
        self._told: list[ServiceEvent] = []

    def start(self, number: int, image: str) -> None:
        project = self.name.partition("/")[0]
        mounts = ("-v", "/usr:/usr:ro", "-v", "/etc:/etc:ro", "-v", f"{self.docker.directory}:/srv")
        labels = (f"com.docker.compose.project={project}", "com.docker.compose.service=web")
        self.docker(
            "run", "-d", "--name", f"web-{number}", "--label", labels[0], "--label", labels[1],
            *mounts, image, "/usr/bin/python3", "/srv/server.py",
        )  # fmt: skip
        self.find()

    def stop(self, number: int) -> None:
        self.docker("rm", "-f", f"web-{number}")
        self.find()

    def find(self) -> None:
        """Have the client ask those who run."""
        names = self.docker("ps", "-q", "--filter", "label=com.docker.compose.service=web").split()
        found = [self.docker.address(name, "bridge") for name in names]
        self.addresses.write_text("\n".join(found))

    def events(self) -> list[ServiceEvent]:
        self._told += self.watch.observer.events()
        return [event for event in self._told if event.service == self.name]

    def following(self, number: int) -> ServiceEvent:
        """Wait until there are so many events, and see that there come no more."""
        wait_for(lambda: len(self.events()) >= number, within_s=60, what=f"{number} events")
        self.watch.settle(14)
        assert len(self.events()) == number
        return self.events()[-1]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[_Shop]:
    with contextlib.ExitStack() as stack:
        docker = stack.enter_context(engine(tmp_path))
        for version in ("1.2", "1.3"):
            docker("import", "-c", f"LABEL version={version}", "-", f"app:{version}", stdin=tree())
        (docker.directory / "server.py").write_text(_SERVER)
        naming = NamingSettings(container_sockets=[docker.socket])
        watch = stack.enter_context(watching(1.0, naming=naming))
        wait_for(lambda: not watch.observer.naming_problems, what=str(watch.observer.notes))
        shop = _Shop(docker, watch)
        shop.find()
        client = docker.on_host("/usr/bin/python3", "-c", _CLIENT, shop.addresses)
        stack.enter_context(running(*client))
        shop.start(1, "app:1.2")
        wait_for(lambda: shop.name in watch.observer.services, within_s=60, what="it is named")
        watch.settle(4)
        assert shop.events() == []
        yield shop


def test_images_change_and_containers_come_and_go(shop: _Shop) -> None:
    began = time.time()
    shop.stop(1)
    shop.start(1, "app:1.3")
    event = shop.following(1)
    assert event.kind == "deploy"
    new, _, old = event.detail.partition(" in place of ")
    assert (new.partition("@")[0], old.partition("@")[0]) == ("app:1.3", "app:1.2")
    assert began - 2 <= event.at <= time.time()

    began = time.time()
    shop.docker("restart", "-t", "1", "web-1")
    shop.find()
    event = shop.following(2)
    assert event.kind == "restart"
    assert began - 2 <= event.at <= time.time()

    shop.start(2, "app:1.3")
    event = shop.following(3)
    assert (event.kind, event.detail) == ("scale_out", "2 instances in place of 1")
    shop.stop(2)
    event = shop.following(4)
    assert event.kind == "scale_in"
    assert event.detail.startswith("1 instance in place of 2")
