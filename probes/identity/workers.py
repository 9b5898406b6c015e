"""The workers of a server: those of its children who serve with it, replaced when it reloads.

nginx, gunicorn, haproxy and their like keep one process and replace its children when they take up
another configuration. No kernel tells of it, so the children are looked at every few seconds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from probes.identity import processes
from probes.identity.ends import is_crash

_SETTLED_S: Final = 5.0
"""A child that is younger may be there for a connection."""
_TOGETHER_S: Final = 15.0
"""Those of one replacement come and go within so long."""
_MOST: Final = 256
_STDIO: Final = 2
_LEAVING: Final = b"is shutting down"  # an nginx worker with connections that are still open


class Replaced(NamedTuple):
    """Workers that were replaced.

    Attributes:
        at: when, epoch seconds.
        number: how many.
        how: how they ended, as of `probes.identity.ends.Ended`; "" if that is not known.
        on_purpose: whether it was a reload, and not that they crashed.
    """

    at: float
    number: int
    how: str
    on_purpose: bool


class _Child(NamedTuple):
    pid: int
    started: float


class Workers:
    """The children of one process."""

    def __init__(self, proc: Path, pid: int) -> None:
        """Look at them for the first time.

        Args:
            proc: where procfs is.
            pid: whose children.
        """
        self._proc, self._pid = proc, pid
        self._came: dict[int, _Child] = {}
        self._went: dict[int, tuple[_Child, float]] = {}  # and when that was noticed
        self._how: dict[int, str] = {}
        self._known = self._children({})

    @property
    def pids(self) -> list[int]:
        """Their ids."""
        return list(self._known)

    def ended(self, pid: int, how: str) -> None:
        """Take note of how one has ended."""
        if len(self._how) < _MOST:
            self._how[pid] = how

    def look(self, now: float) -> Replaced | None:
        """Return what was replaced since, if it was all of them or nearly so.

        Args:
            now: epoch seconds.
        """
        before, self._known = self._known, self._children(self._known)
        if before.keys() == self._known.keys() and not (self._came or self._went):
            return None
        for pid in self._known.keys() - before.keys():
            self._came[pid] = self._known[pid]
        for pid in before.keys() - self._known.keys():
            self._came.pop(pid, None)
            if now - before[pid].started >= _SETTLED_S:
                self._went[pid] = before[pid], now
        replaced = self._replaced()
        self._came = {p: c for p, c in self._came.items() if now - c.started < _TOGETHER_S}
        self._went = {p: w for p, w in self._went.items() if now - w[1] < _TOGETHER_S}
        if replaced is not None:
            self._came, self._went = {}, {}
        if not self._went:
            self._how.clear()
        return replaced

    def _replaced(self) -> Replaced | None:
        if not self._came:
            return None
        at = min(child.started for child in self._came.values())
        old = [c for c in self._known.values() if c.pid not in self._came and c.started < at]
        leaving = [child for child in old if _LEAVING in _line(self._proc, child.pid)]
        number = len(self._went) + len(leaving)
        if not number or len(self._came) < number or len(old) - len(leaving) > number // 2:
            return None
        if not any(self._serves_with_us(pid) for pid in self._came):
            return None
        hows = [self._how.get(pid, "") for pid in self._went]
        crash = next((how for how in hows if is_crash(how)), "")
        # the one that it had may as well have fallen over: only its end could tell
        unsure = number == 1 and not leaving and not any(hows)
        if crash or unsure:
            at = min(at, *(noticed for _, noticed in self._went.values()))
        return Replaced(at, number, crash or next(iter(hows), ""), not (crash or unsure))

    def _serves_with_us(self, pid: int) -> bool:
        """Whether a child has a socket of its parent's: where it accepts connections.

        A child that is there for a connection, as sshd's or PostgreSQL's, has closed those.
        """
        return bool(_sockets(self._proc, pid) & _sockets(self._proc, self._pid))

    def _children(self, known: dict[int, _Child]) -> dict[int, _Child]:
        found: dict[int, _Child] = {}
        path = f"{self._proc}/{self._pid}/task/{self._pid}/children"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it is gone, or this kernel does not tell
            return found
        try:
            text = os.read(descriptor, 16 * _MOST)
        except OSError:
            return found
        finally:
            os.close(descriptor)
        for pid in [int(word) for word in text.split()[:_MOST] if word.isdigit()]:
            if pid in known:
                found[pid] = known[pid]
            elif (ticks := processes.start_ticks(self._proc, pid)) is not None:
                found[pid] = _Child(pid, processes.started_at(ticks))
        return found


def _sockets(proc: Path, pid: int) -> set[str]:
    """Return the sockets that a process has open; not those that everybody inherits."""
    found: set[str] = set()
    try:
        files = sorted((proc / str(pid) / "fd").iterdir(), key=lambda file: int(file.name))
    except OSError:
        return found
    for file in files[:_MOST]:
        try:
            link = str(file.readlink())
        except OSError:
            continue
        if int(file.name) > _STDIO and link.startswith("socket:"):
            found.add(link)
    return found


def _line(proc: Path, pid: int) -> bytes:
    try:
        return (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""
