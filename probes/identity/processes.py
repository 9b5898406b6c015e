"""What procfs says of a process, if it is still the one that is meant (proc(5))."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probes.identity.service import CGROUP_BYTES, NAME_BYTES, Facts

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_UNIT_NS = 1 << 20
_LATER_NS = _TICK_NS  # the kernel reads the one clock after the other, and may be held up between


@dataclass(frozen=True, slots=True)
class Process:
    """A living process.

    Attributes:
        executable: path of the file it runs, as it sees it; "" if we may not know, or if it has
            executed another since.
        changed: when that file was last changed, epoch seconds; 0.0 if we may not know.
        arguments: of its command line when it was met, as far as that is known.
        cgroups: (hierarchies, path) of each it is in; "" for the unified one.
    """

    executable: str
    changed: float
    arguments: tuple[str, ...]
    cgroups: tuple[tuple[str, str], ...]


def _suspended_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def start_ticks(proc: Path, tgid: int) -> int | None:
    """Return when a process was started, in ticks since boot; None if there is none.

    The time the machine was suspended is in it.
    """
    return _stat(proc, tgid, 22)


def parent(proc: Path, tgid: int) -> int | None:
    """Return the id of a process's parent; None if there is no such process."""
    return _stat(proc, tgid, 4)


def file_of(proc: Path, tgid: int) -> tuple[int, int] | None:
    """Return what tells the file that a process runs from all others; None if we may not know."""
    try:
        found = (proc / str(tgid) / "exe").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _stat(proc: Path, tgid: int, field: int) -> int | None:
    try:
        text = (proc / str(tgid) / "stat").read_text(errors="replace")
        return int(text.rpartition(")")[2].split()[field - 3])
    except (OSError, IndexError, ValueError):
        return None


def started_at(ticks: int) -> float:
    """Return when something began, epoch seconds.

    Args:
        ticks: as of `start_ticks`.
    """
    ago_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks * _TICK_NS
    return time.time() - ago_ns / 1e9


def is_same(started: int, ticks: int, suspended_ns: int) -> bool:
    """Return whether a start that the kernel side told can be the one that procfs tells.

    Args:
        started: units of 2**20 ns of the monotonic clock, which stands still while suspended.
        ticks: as of `start_ticks`.
        suspended_ns: how long the machine has been suspended since boot.
    """
    behind = ticks * _TICK_NS - started * _UNIT_NS  # both were rounded down
    return -_TICK_NS < behind < suspended_ns + _UNIT_NS + _LATER_NS


def read(proc: Path, facts: Facts) -> Process | None:
    """Return what procfs says of the process; None when that is gone, or its id another's now.

    A start is known to 10 ms only, so what is there must not contradict what the kernel said. It
    may have executed another program meanwhile: then it is the one of which the kernel said so.
    """
    ticks = start_ticks(proc, facts.tgid)
    if ticks is None or not is_same(facts.started, ticks, _suspended_ns()):
        return None
    place = proc / str(facts.tgid)
    try:
        line = (place / "cmdline").read_bytes()
        cgroups = (place / "cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return None
    try:
        executable = str((place / "exe").readlink())
        changed = (place / "exe").stat().st_mtime
    except OSError:  # of another user's process, without the privilege
        executable, changed = "", 0.0
    if not line and not executable:  # it has ended, and nobody has waited for it yet
        return None
    if start_ticks(proc, facts.tgid) != ticks:  # it ended while we read
        return None
    within = tuple(_hierarchy(each) for each in cgroups)
    if not _agree(facts.cgroup_name, within):
        return None
    executable = executable.removesuffix(" (deleted)")
    arguments = _split(line)
    name = executable.rpartition("/")[2].encode()[:NAME_BYTES].decode(errors="replace")
    if executable and facts.executable and name != facts.executable:
        executable, changed, arguments = "", 0.0, facts.arguments
    elif arguments[: len(facts.arguments)] != facts.arguments:
        arguments = facts.arguments
    return Process(executable, changed, arguments, within)


def _split(line: bytes) -> tuple[str, ...]:
    if not line:
        return ()
    return tuple(each.decode(errors="replace") for each in line.rstrip(b"\0").split(b"\0"))


def _hierarchy(line: str) -> tuple[str, str]:
    _, controllers, path = line.split(":", 2)
    return controllers, path


def _agree(name: str, cgroups: Sequence[tuple[str, str]]) -> bool:
    """Return whether a process that was in a cgroup of this name may be in these now."""
    unified = next((path for controllers, path in cgroups if not controllers), "")
    last = unified.rpartition("/")[2]
    cut = len(name.encode()) >= CGROUP_BYTES
    return not name or not unified or last == name or (cut and last.startswith(name))


def facts_of(proc: Path, tgid: int) -> Facts | None:
    """Return the facts of a living process of which only the id is known; None if it is gone."""
    ticks = start_ticks(proc, tgid)
    try:
        command = (proc / str(tgid) / "comm").read_text(errors="replace").rstrip("\n")
        executable = (proc / str(tgid) / "exe").readlink().name.removesuffix(" (deleted)")
    except OSError:
        return None
    if ticks is None:
        return None
    return Facts(tgid, ticks * _TICK_NS // _UNIT_NS, command, executable)
