"""Cgroups of our own, in the real hierarchies of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.traffic import wait_for


def unified() -> Path | None:
    """Return where cgroups of version 2 are mounted; None if nowhere."""
    return next((place for place, kind, _ in _mounts() if kind == "cgroup2"), None)


def named() -> Path | None:
    """Return where systemd's own hierarchy of version 1 is mounted; None if nowhere."""
    options = (each for each in _mounts() if "name=systemd" in each[2].split(","))
    return next((place for place, _, _ in options), None)


def with_memory() -> Path | None:
    """Return a hierarchy in which cgroups below the root limit memory; None if there is none."""
    for place, kind, options in _mounts():
        if kind == "cgroup" and "memory" in options.split(","):
            return place
        if kind == "cgroup2":
            given = (place / "cgroup.subtree_control").read_text()
            if "memory" in given.split():
                return place
    return None


def limit_memory(directory: Path, limit: int) -> None:
    """Let who is in a cgroup have so many bytes of memory, and no swap."""
    unified = directory / "memory.max"
    if unified.exists():
        unified.write_text(str(limit))
        with contextlib.suppress(FileNotFoundError):
            (directory / "memory.swap.max").write_text("0")
    else:
        (directory / "memory.limit_in_bytes").write_text(str(limit))


def _mounts() -> Iterator[tuple[Path, str, str]]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind.startswith("cgroup"):
            yield Path(place), kind, options


@contextmanager
def cgroup(root: Path, path: str) -> Iterator[Path]:
    """Make a cgroup, and what is missing above it; remove what was made, once nobody is in it.

    Args:
        root: of the hierarchy.
        path: below it, e.g. "system.slice/web.service".
    """
    made = []
    try:
        at = root
        for part in path.split("/"):
            at /= part
            with contextlib.suppress(FileExistsError):
                at.mkdir()
                made.append(at)
        yield at
    finally:
        for each in reversed(made):
            wait_for(lambda each=each: _removed(each), what=f"{each} is empty")  # type: ignore[misc]


def _removed(directory: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        try:
            directory.rmdir()
        except OSError:
            return False
    return True


def enter(directory: Path) -> None:
    """Move this process there; for a child, before it executes anything."""
    (directory / "cgroup.procs").write_text("0")
