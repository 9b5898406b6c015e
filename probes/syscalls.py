"""The calls to the kernel that the probes make of themselves: bpf(2) and perf_event_open(2).

Nothing here needs libbcc or libbpf, so the daemon runs without LLVM. The layout is that of
`union bpf_attr` (include/uapi/linux/bpf.h); it only ever grows, and the kernel takes a shorter
one as if the rest were zero.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import platform
import struct
from dataclasses import dataclass
from typing import Final

from probes.errors import ProbeError

PROG_KPROBE: Final = 2
PROG_CGROUP_SKB: Final = 8
PROG_CGROUP_SOCK: Final = 9
PROG_SOCK_OPS: Final = 13
PROG_RAW_TRACEPOINT: Final = 17
PROG_CGROUP_SOCK_ADDR: Final = 18
PROG_TRACING: Final = 26

ATTACH_TRACE_RAW_TP: Final = 23
ATTACH_TRACE_FENTRY: Final = 24
ATTACH_TRACE_FEXIT: Final = 25
ATTACH_TRACE_ITER: Final = 28
ATTACH_PERF_EVENT: Final = 41

_PROG_LOAD: Final = 5
_OBJECT_INFO: Final = 15
_RAW_TRACEPOINT_OPEN: Final = 17
_LINK_CREATE: Final = 28
_ENABLE_STATS: Final = 32
_ITER_CREATE: Final = 33

_NUMBERS: Final = {"x86_64": (321, 298), "aarch64": (280, 241)}
"""Machine: (bpf, perf_event_open); arch/x86/entry/syscalls/syscall_64.tbl, asm-generic/unistd.h."""

_LOG_BYTES: Final = 1 << 20
_LOAD_TRIES: Final = 5
_PERF_CLOSE_ON_EXEC: Final = 8

_libc = ct.CDLL(None, use_errno=True)
_libc.syscall.restype = ct.c_long


class LoadError(OSError):
    """The kernel refused a program.

    Attributes:
        log: what the verifier said; "" when it was not asked, as for a lack of privileges.
    """

    def __init__(self, number: int, log: str) -> None:
        super().__init__(number, os.strerror(number))
        self.log = log


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """What the kernel tells of a loaded program (struct bpf_prog_info).

    Attributes:
        instructions: instructions the verifier walked; 0 on kernels before 5.16.
        run_time_ns: time spent in it while statistics were on, since it was loaded.
        run_count: how often it ran while statistics were on.
        recursion_misses: how often it was skipped, one being at work on that CPU already; 0 on
            kernels before 5.12, which do not count.
    """

    instructions: int
    run_time_ns: int
    run_count: int
    recursion_misses: int


def _numbers() -> tuple[int, int]:
    machine = platform.machine()
    try:
        return _NUMBERS[machine]
    except KeyError:
        raise ProbeError(
            f"Tailrace does not know the system calls of this machine ({machine}). "
            f"It runs on {' and '.join(_NUMBERS)}."
        ) from None


def _checked(result: int) -> int:
    if result < 0:
        number = ct.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def bpf(command: int, attr: ct.Array[ct.c_char]) -> int:
    """Call the kernel (bpf(2)) and return what it says; an error is raised as OSError."""
    number = ct.c_long(_numbers()[0])
    return _checked(int(_libc.syscall(number, command, attr, ct.c_uint(len(attr)))))


def packed(layout: str, *values: int | bytes) -> ct.Array[ct.c_char]:
    """Return a part of `union bpf_attr`, as struct.pack makes it."""
    data = struct.pack(layout, *values)
    return ct.create_string_buffer(data, len(data))


def address_of(buffer: ct.Array[ct.c_char] | None) -> int:
    """Return where a buffer is; 0 for none."""
    return 0 if buffer is None else ct.addressof(buffer)


def load_program(
    program_type: int,
    code: bytes,
    *,
    name: str,
    license_name: bytes = b"GPL",
    attach_type: int = 0,
    attach_btf_id: int = 0,
) -> int:
    """Load a program and return its descriptor.

    Args:
        program_type: PROG_*.
        code: the instructions, 8 bytes each, with the descriptors of their maps in place.
        name: for the kernel's own lists; cut to 15 bytes.
        license_name: the source's licence.
        attach_type: ATTACH_*, for the types that want to know it here.
        attach_btf_id: id in the kernel's BTF of what a tracing program attaches to.

    Raises:
        LoadError: the kernel refused; with the verifier's log.
    """
    instructions = ct.create_string_buffer(code, len(code))
    licensed = ct.create_string_buffer(license_name)
    short = "".join(c if c.isalnum() or c in "_." else "_" for c in name)[:15].encode()

    def attempt(log: ct.Array[ct.c_char] | None) -> int:
        attr = packed(
            "<IIQQIIQII16sIIIIQIIQII",
            program_type,
            len(code) // 8,
            ct.addressof(instructions),
            ct.addressof(licensed),
            0 if log is None else 1,
            0 if log is None else len(log),
            address_of(log),
            0,
            0,
            short,
            0,
            attach_type,
            *(0,) * 7,
            attach_btf_id,
        )
        for _ in range(_LOAD_TRIES - 1):
            try:
                return bpf(_PROG_LOAD, attr)
            except BlockingIOError:  # EAGAIN: a signal came while the verifier was at work
                continue
        return bpf(_PROG_LOAD, attr)

    try:
        return attempt(None)
    except OSError as error:
        number = error.errno or 0
    if number == errno.EPERM:
        raise LoadError(number, "")
    # The log makes verification slower, hence only now
    log = ct.create_string_buffer(_LOG_BYTES)
    try:
        return attempt(log)
    except OSError as error:
        # ENOSPC is the log's own trouble, not the program's
        number = number if error.errno == errno.ENOSPC else error.errno or number
        raise LoadError(number, log.value.decode(errors="replace")) from None


def open_raw_tracepoint(program: int, name: str | None) -> int:
    """Attach a raw tracepoint or (without a name) a tp_btf, fentry or fexit program.

    Returns:
        The link's descriptor; closing it detaches.

    Raises:
        OSError: ENOENT: no such tracepoint; others as of bpf(2).
    """
    text = None if name is None else ct.create_string_buffer(name.encode())
    return bpf(_RAW_TRACEPOINT_OPEN, packed("<QII", address_of(text), program, 0))


def create_link(
    program: int, target: int, attach_type: int, *, iterated_map: int | None = None
) -> int:
    """Attach a program to what the descriptor `target` stands for, and return the link's.

    Args:
        program: the program's descriptor.
        target: a cgroup's or a perf event's descriptor; 0 for an iterator.
        attach_type: ATTACH_*, or a cgroup's.
        iterated_map: the map that an iterator over a map's elements walks.

    Raises:
        OSError: as of bpf(2); EINVAL also where the kernel has no links of this kind.
    """
    which = None if iterated_map is None else packed("<I", iterated_map)
    size = 0 if which is None else len(which)
    return bpf(
        _LINK_CREATE,
        packed("<IIIIQII", program, target, attach_type, 0, address_of(which), size, 0),
    )


def create_iterator(link: int) -> int:
    """Return a descriptor whose reading runs the iterator behind `link` once.

    Raises:
        OSError: as of bpf(2).
    """
    return bpf(_ITER_CREATE, packed("<II", link, 0))


def enable_statistics() -> int:
    """Have the kernel measure the run time of every program until the descriptor is closed.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN; EINVAL before Linux 5.8.
    """
    return bpf(_ENABLE_STATS, packed("<I", 0))


def information(descriptor: int, size: int) -> bytes:
    """Return what the kernel tells of a program, map or link, of `size` bytes.

    Raises:
        OSError: the descriptor is of none of them.
    """
    info = ct.create_string_buffer(size)
    bpf(_OBJECT_INFO, packed("<IIQ", descriptor, size, ct.addressof(info)))
    return info.raw


def program_info(program: int) -> ProgramInfo:
    """Return what the kernel knows of a program.

    Raises:
        OSError: not a program's descriptor.
    """
    run_ns, runs, misses, instructions = struct.unpack_from("<QQQI", information(program, 232), 192)
    return ProgramInfo(instructions, run_ns, runs, misses)


def link_missed(link: int) -> int:
    """Return how often a kprobe behind a perf event's link was skipped.

    0 on kernels before 6.7, which do not tell.

    Raises:
        OSError: not a link's descriptor.
    """
    return int(struct.unpack_from("<Q", information(link, 64), 48)[0])


def has_exchange() -> bool:
    """Return whether this kernel's programs may exchange a value atomically (Linux 5.12)."""
    code = (
        struct.pack("<BBhi", 0xB7, 0x00, 0, 0)  # r0 = 0
        + struct.pack("<BBhi", 0x7B, 0x0A, -8, 0)  # *(u64 *)(r10 - 8) = r0
        + struct.pack("<BBhi", 0xB7, 0x01, 0, 0)  # r1 = 0
        + struct.pack("<BBhi", 0xDB, 0x1A, -8, 0xE1)  # r1 = xchg((u64 *)(r10 - 8), r1)
        + struct.pack("<BBhi", 0x95, 0x00, 0, 0)  # exit
    )
    try:
        os.close(load_program(PROG_RAW_TRACEPOINT, code, name="exchange"))
    except LoadError:
        return False
    return True


def open_perf_event(attr: ct.Array[ct.c_char]) -> int:
    """Open a perf event on every process, and return its descriptor.

    Args:
        attr: struct perf_event_attr.

    Raises:
        OSError: as of perf_event_open(2).
    """
    return _checked(
        int(
            _libc.syscall(
                ct.c_long(_numbers()[1]),
                attr,
                ct.c_int(-1),  # every process
                ct.c_int(0),  # one CPU must be named; a kprobe fires on all of them
                ct.c_int(-1),
                ct.c_ulong(_PERF_CLOSE_ON_EXEC),
            )
        )
    )
