"""What procfs says of a process, if it is still the one that is meant (proc(5))."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from probes.identity.service import Facts

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_UNIT_NS = 1 << 20
_SLACK_NS = 2 * _TICK_NS + _UNIT_NS  # both were rounded down


@dataclass(frozen=True, slots=True)
class Process:
    """A living process.

    Attributes:
        executable: path of the file it runs, as it sees it; "" if we may not know.
        changed: when that file was last changed, epoch seconds; 0.0 if we may not know.
        arguments: of its command line.
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
    try:
        text = (proc / str(tgid) / "stat").read_text(errors="replace")
        return int(text.rpartition(")")[2].split()[19])  # field 22
    except (OSError, IndexError, ValueError):
        return None


def is_same(started: int, ticks: int, suspended_ns: int) -> bool:
    """Return whether a start that the kernel side told can be the one that procfs tells.

    Args:
        started: units of 2**20 ns of the monotonic clock, which stands still while suspended.
        ticks: as of `start_ticks`.
        suspended_ns: how long the machine has been suspended since boot.
    """
    behind = ticks * _TICK_NS - started * _UNIT_NS
    return -_SLACK_NS <= behind <= suspended_ns + _SLACK_NS


def read(proc: Path, facts: Facts) -> Process | None:
    """Return what procfs says of the process; None when that is gone, or its id another's now."""
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
    arguments = [each.decode(errors="replace") for each in line.rstrip(b"\0").split(b"\0")]
    return Process(
        executable.removesuffix(" (deleted)"),
        changed,
        tuple(arguments) if line else (),
        tuple(_hierarchy(each) for each in cgroups),
    )


def _hierarchy(line: str) -> tuple[str, str]:
    _, controllers, path = line.split(":", 2)
    return controllers, path


def facts_of(proc: Path, tgid: int) -> Facts | None:
    """Return the facts of a living process of which only the id is known; None if it is gone."""
    ticks = start_ticks(proc, tgid)
    try:
        command = (proc / str(tgid) / "comm").read_text(errors="replace").rstrip("\n")
        executable = (proc / str(tgid) / "exe").readlink().name
    except OSError:
        return None
    if ticks is None:
        return None
    return Facts(tgid, ticks * _TICK_NS // _UNIT_NS, command, executable)
