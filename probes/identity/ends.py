"""When watched processes end, and how: by descriptors of them (pidfd_open(2)), without polling."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import struct
from collections.abc import Hashable
from typing import Final, NamedTuple

_INFO: Final = struct.Struct("QQ11Ii")  # struct pidfd_info, its first version
_GET_INFO: Final = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11  # PIDFD_GET_INFO
_EXIT: Final = 1 << 3  # PIDFD_INFO_EXIT, from Linux 6.15
_PATIENCE_S: Final = 2.0
"""How long a process that has ended may wait for its parent, who frees what is known of its end."""
_MOST: Final = 4_000


class Ended(NamedTuple):
    """A process that has ended.

    Attributes:
        who: as of `Ends.watch`.
        at: when that was noticed, epoch seconds.
        how: "killed by SIGKILL", "exit code 1", "exit code 0"; "" if that is not known.
    """

    who: Hashable
    at: float
    how: str


def is_crash(how: str) -> bool:
    """Return whether a way to end is known to be none that was asked for."""
    return bool(how) and how not in _ASKED_FOR


_ASKED_FOR: Final = ("exit code 0", *(f"killed by SIG{n}" for n in ("TERM", "INT", "QUIT", "HUP")))


class Ends:
    """Watches processes until they end; `close` it.

    Attributes:
        most: no more are watched, half of the descriptors that this process may have.
        refused: how many could not be watched, as there are too many.
    """

    def __init__(self) -> None:
        """Watch none."""
        self.most = min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._epoll = select.epoll()
        self._descriptors: dict[Hashable, int] = {}
        self._who: dict[int, Hashable] = {}
        self._noticed: dict[int, float] = {}
        self.refused = 0

    def watch(self, who: Hashable, pid: int) -> bool:
        """Begin to watch a process; return whether it lives and there is room.

        Whoever asks must look afterwards whether the process is still the one that is meant.

        Args:
            who: by what to call it; nobody else who is watched is called so.
            pid: its id.
        """
        if who in self._descriptors:
            return True
        if len(self._descriptors) >= self.most:
            self.refused += 1
            return False
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # it is gone, or there are no descriptors left
            return False
        self._epoll.register(descriptor, select.EPOLLIN)
        self._descriptors[who], self._who[descriptor] = descriptor, who
        return True

    def forget(self, who: Hashable) -> None:
        """Watch it no more."""
        descriptor = self._descriptors.pop(who, None)
        if descriptor is not None:
            del self._who[descriptor]
            self._noticed.pop(descriptor, None)
            os.close(descriptor)  # which takes it off the epoll too

    def ended(self, now: float) -> list[Ended]:
        """Return who has ended since the last call, and is watched no more.

        Args:
            now: epoch seconds.
        """
        found = []
        for descriptor, _ in self._epoll.poll(0):
            since = self._noticed.setdefault(descriptor, now)
            how = _how(descriptor)
            if how is None and now - since < _PATIENCE_S:
                continue  # nobody has waited for it yet
            who = self._who[descriptor]
            self.forget(who)
            found.append(Ended(who, since, how or ""))
        return found

    def __len__(self) -> int:
        return len(self._descriptors)

    def close(self) -> None:
        """Watch none any more."""
        for who in list(self._descriptors):
            self.forget(who)
        self._epoll.close()


def _how(descriptor: int) -> str | None:
    """Return how a process has ended; "" if this kernel does not tell, None if it may yet."""
    info = bytearray(_INFO.pack(_EXIT, *[0] * (len(_INFO.unpack(bytes(_INFO.size))) - 1)))
    try:
        fcntl.ioctl(descriptor, _GET_INFO, info)
    except OSError:
        return ""
    told, *_, status = _INFO.unpack(info)
    if not told & _EXIT:
        return None
    if not os.WIFSIGNALED(status):
        return f"exit code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"
