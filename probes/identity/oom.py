"""Whom the kernel has killed for want of memory: by the counts of cgroups.

The whole host's count (/proc/vmstat) is looked at; only when that has grown are the cgroups of
services, of version 2 (memory.events) or of version 1 (memory.oom_control), asked for theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

_KEY: Final = "oom_kill"
_UNLIMITED: Final = 1 << 62


class MemoryCgroups:
    """Where the memory of processes is counted."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Look where the hierarchies are mounted.

        Args:
            proc: where procfs is.
        """
        self._proc = proc
        self._unified, self._own = _mounted(proc)
        self._total = self._kills()

    def place(self, cgroups: Sequence[tuple[str, str]]) -> Path | None:
        """Return where a process's memory is counted; None if with everybody's, or nowhere.

        Args:
            cgroups: as of `probes.identity.processes.Process`.
        """
        for controllers, path in cgroups:
            own = "memory" in controllers.split(",")
            root = self._own if own else self._unified if not controllers else None
            if root is None or path == "/":
                continue
            directory = root / path.lstrip("/")
            if (directory / ("memory.oom_control" if own else "memory.events")).exists():
                return directory
        return None

    def any_killed(self) -> bool:
        """Return whether anybody at all was killed since the last call."""
        before, self._total = self._total, self._kills()
        return before is not None and self._total is not None and self._total > before

    def _kills(self) -> int | None:
        return _count(self._proc / "vmstat")


def kills(directory: Path) -> int | None:
    """Return how many processes of a cgroup were killed so far; None if it is gone."""
    found = _count(directory / "memory.events")
    return _count(directory / "memory.oom_control") if found is None else found


def detail(directory: Path | None) -> str:
    """Return what there is to say of a kill, given where the memory is counted, if anywhere."""
    limit = _limit_text(directory) if directory else ""
    return f"the limit of its cgroup is {limit}" if limit else ""


def _limit_text(directory: Path) -> str:
    """Return how much memory a cgroup may use, "64 MiB"; "" if that is not limited."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            text = (directory / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _UNLIMITED:
            return f"{int(text) / (1 << 20):.0f} MiB"
    return ""


def _count(file: Path) -> int | None:
    try:
        text = file.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == _KEY and number.isdigit():
            return int(number)
    return None


def _mounted(proc: Path) -> tuple[Path | None, Path | None]:
    """Return where the unified hierarchy is mounted, and version 1's of memory."""
    unified = own = None
    try:
        lines = (proc / "self/mounts").read_text().splitlines()
    except OSError:
        return None, None
    for line in lines:
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            unified = unified or Path(place)
        elif kind == "cgroup" and "memory" in options.split(","):
            own = own or Path(place)
    return unified, own
