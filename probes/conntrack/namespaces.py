"""The network namespaces of this host, and a look into each."""

from __future__ import annotations

import contextlib
import ctypes as ct
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from probes.conntrack import wire

_CLONE_NEWNET: Final = 0x40000000
_SO_ATTACH_FILTER: Final = 26
_ADDRESS_GROUPS: Final = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_OWN: Final = Path("/proc/thread-self/ns/net")
MOUNTS: Final = Path("/proc/self/mountinfo")

_libc: Final = ct.CDLL(None, use_errno=True)


def namespaces(*, processes: bool) -> dict[int, Path]:
    """Return {inode: a file that stands for it} of the namespaces that can be found.

    Args:
        processes: look at every process; else only at what is mounted, as container engines and
            ip-netns(8) do.
    """
    found = {_OWN.stat().st_ino: _OWN}
    with contextlib.suppress(OSError):
        for line in MOUNTS.read_text(errors="replace").splitlines():
            fields = line.split(" ", 5)
            if fields[3].startswith("net:["):
                path = fields[4].encode("latin-1", "replace").decode("unicode_escape")
                found.setdefault(int(fields[3][5:-1]), Path(path))
    if processes:
        for name in os.listdir("/proc"):  # noqa: PTH208 - thousands of them
            if name.isdigit():
                with contextlib.suppress(OSError):
                    path = f"/proc/{name}/ns/net"
                    found.setdefault(int(os.readlink(path)[5:-1]), Path(path))  # noqa: PTH115
    return found


def is_still(inode: int, path: Path) -> bool:
    """Return whether a file still stands for a namespace."""
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


@contextlib.contextmanager
def inside(inode: int, path: Path) -> Iterator[None]:
    """Take this thread into a namespace; it must be one that nobody else uses.

    Raises:
        OSError: it is gone, or this is not permitted.
    """
    if _OWN.stat().st_ino == inode:
        yield
        return
    with _OWN.open() as home, path.open() as there:
        _enter(there.fileno())
        try:
            if _OWN.stat().st_ino != inode:
                raise FileNotFoundError(2, "the network namespace is gone")
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        code = ct.get_errno()
        raise OSError(code, os.strerror(code))


class Namespace:
    """Sockets in one namespace, from which its translations and addresses are heard.

    Attributes:
        inode: its number.
        path: a file that stands for it.
        events: tells of translated connections that begin and end.
        links: tells of its addresses, and that they have changed.
        empty: whether its conntrack held nothing at first.
        silent: whether its conntrack is told to say nothing (nf_conntrack_events is 0).
    """

    def __init__(self, inode: int, path: Path, receive_bytes: int) -> None:
        """Open the sockets. For a thread that may change its namespace.

        Args:
            inode: the namespace.
            path: a file that stands for it.
            receive_bytes: room for events that wait.

        Raises:
            OSError: not permitted, no ctnetlink, or the namespace is gone.
        """
        self.inode, self.path = inode, path
        with contextlib.ExitStack() as opened, inside(inode, path):
            self.events = opened.enter_context(_socket(wire.NETLINK_NETFILTER))
            self.links = opened.enter_context(_socket(socket.NETLINK_ROUTE))
            self._listen(receive_bytes)
            self.links.bind((0, _ADDRESS_GROUPS))
            # after it listens: whatever comes from now on is told
            self.empty = _setting("count") == "0"
            self.silent = _setting("events") == "0"
            opened.pop_all()

    def _listen(self, receive_bytes: int) -> None:
        program = wire.event_filter()
        room = ct.create_string_buffer(program, len(program))
        attached = struct.pack("HP", len(program) // 8, ct.addressof(room))
        self.events.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
        try:
            self.events.setsockopt(socket.SOL_SOCKET, wire.SO_RCVBUFFORCE, receive_bytes)
        except PermissionError:
            self.events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.events.bind((0, 0))
        for group in (wire.GROUP_NEW, wire.GROUP_DESTROY):
            self.events.setsockopt(wire.SOL_NETLINK, wire.ADD_MEMBERSHIP, group)

    def addresses(self) -> set[bytes]:
        """Ask for its addresses, of 16 bytes each; what `links` had to say is read as well.

        Raises:
            OSError: it does not say.
        """
        with contextlib.suppress(BlockingIOError):
            while self.links.recv(1 << 16):
                pass
        found: set[bytes] = set()
        self.links.send(wire.addresses_request())
        with contextlib.suppress(wire.StopDump, BlockingIOError):
            while True:
                found.update(wire.addresses(self.links.recv(1 << 16)))
        return found

    def dump_socket(self) -> socket.socket:
        """Return a new socket in it, to ask for all that there is.

        Raises:
            OSError: the namespace is gone.
        """
        with inside(self.inode, self.path):
            return _socket(wire.NETLINK_NETFILTER)

    def close(self) -> None:
        """Let go of the namespace: the sockets keep it alive."""
        self.events.close()
        self.links.close()


def _socket(family: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_NETLINK, kind, family)


def _setting(name: str) -> str:
    """Return one of this thread's namespace; "" if it cannot be read."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/sys/net/netfilter/nf_conntrack_{name}").read_text().strip()
    return ""


def tracked() -> bool:
    """Return whether this kernel tracks connections at all: nf_conntrack is there."""
    return Path("/proc/sys/net/netfilter/nf_conntrack_max").exists()
