"""Which service a process belongs to: systemd unit, else container, else program."""

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


def program_name(command: str, executable: str) -> str:
    """Return what a process is called: its command, in full where the kernel has cut it.

    The command is the name it was started by: redis-server, though Debian's file is
    redis-check-rdb; wget, though it is busybox; a script's own name.

    Args:
        command: name of the thread group leader, at most 15 characters.
        executable: name of the file that it runs, at most 31; "" for a kernel thread.
    """
    if not executable:
        return "kernel"  # kworkers carry traffic of NFS and others, each time another of them
    cut = len(command) == 15 and executable.startswith(command)
    return executable if cut else command


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
            readable: whether its process ids are the kernel's; if not, programs are the names.
            clock: seconds, monotonic.
        """
        self._proc = proc
        self._readable = readable
        self._clock = clock
        self._known: dict[tuple[int, str], _Known] = {}
        self._cgroups: dict[int, str] = {}

    def name(self, tgid: int, program: str, cgroup: int) -> str:
        """Return the service of a process.

        Args:
            tgid: its process id.
            program: its `program_name`.
            cgroup: its id in the unified hierarchy, 0 if unknown. Names a process that is already
                gone when another of the same cgroup has been seen alive.
        """
        key = (tgid, program)
        now = self._clock()
        known = self._known.get(key)
        if known is not None and now - known.checked_s < _FRESH_S:
            return known.name
        started = self._started(tgid)
        if known is not None and started in (known.started, ""):
            known.checked_s = now
            return known.name
        if started:
            name = self._look_up(tgid, cgroup) or program
        else:
            name = self._cgroups.get(cgroup, program)
        self._known[key] = _Known(name, started, now)
        if len(self._known) > 20_000:
            self._forget(now)
        return name

    def name_by_tgid(self, tgid: int) -> str:
        """Return the service of a process of which only the id is known; "" when it is gone."""
        try:
            command = (self._proc / str(tgid) / "comm").read_text(errors="replace").rstrip("\n")
            executable = (self._proc / str(tgid) / "exe").readlink().name
        except OSError:
            return ""
        return self.name(tgid, program_name(command, executable), 0) if self._readable else ""

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

    def _look_up(self, tgid: int, cgroup: int) -> str | None:
        """Return the service that the process's cgroups name, in v2 or any v1 hierarchy."""
        try:
            lines = (self._proc / str(tgid) / "cgroup").read_text(errors="replace").splitlines()
        except OSError:
            return None
        for line in lines:
            hierarchy, _, path = line.split(":", 2)
            service = service_of_cgroup(path)
            if service:
                if hierarchy == "0" and cgroup:
                    self._cgroups[cgroup] = service
                return service
        return None
