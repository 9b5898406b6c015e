"""A loaded program attached to its target; to let go of it is to close it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from probes import kprobes, syscalls
from probes.errors import ProbeError
from probes.hooks import Target

CGROUP_POINTS: Final[Mapping[str, tuple[int, int]]] = {
    "skb_ingress": (syscalls.PROG_CGROUP_SKB, 0),
    "skb_egress": (syscalls.PROG_CGROUP_SKB, 1),
    "sock_create": (syscalls.PROG_CGROUP_SOCK, 2),
    "sock_ops": (syscalls.PROG_SOCK_OPS, 3),
    "bind4": (syscalls.PROG_CGROUP_SOCK_ADDR, 8),
    "bind6": (syscalls.PROG_CGROUP_SOCK_ADDR, 9),
    "connect4": (syscalls.PROG_CGROUP_SOCK_ADDR, 10),
    "connect6": (syscalls.PROG_CGROUP_SOCK_ADDR, 11),
    "post_bind4": (syscalls.PROG_CGROUP_SOCK, 12),
    "post_bind6": (syscalls.PROG_CGROUP_SOCK, 13),
    "sendmsg4": (syscalls.PROG_CGROUP_SOCK_ADDR, 14),
    "sendmsg6": (syscalls.PROG_CGROUP_SOCK_ADDR, 15),
    "recvmsg4": (syscalls.PROG_CGROUP_SOCK_ADDR, 19),
    "recvmsg6": (syscalls.PROG_CGROUP_SOCK_ADDR, 20),
    "getpeername4": (syscalls.PROG_CGROUP_SOCK_ADDR, 29),
    "getpeername6": (syscalls.PROG_CGROUP_SOCK_ADDR, 30),
    "sock_release": (syscalls.PROG_CGROUP_SOCK, 34),
}
"""Name: (program type, attach type), enum bpf_attach_type."""

MOUNTS: Final = Path("/proc/self/mountinfo")

_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def cgroup_root(mounts: Path = MOUNTS) -> Path:
    """Return where the root of the cgroup2 hierarchy is mounted.

    Args:
        mounts: a file as /proc/self/mountinfo (proc(5)).

    Raises:
        ProbeError: it is mounted nowhere, or only some part of it is.
    """
    part = ""
    for line in mounts.read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split(" ", 1)[0] != "cgroup2":
            continue
        root, where = fields.split(" ")[3:5]
        where = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), where)
        if root == "/":
            return Path(where)
        part = where
    if part:
        raise ProbeError(f"only a part of the cgroup2 hierarchy is mounted here, at {part}")
    raise ProbeError("the cgroup2 hierarchy is not mounted")


class Link:
    """One attachment.

    Attributes:
        target: where.
    """

    def __init__(self, target: Target, descriptors: tuple[int, ...], *, link: int | None) -> None:
        """Take over `descriptors`; `link` is the one that counts what a kprobe missed."""
        self.target = target
        self._descriptors = descriptors
        self._link = link

    @property
    def descriptor(self) -> int:
        """The link's own descriptor."""
        return self._descriptors[0]

    def missed(self) -> int:
        """Return how often a kprobe was skipped; 0 where the kernel does not tell (before 6.7)."""
        return 0 if self._link is None else syscalls.link_missed(self._link)

    def close(self) -> None:
        """Detach."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = ()
        self._link = None


def attach(target: Target, program: int, maps: Mapping[str, int]) -> Link:
    """Attach a loaded program.

    Args:
        target: where.
        program: the program's descriptor.
        maps: descriptors by name, for an iterator over a map.

    Raises:
        ProbeError: the kernel refused, in a few words.
    """
    try:
        return _attach(target, program, maps)
    except OSError as error:
        raise ProbeError(_why(target, error)) from error


def _attach(target: Target, program: int, maps: Mapping[str, int]) -> Link:
    if target.kind in ("kprobe", "kretprobe"):
        return _attach_kprobe(target, program)
    if target.kind == "raw_tracepoint":
        descriptor = syscalls.open_raw_tracepoint(program, target.where)
    elif target.kind == "cgroup":
        cgroup = os.open(cgroup_root(), os.O_RDONLY | os.O_DIRECTORY)
        try:
            descriptor = syscalls.create_link(program, cgroup, CGROUP_POINTS[target.where][1])
        finally:
            os.close(cgroup)
    elif target.kind == "iter":
        _, _, name = target.where.partition(":")
        if name and name not in maps:
            raise ProbeError(f"no map {name} to iterate over")
        descriptor = syscalls.create_link(
            program, 0, syscalls.ATTACH_TRACE_ITER, iterated_map=maps[name] if name else None
        )
    else:
        descriptor = syscalls.open_raw_tracepoint(program, None)
    return Link(target, (descriptor,), link=None)


def _attach_kprobe(target: Target, program: int) -> Link:
    event = kprobes.open_kprobe(target.where, at_return=target.kind == "kretprobe")
    link: int | None = None
    try:
        try:
            link = syscalls.create_link(program, event, syscalls.ATTACH_PERF_EVENT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            kprobes.set_program(event, program)  # before 5.15 perf events had no links
        kprobes.enable(event)
    except BaseException:
        if link is not None:
            os.close(link)
        os.close(event)
        raise
    return Link(target, (event,) if link is None else (link, event), link=link)


def _why(target: Target, error: OSError) -> str:
    if error.errno == errno.ENOENT and target.kind == "raw_tracepoint":
        return f"this kernel has no tracepoint {target.where}"
    if error.errno == errno.EINVAL and target.kind == "raw_tracepoint":
        return f"the tracepoint {target.where} has fewer arguments than {target.function} reads"
    if error.errno == errno.ENOENT and target.kind in ("kprobe", "kretprobe"):
        return f"this kernel has no function {target.where}"
    return f"{target} does not attach: {error.strerror}"


def run_iterator(link: Link) -> bytes:
    """Run an iterator to its end, and return what it wrote.

    Raises:
        ProbeError: it does not start, or breaks off.
    """
    written: list[bytes] = []
    try:
        walk = syscalls.create_iterator(link.descriptor)
    except OSError as error:
        raise ProbeError(f"{link.target} does not start: {error.strerror}") from error
    try:
        while True:
            try:
                part = os.read(walk, 65536)
            except BlockingIOError:
                # EAGAIN: a million objects and nothing written; the next read goes on from there
                # (kernel/bpf/bpf_iter.c, MAX_ITER_OBJECTS)
                continue
            if not part:
                return b"".join(written)
            written.append(part)
    except OSError as error:
        raise ProbeError(f"{link.target} broke off: {error.strerror}") from error
    finally:
        os.close(walk)
