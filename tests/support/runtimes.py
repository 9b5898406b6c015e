"""Podman and containerd of the test's own, beside Docker: with the same image, an empty tree."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.docker import tree
from tests.support.netns import lone_host
from tests.support.traffic import running, wait_for


@dataclass(frozen=True, slots=True)
class Runtime:
    """A container runtime.

    Attributes:
        command: how it is called.
        socket: where it listens.
        run: where it keeps what is running.
    """

    command: tuple[str, ...]
    socket: Path
    run: Path

    def __call__(self, *words: object) -> str:
        """Run a command of its command line; return what it said."""
        done = subprocess.run(
            [*self.command, *map(str, words)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


# limits above this process's own are refused, and Podman wants the highest
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


def podman_options(directory: Path) -> tuple[str, ...]:
    """Return the options of `podman run` with which this host's programs run, /srv being theirs."""
    return (*_LIMITS, "-v", "/usr:/usr:ro", "-v", "/etc:/etc:ro", "-v", f"{directory}:/srv")


@contextlib.contextmanager
def podman(directory: Path) -> Iterator[tuple[Runtime, str]]:
    """Run Podman's service in a network namespace of its own; give both."""
    socket = directory / "podman.sock"
    # it takes no long path for what is running
    with lone_host() as host, tempfile.TemporaryDirectory(prefix="podman-") as run:
        command = (
            "nsenter", f"--net=/run/netns/{host}", "podman", "--root", str(directory / "root"),
            "--runroot", run, "--tmpdir", str(directory / "tmp"),
            "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
        )  # fmt: skip
        found = Runtime(command, socket, Path(run))
        (directory / "tree.tar").write_bytes(tree())
        found("import", directory / "tree.tar", "host")
        log = (directory / "service.log").open("w")
        with log, running(
            *command, "system", "service", "--time=0", f"unix://{socket}", stdout=log, stderr=log
        ):  # fmt: skip
            wait_for(socket.exists, what="Podman's service")
            try:
                yield found, host
            finally:
                for name in found("ps", "-aq").split():
                    found("rm", "-f", "-t", "0", name)
                for place in ("libpod_parent/conmon", "libpod_parent"):  # Podman leaves them
                    for left in Path("/sys/fs/cgroup").glob(f"*/{place}"):
                        with contextlib.suppress(OSError):  # another Podman's
                            left.rmdir()


@contextlib.contextmanager
def containerd(directory: Path) -> Iterator[Runtime]:
    """Run containerd; what it is left with is killed at the end."""
    socket, run = directory / "containerd.sock", directory / "run"
    log = (directory / "containerd.log").open("w")
    with log, running(
        "containerd", "--root", directory / "root", "--state", run / "containerd",
        "--address", socket, stdout=log, stderr=log,
    ):  # fmt: skip
        wait_for(socket.exists, within_s=30, what=f"containerd starts: {log.name}")
        (directory / "rootfs").mkdir()
        unpack = ["tar", "-x", "-C", directory / "rootfs"]
        subprocess.run(unpack, input=tree(), check=True)
        # runc keeps its own state of all, by namespace
        namespace = f"shop-{uuid.uuid4().hex[:8]}"
        found = Runtime(("ctr", "--address", str(socket), "--namespace", namespace), socket, run)
        wait_for(lambda: _answers(found), what="containerd answers")
        try:
            yield found
        finally:
            for name in found("tasks", "ls", "-q").split():
                found("tasks", "rm", "-f", name)
            for name in found("containers", "ls", "-q").split():
                found("containers", "rm", name)


def _answers(runtime: Runtime) -> bool:
    with contextlib.suppress(AssertionError):
        runtime("version")
        return True
    return False
