"""Which service a process belongs to: systemd unit, else container, else executable."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CONTAINER: Final = re.compile(r"(?:^|[-:])([0-9a-f]{64})(?:\.scope)?$")
_USER_MANAGER: Final = re.compile(r"^user@\d+\.service$")
_FRESH_S: Final = 10.0


def service_of_cgroup(path: str) -> str | None:
    """Return the service that a cgroup path names, or None.

    The deepest component that names one wins: a container inside a unit is the container.

    Args:
        path: as in /proc/PID/cgroup, e.g. "/system.slice/nginx.service".
    """
    for part in reversed(path.split("/")):
        container = _CONTAINER.search(part)
        if container:
            return container[1][:12]
        if part.endswith(".service") and not _USER_MANAGER.match(part):
            return part.removesuffix(".service")
    return None


@dataclass(slots=True)
class _Known:
    name: str
    started: str
    checked_s: float


class ServiceNames:
    """Names processes, and remembers what it named: a process may be gone when it is asked for."""

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        readable: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start empty.

        Args:
            proc: where procfs is.
            readable: whether its process ids are the kernel's; if not, commands are the names.
            clock: seconds, monotonic.
        """
        self._proc = proc
        self._readable = readable
        self._clock = clock
        self._known: dict[tuple[int, str], _Known] = {}
        self._executables: dict[str, str] = {}

    def name(self, tgid: int, command: str) -> str:
        """Return the service of process `tgid`, whose thread group leader is called `command`.

        A process that is gone before it was ever looked at is named by its command (or the
        executable that processes of this command turned out to be).
        """
        key = (tgid, command)
        now = self._clock()
        known = self._known.get(key)
        if known is not None and now - known.checked_s < _FRESH_S:
            return known.name
        started = self._started(tgid)
        if known is not None and started in (known.started, ""):
            known.checked_s = now
            return known.name
        name = self._look_up(tgid, command) if started else self._executables.get(command, command)
        self._known[key] = _Known(name, started, now)
        if len(self._known) > 20_000:
            self._forget(now)
        return name

    def _forget(self, now: float) -> None:
        stale = [key for key, known in self._known.items() if now - known.checked_s > 60.0]
        for key in stale or list(self._known)[:10_000]:
            del self._known[key]

    def _started(self, tgid: int) -> str:
        """Return the process's start time in clock ticks; "" when it is gone or not ours to see."""
        if not self._readable or tgid == 0:
            return ""
        try:
            text = (self._proc / str(tgid) / "stat").read_text(errors="replace")
        except OSError:
            return ""
        return text.rpartition(")")[2].split()[19]  # field 22 of proc(5)

    def _look_up(self, tgid: int, command: str) -> str:
        directory = self._proc / str(tgid)
        try:
            lines = (directory / "cgroup").read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            service = service_of_cgroup(line.split(":", 2)[2])
            if service:
                return service
        try:
            executable = (directory / "exe").readlink().name.removesuffix(" (deleted)")
        except OSError:
            return self._executables.get(command, command)
        self._executables[command] = executable
        return executable
