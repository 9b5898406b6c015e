"""Network namespaces by their names."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from probes.errors import ProbeError

_NAMED: Final = Path("/run/netns")
"""Where ip-netns(8) keeps them."""
_NS_GET_NSTYPE: Final = 0xB703  # ioctl_ns(2)
_CLONE_NEWNET: Final = 0x40000000


def inode_of(name: str) -> int:
    """Return the number by which the kernel knows a network namespace.

    Args:
        name: as `ip netns` shows it, or a path such as /proc/123/ns/net.

    Raises:
        ProbeError: there is none.
    """
    path = _NAMED / name
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ProbeError(
            f"network namespace {name}: cannot open {path}: {error.strerror}. "
            "`ip netns` lists the names; a path like /proc/PID/ns/net is as good."
        ) from error
    try:
        kind = fcntl.ioctl(handle, _NS_GET_NSTYPE)
        number = os.fstat(handle).st_ino
    except OSError:
        kind = number = 0
    finally:
        os.close(handle)
    if kind != _CLONE_NEWNET:
        raise ProbeError(f"{path} is not a network namespace. `ip netns` lists those with a name.")
    return number


def own() -> int:
    """Return the number of the network namespace of this process."""
    return Path("/proc/self/ns/net").stat().st_ino
