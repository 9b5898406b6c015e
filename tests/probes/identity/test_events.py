"""What happens to real services: seen once, with the right kind, at the right time."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.identity.service_event import ServiceEvent
from tests.support import cgroups
from tests.support.cgroups import cgroup, enter
from tests.support.netns import lone_host
from tests.support.traffic import free_port, hear, nginx, running, wait_for
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel

_MARK = f"e{os.getpid()}"
_LATE_S = 3.0
"""An end is noticed within a second, on a machine that has nothing else to do."""

_SERVER = """
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
while True:
    connection, _ = listener.accept()
    said = connection.recv(100)
    if said == b"eat":
        eaten = bytearray(200 << 20)
        for at in range(0, len(eaten), 4096): eaten[at] = 1
    connection.close()
"""

_FORKING = """
import os, signal, socket, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    if os.fork():
        connection.close()
        continue
    listener.close()
    while connection.recv(100): pass
    os._exit(0)
"""

_ERRAND = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as asking:
    asking.sendall(sys.argv[2].encode())
"""

_STAYING = """
import socket, sys, time
while True:
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))).sendall(b"x")
    time.sleep(0.2)
"""

_HOLDING = """
import socket, sys
asking = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
asking.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n")  # and never an end of it
print("asked", flush=True)
sys.stdin.readline()
"""


class Scene:
    """A network namespace that is watched alone: others on this machine run nginx as well.

    What happens is asked for as the daemon asks for it: once a window.
    """

    def __init__(self, watch: Watch, host: str) -> None:
        self.watch, self.host = watch, host
        self._all: list[ServiceEvent] = []

    def events(self, service: str) -> list[ServiceEvent]:
        self._all += self.watch.observer.events()
        return [event for event in self._all if event.service == service]

    def one(self, service: str, *, within_s: float = 60) -> ServiceEvent:
        """Wait for a service's first event, and see that no other comes with it."""
        wait_for(lambda: bool(self.events(service)), within_s=within_s, what=f"event of {service}")
        self.rest(3)
        (event,) = self.events(service)
        return event

    def rest(self, seconds: float) -> None:
        self.watch.settle(round(seconds / self.watch.observer.window_s))

    def inside(self, *command: object) -> list[str]:
        # not `ip netns exec`, which hides the cgroups
        return ["nsenter", f"--net=/run/netns/{self.host}", *map(str, command)]

    def ask(self, port: int, what: str = "x") -> bool:
        """Send something to a server; return whether it was there."""
        command = self.inside(sys.executable, "-c", _ERRAND, port, what)
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0

    @contextlib.contextmanager
    def serving(self, script: Path, port: int, **kwargs: object) -> Iterator[subprocess.Popen[str]]:
        command = self.inside(sys.executable, script, port)
        with running(*command, **kwargs) as process:
            wait_for(lambda: self.ask(port), within_s=60, what=f"{script} answers")
            assert process.poll() is None
            yield process

    def know(self, service: str) -> None:
        """Wait until a service is watched, and see that its first sight is no event."""
        services = self.watch.observer.services
        wait_for(lambda: service in services, within_s=60, what=f"{service} is known")
        self.rest(4)
        assert self.events(service) == []


@pytest.fixture
def scene() -> Iterator[Scene]:
    with lone_host() as host, watching(0.5, netns=[host]) as watch:
        yield Scene(watch, host)


def _script(directory: Path, name: str, source: str = _SERVER) -> Path:
    script = directory / f"{name}-{_MARK}.py"
    script.write_text(source)
    return script


def test_a_reload_and_a_restart_of_nginx(tmp_path: Path, scene: Scene) -> None:
    port = free_port()
    with nginx(tmp_path, port=port, inside=scene.host) as server:
        scene.know("nginx")
        scene.rest(3)  # its worker has settled
        reloaded = time.time()
        subprocess.run(
            ["nginx", "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-s", "reload"], check=True
        )
        event = scene.one("nginx")
        assert (event.kind, event.detail) == ("reload", "1 worker replaced")
        assert event.at == pytest.approx(reloaded, abs=_LATE_S)
        assert server.status()
        seen = len(scene.events("nginx"))
    ended = time.time()
    with nginx(tmp_path, port=port, inside=scene.host):
        wait_for(lambda: len(scene.events("nginx")) > seen, within_s=60)
        scene.rest(3)
        _, event = scene.events("nginx")
    assert event.kind == "restart"
    assert event.at == pytest.approx(ended, abs=_LATE_S)
    assert "another took its place" in event.detail


def test_a_worker_that_crashes_and_one_that_is_busy_at_a_reload(
    tmp_path: Path, scene: Scene
) -> None:
    port = free_port()
    with nginx(tmp_path, port=port, inside=scene.host) as server:
        scene.know("nginx")
        scene.rest(3)
        (worker,) = _children(server.pid)
        killed = time.time()
        os.kill(worker, signal.SIGKILL)
        event = scene.one("nginx")
        assert event.kind == "restart"
        assert event.detail == "1 worker killed by SIGKILL, and as many took their place"
        assert event.at == pytest.approx(killed, abs=_LATE_S)
        scene.rest(6)
        holding = scene.inside(sys.executable, "-c", _HOLDING, port)
        with running(*holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as held:
            assert hear(held) == "asked"
            os.kill(server.pid, signal.SIGHUP)
            wait_for(lambda: len(scene.events("nginx")) > 1, within_s=60)
        event = scene.events("nginx")[-1]
        assert (event.kind, event.detail) == ("reload", "1 worker replaced")


def test_a_service_that_is_killed_and_started_again(tmp_path: Path, scene: Scene) -> None:
    script, port = _script(tmp_path, "killed"), free_port()
    with scene.serving(script, port) as process:
        scene.know(script.name)
        process.kill()
        process.wait()
        ended = time.time()
    time.sleep(2)
    with scene.serving(script, port):
        event = scene.one(script.name)
    assert event.kind == "restart"
    assert event.detail.startswith("killed by SIGKILL, and another took its place after ")
    assert event.at == pytest.approx(ended, abs=_LATE_S)


def test_a_service_that_is_gone(tmp_path: Path, scene: Scene) -> None:
    script, port = _script(tmp_path, "gone"), free_port()
    with scene.serving(script, port) as process:
        scene.know(script.name)
        process.terminate()
        ended = time.time()
        process.wait()
    event = scene.one(script.name)
    assert event.kind == "scale_in"
    assert event.detail == "no instance in place of 1: killed by SIGTERM"
    assert event.at == pytest.approx(ended, abs=_LATE_S)


def test_another_version_of_a_script(tmp_path: Path, scene: Scene) -> None:
    script, port = _script(tmp_path, "shop"), free_port()
    os.utime(script, (1_700_000_000, 1_700_000_000))
    with scene.serving(script, port):
        scene.know(script.name)
    stopped = time.time()
    script.write_text(_SERVER + "# better\n")
    os.utime(script, (1_700_000_060, 1_700_000_060))
    with scene.serving(script, port):
        event = scene.one(script.name)
    assert event.kind == "deploy"
    assert event.detail == (
        f"{script} of 2023-11-14T22:14:20Z in place of {script} of 2023-11-14T22:13:20Z"
    )
    assert event.at == pytest.approx(stopped, abs=_LATE_S)


def test_another_version_that_takes_over_before_the_first_has_ended(
    tmp_path: Path, scene: Scene
) -> None:
    script, port = _script(tmp_path, "blue"), free_port()
    os.utime(script, (1_700_000_000, 1_700_000_000))
    with scene.serving(script, port) as first:
        scene.know(script.name)
        os.utime(script, (1_700_000_060, 1_700_000_060))
        began = time.time()
        with scene.serving(script, port):
            # of two who share a port, one is known when it accepts
            wait_for(lambda: scene.ask(port) and bool(scene.events(script.name)), within_s=60)
            first.terminate()
            scene.rest(14)
            (event,) = scene.events(script.name)
    assert event.kind == "deploy"
    assert event.at == pytest.approx(began, abs=_LATE_S)


def test_one_instance_more_and_one_less(tmp_path: Path, scene: Scene) -> None:
    root = cgroups.unified()
    if root is None or not os.access(root, os.W_OK):
        pytest.skip("no hierarchy of cgroups of version 2 is here, or it is not ours to change")
    script, port = _script(tmp_path, "many"), free_port()
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(cgroup(root, f"{_MARK}-{n}")) for n in (1, 2))
        here = functools.partial(enter, first)
        stack.enter_context(scene.serving(script, port, preexec_fn=here))
        scene.know(script.name)
        grown = time.time()
        with scene.serving(script, port, preexec_fn=functools.partial(enter, second)):
            wait_for(lambda: scene.ask(port) and bool(scene.events(script.name)), within_s=60)
            event = scene.one(script.name)
            assert (event.kind, event.detail) == ("scale_out", "2 instances in place of 1")
            assert event.at == pytest.approx(grown, abs=_LATE_S)
            shrunk = time.time()
        wait_for(lambda: len(scene.events(script.name)) > 1, within_s=60)
        scene.rest(3)
        _, event = scene.events(script.name)
        assert (event.kind, event.detail) == (
            "scale_in", "1 instance in place of 2: killed by SIGTERM",
        )  # fmt: skip
        assert event.at == pytest.approx(shrunk, abs=_LATE_S)


def test_out_of_memory(tmp_path: Path, scene: Scene) -> None:
    root = cgroups.with_memory()
    if root is None or not os.access(root, os.W_OK):
        pytest.skip("no cgroup here has a memory controller that is ours to change")
    script, port = _script(tmp_path, "hungry"), free_port()
    with cgroup(root, _MARK) as mine, contextlib.ExitStack() as stack:
        cgroups.limit_memory(mine, 64 << 20)
        inside = functools.partial(enter, mine)
        process = stack.enter_context(scene.serving(script, port, preexec_fn=inside))
        scene.know(script.name)
        assert scene.ask(port, "eat")
        killed = time.time()
        assert process.wait(timeout=60) == -signal.SIGKILL
        with scene.serving(script, port, preexec_fn=inside):
            wait_for(lambda: len(scene.events(script.name)) > 1, within_s=60)
            scene.rest(3)
        found = {event.kind: event for event in scene.events(script.name)}
    assert found.keys() == {"oom_kill", "restart"}
    assert found["oom_kill"].detail == "the limit of its cgroup is 64 MiB"
    assert found["restart"].detail.startswith("killed by SIGKILL")
    for event in found.values():
        assert event.at == pytest.approx(killed, abs=_LATE_S)


def test_errands_and_children_for_a_connection_are_no_services(
    tmp_path: Path, scene: Scene
) -> None:
    forking, errand = _script(tmp_path, "fork", _FORKING), _script(tmp_path, "errand", _ERRAND)
    port = free_port()
    with scene.serving(forking, port):
        scene.know(forking.name)
        holding = scene.inside(sys.executable, "-c", _HOLDING, port)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with running(*holding, **pipes) as first:
            assert hear(first) == "asked"
            scene.rest(8)  # the child has been there for long
            with running(*holding, **pipes) as second:
                assert hear(second) == "asked"
                first.terminate()
                scene.rest(6)
        for _ in range(20):
            subprocess.run(scene.inside(sys.executable, errand, port, "x"), check=True)
        scene.rest(8)
        assert errand.name in scene.watch.observer.services
        assert scene.events(errand.name) == scene.events(forking.name) == []


def test_a_client_that_lasts_is_a_service(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.identity.process_watch._LASTING_S", 6.0)
    script, port = _script(tmp_path, "behind"), free_port()
    staying = _script(tmp_path, "staying", _STAYING)
    os.utime(staying, (1_700_000_000, 1_700_000_000))
    with scene.serving(script, port):
        with running(*scene.inside(sys.executable, staying, port)):
            scene.know(staying.name)
            scene.rest(6)
        ended = time.time()
        os.utime(staying, (1_700_000_060, 1_700_000_060))
        with running(*scene.inside(sys.executable, staying, port)):
            event = scene.one(staying.name)
    assert event.kind == "deploy"
    assert event.at == pytest.approx(ended, abs=_LATE_S)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
