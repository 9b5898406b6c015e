"""A Docker engine of the test's own, in a network namespace of its own.

There is no registry to take images from: the image is an empty tree, and containers run this
host's programs, mounted read-only.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.netns import lone_host
from tests.support.traffic import running, wait_for

_DIRECTORIES = ("usr", "etc", "srv", "tmp", "run", "var/log", "proc", "sys", "dev", "root")
_LINKS = ("bin", "sbin", "lib", "lib64")


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine.

    Attributes:
        host: the network namespace that is its host's.
        socket: where it listens.
        directory: what containers see as /srv.
    """

    host: str
    socket: Path
    directory: Path

    def __call__(self, *words: object, stdin: bytes | None = None) -> str:
        """Run a command of Docker's command line; return what it said."""
        command = ["/usr/bin/docker", "-H", f"unix://{self.socket}", *map(str, words)]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def run(self, name: str, *command: object, options: tuple[object, ...] = ()) -> str:
        """Start a container; return its id."""
        mounts = ("-v", "/usr:/usr:ro", "-v", "/etc:/etc:ro", "-v", f"{self.directory}:/srv")
        return self(
            "run", "-d", "--init=false", "--name", name, *mounts, *options, "host", *command
        )

    def address(self, name: str, network: str) -> str:
        """Return a container's IPv4 address in a network."""
        form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
        return self("inspect", "-f", form, name)

    def on_host(self, *command: object) -> list[str]:
        """Return the command that runs another where the engine's host is."""
        # not `ip netns exec`, which hides the cgroups
        return ["nsenter", f"--net=/run/netns/{self.host}", *map(str, command)]


@contextlib.contextmanager
def engine(directory: Path, *options: str) -> Iterator[Engine]:
    """Run an engine with these options of dockerd; its containers are removed at the end."""
    socket, shared = directory / "docker.sock", directory / "srv"
    shared.mkdir()
    with lone_host() as host:
        found = Engine(host, socket, shared)
        for setting in (
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv6.conf.default.dad_transmits=0",  # a bridge's address can be used at once
        ):
            subprocess.run(found.on_host("sysctl", "-qw", setting), check=True)
        log = (directory / "dockerd.log").open("w")
        with log, running(
            *found.on_host(
                "dockerd", "--data-root", directory / "data", "--exec-root", directory / "exec",
                "--pidfile", directory / "pid", "-H", f"unix://{socket}", *options,
            ),
            stdout=log, stderr=log,
        ):  # fmt: skip
            wait_for(socket.exists, within_s=30, what=f"dockerd starts: {log.name}")
            found("import", "-", "host", stdin=tree())
            try:
                yield found
            finally:
                if names := found("ps", "-aq").split():
                    found("rm", "-f", *names)


def tree() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in _DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name in _LINKS:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)
    return packed.getvalue()
