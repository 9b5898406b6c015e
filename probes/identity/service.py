"""A service, and what is known of the process by which it was met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

Resolution = Literal[
    "rule", "kubernetes", "compose", "container", "container id", "machine", "unit", "user unit",
    "script", "program", "dns", "reverse dns", "external", "kubernetes service",
    "kubernetes node", "address", "path", "unknown",
]  # fmt: skip
"""How a name was found, the surest first."""

RESOLUTIONS: Final[tuple[str, ...]] = get_args(Resolution)

CUT_OFF: Final = 127
"""Bytes of a command line that the kernel side keeps; struct details, bpf/records.h."""

CGROUP_BYTES: Final = 95
"""Bytes of the last part of a cgroup's path that the kernel side keeps."""

NAME_BYTES: Final = 31
"""Bytes of a file's name that the kernel side keeps; struct owner, bpf/records.h."""


@dataclass(frozen=True, slots=True)
class Service:
    """Who takes part in a connection.

    Attributes:
        name: what it is called everywhere.
        resolution: how that is known.
        namespace: the Kubernetes namespace or Compose project it belongs to; "" if none.
        version: what runs: the image's reference, or the path and time of change of the script or
            else the executable.
    """

    name: str
    resolution: Resolution
    namespace: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the kernel said of a process when it was first met; it may be gone by now.

    Attributes:
        tgid: its process id.
        started: since boot, in units of 2**20 ns of the monotonic clock.
        command: name of the thread group leader, at most 15 characters.
        executable: name of the file that it runs, at most 31; "" for a kernel thread.
        cgroup: id in the unified hierarchy; 0 if unknown.
        cgroup_name: last part of that cgroup's path; "" if unknown.
        arguments: of its command line, those that are known whole.
    """

    tgid: int
    started: int
    command: str
    executable: str
    cgroup: int = 0
    cgroup_name: str = ""
    arguments: tuple[str, ...] = ()


def facts(owner: Any, details: Any = None) -> Facts:
    """Return the facts in records of the kernel side.

    Args:
        owner: layout.OWNER.
        details: layout.DETAILS of a group; None for a listener, which has none.
    """
    more: tuple[str, tuple[str, ...]] = ("", ())
    if details is not None:
        line, length = bytes(details["arguments"]), int(details["arguments_length"])
        more = _text(details["cgroup"]), _arguments(line[:length], whole=length <= CUT_OFF)
    return Facts(
        int(owner["tgid"]),
        int(owner["started"]),
        _text(owner["command"]),
        _text(owner["executable"]),
        int(owner["cgroup"]),
        *more,
    )


def _arguments(line: bytes, *, whole: bool) -> tuple[str, ...]:
    """Split a command line at its NULs; what is behind the last may be cut off."""
    *arguments, rest = line.split(b"\0")
    if whole and rest:  # a process may overwrite its own title, without a NUL
        arguments.append(rest)
    return tuple(each.decode(errors="replace") for each in arguments)


def _text(name: Any) -> str:
    return bytes(name).decode(errors="replace")


def program_name(facts: Facts) -> str:
    """Return what a process is called: its command, in full where the kernel has cut it.

    The command is the name it was started by: redis-server, though Debian's file is
    redis-check-rdb; wget, though it is busybox; a script's own name.
    """
    if not facts.executable:
        return "kernel"  # kworkers carry traffic of NFS and others, each time another of them
    cut = len(facts.command) == 15 and facts.executable.startswith(facts.command)
    return facts.executable if cut else facts.command
