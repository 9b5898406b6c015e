"""Processes in cgroups as systemd, LXC and Podman make them, in the real hierarchies."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.identity.service import Service
from probes.window import Pair
from tests.support import cgroups
from tests.support.cgroups import cgroup, enter
from tests.support.traffic import Nginx, nginx, running, wait_for
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel

_MARK = f"t{os.getpid()}"
_ID = f"{os.getpid():x}".rjust(8, "a").ljust(64, "0")
_OF_USER = "user.slice/user-1000.slice/user@1000.service"

_SHELL = """
exec 3<>/dev/tcp/127.0.0.1/$1
printf 'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3
read -r -u3 answer
[[ $answer == HTTP/1.1\\ 200* ]]
[[ -z $2 ]] || while read -r -t "$2" -u3; do :; done
"""

_KINDS = {
    f"system.slice/{_MARK}.service": (_MARK, "unit"),
    f"system.slice/system-{_MARK}.slice/{_MARK}@a.service": (f"{_MARK}@a", "unit"),
    f"{_OF_USER}/app.slice/{_MARK}.service": (_MARK, "user unit"),
    f"user.slice/user-1000.slice/session-{_MARK}.scope": ("job.sh", "script"),
    f"lxc.payload.{_MARK}": (_MARK, "machine"),
    f"lxc.payload.{_MARK}/system.slice/web.service": ("web", "unit"),
    f"machine.slice/systemd-nspawn@{_MARK}.service/payload": (_MARK, "machine"),
    rf"machine.slice/machine-my\x2d{_MARK}.scope": (f"my-{_MARK}", "machine"),
    f"machine.slice/libpod-{_ID}.scope/container": (_ID[:12], "container id"),
    f"system.slice/docker-{_ID}.scope": (_ID[:12], "container id"),
}


@pytest.fixture(params=["unified", "named"])
def root(request: pytest.FixtureRequest) -> Path:
    found: Path | None = getattr(cgroups, request.param)()
    if found is None or not os.access(found, os.W_OK):
        pytest.skip(f"the {request.param} hierarchy is not here, or not ours to change")
    return found


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with watching(0.25) as watch:
        yield watch


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nginx]:
    (tmp_path / "job.sh").write_text(_SHELL)
    with nginx(tmp_path) as found:
        yield found


@pytest.mark.parametrize("path", _KINDS, ids=lambda path: path.replace(_MARK, "X")[:40])
def test_a_process_there_is_named_so(
    watch: Watch, root: Path, path: str, tmp_path: Path, server: Nginx
) -> None:
    name, resolution = _KINDS[path]
    with cgroup(root, path) as mine:
        job = ["/usr/bin/bash", "job.sh", str(server.port), "60"]
        with running(*job, cwd=tmp_path, preexec_fn=functools.partial(enter, mine)):
            expected = Pair(name, "nginx", server.port)
            wait_for(lambda: expected in watch.pairs(), what=f"{expected} in {watch.pairs()}")
        watch.settle(2)
        assert {pair for pair in watch.pairs() if pair.port == server.port} == {expected}
        assert watch.total(expected, "connections") == 1
        assert watch.observer.services[name].resolution == resolution


def test_who_is_elsewhere_is_not_named_so(
    watch: Watch, root: Path, tmp_path: Path, server: Nginx
) -> None:
    # while one is in a unit, others who are gone at once have been in none
    job = ["/usr/bin/bash", "job.sh", str(server.port)]
    with cgroup(root, f"system.slice/{_MARK}.service") as mine:
        with running(*job, "60", cwd=tmp_path, preexec_fn=functools.partial(enter, mine)):
            unit = Pair(_MARK, "nginx", server.port)
            wait_for(lambda: unit in watch.pairs(), what=f"{unit}")
            for _ in range(10):
                subprocess.run([*job, ""], check=True, cwd=tmp_path)
        watch.settle(2)
    found = {pair: watch.total(pair, "connections") for pair in watch.pairs()}
    script = Pair("job.sh", "nginx", server.port)
    assert {p: n for p, n in found.items() if p.port == server.port} == {unit: 1, script: 10}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"system.slice/{_MARK}.service", Service(_MARK, "unit")),
        (f"machine.slice/libpod-{_ID}.scope", Service(_ID[:12], "container id")),
        # of a path the kernel side keeps the last part only: the next best, never a wrong one
        (f"system.slice/{_MARK}.service/worker", Service("job.sh", "script")),
    ],
)
def test_a_cgroup_that_vanishes(
    watch: Watch, path: str, expected: Service, tmp_path: Path, server: Nginx
) -> None:
    unified = cgroups.unified()
    if unified is None or not os.access(unified, os.W_OK):
        pytest.skip("the unified hierarchy is not here, or not ours to change")
    number = 10
    for _ in range(number):
        with cgroup(unified, path) as mine:
            job = ["/usr/bin/bash", "job.sh", str(server.port), ""]
            subprocess.run(job, check=True, cwd=tmp_path, preexec_fn=functools.partial(enter, mine))
    watch.settle(3)
    found = {pair: watch.total(pair, "connections") for pair in watch.pairs()}
    assert {pair: n for pair, n in found.items() if pair.port == server.port} == {
        Pair(expected.name, "nginx", server.port): number
    }
    assert watch.observer.services[expected.name].resolution == expected.resolution
