"""Kprobes through perf events: no file to write, and nothing stays behind when we are killed.

The layout is that of `struct perf_event_attr` (include/uapi/linux/perf_event.h).
"""

from __future__ import annotations

import ctypes as ct
import fcntl
import struct
from pathlib import Path
from typing import Final

from probes import syscalls
from probes.errors import ProbeError

DEVICE: Final = Path("/sys/bus/event_source/devices/kprobe")

_ATTR_BYTES: Final = 112  # PERF_ATTR_SIZE_VER5, known to every kernel with eBPF
_SET_BPF: Final = 0x40042408
_ENABLE: Final = 0x2400


def open_kprobe(function: str, *, at_return: bool = False) -> int:
    """Open a perf event for a kprobe; it does nothing until a program is attached and enabled.

    Args:
        function: name of a kernel function.
        at_return: fire when the function returns.

    Raises:
        ProbeError: this kernel has no kprobes.
        OSError: ENOENT: no such function; others as of perf_event_open(2).
    """
    try:
        kind = int((DEVICE / "type").read_text())
        bit = (DEVICE / "format" / "retprobe").read_text()  # "config:0"
        flag = 1 << int(bit.strip().removeprefix("config:"))
    except (OSError, ValueError) as error:
        raise ProbeError("this kernel has no kprobes") from error
    name = ct.create_string_buffer(function.encode())
    attr = ct.create_string_buffer(_ATTR_BYTES)
    struct.pack_into("<IIQ", attr, 0, kind, len(attr), flag if at_return else 0)
    struct.pack_into("<QQ", attr, 56, ct.addressof(name), 0)  # kprobe_func, probe_offset
    return syscalls.open_perf_event(attr)


def set_program(event: int, program: int) -> None:
    """Attach a program to a perf event without a link, for kernels before 5.15.

    Raises:
        OSError: as of ioctl(2).
    """
    fcntl.ioctl(event, _SET_BPF, program)


def enable(event: int) -> None:
    """Let a perf event fire.

    Raises:
        OSError: as of ioctl(2).
    """
    fcntl.ioctl(event, _ENABLE, 0)
