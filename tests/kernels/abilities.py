"""What a kernel lets us hook, tried by the bare system call and not by the project's own code.

So that a hook family which Tailrace does not manage to use is told apart from one that the kernel
does not have. The programs are two instructions: return 0.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

_BPF: Final = 321  # x86-64
_PROG_LOAD, _RAW_TRACEPOINT_OPEN = 5, 17
_RAW_TRACEPOINT, _TRACING = 17, 26
_TRACE_FENTRY: Final = 24
_RETURN_0: Final = bytes.fromhex("b7000000000000009500000000000000")

# what the data path of each family stands on
_TRACEPOINT: Final = b"sock_send_length"
_FUNCTION: Final = b"tcp_sendmsg"
_KPROBES: Final = Path("/sys/bus/event_source/devices/kprobe/type")


class _Load(ct.Structure):
    """The part of union bpf_attr that BPF_PROG_LOAD reads."""

    _fields_ = (
        ("prog_type", ct.c_uint32),
        ("insn_cnt", ct.c_uint32),
        ("insns", ct.c_uint64),
        ("license", ct.c_uint64),
        ("log_level", ct.c_uint32),
        ("log_size", ct.c_uint32),
        ("log_buf", ct.c_uint64),
        ("kern_version", ct.c_uint32),
        ("prog_flags", ct.c_uint32),
        ("prog_name", ct.c_char * 16),
        ("prog_ifindex", ct.c_uint32),
        ("expected_attach_type", ct.c_uint32),
        ("prog_btf_fd", ct.c_uint32),
        ("func_info_rec_size", ct.c_uint32),
        ("func_info", ct.c_uint64),
        ("func_info_cnt", ct.c_uint32),
        ("line_info_rec_size", ct.c_uint32),
        ("line_info", ct.c_uint64),
        ("line_info_cnt", ct.c_uint32),
        ("attach_btf_id", ct.c_uint32),
        ("attach_prog_fd", ct.c_uint32),
    )


class _Open(ct.Structure):
    """The part of union bpf_attr that BPF_RAW_TRACEPOINT_OPEN reads."""

    _fields_ = (("name", ct.c_uint64), ("prog_fd", ct.c_uint32))


def _bpf(command: int, attributes: ct.Structure) -> int:
    """Make the system call; return a descriptor or minus the error's number."""
    libc = ct.CDLL(None, use_errno=True)
    result = int(libc.syscall(_BPF, command, ct.byref(attributes), ct.sizeof(attributes)))
    return result if result >= 0 else -ct.get_errno()


def _address(text: bytes) -> int:
    return ct.cast(ct.c_char_p(text), ct.c_void_p).value or 0


def _try(program_type: int, *, attach_type: int = 0, btf_id: int = 0, name: bytes = b"") -> str:
    """Load and attach; return "" or what failed."""
    code, licence = ct.create_string_buffer(_RETURN_0), ct.create_string_buffer(b"GPL")
    load = _Load(
        prog_type=program_type,
        insn_cnt=len(_RETURN_0) // 8,
        insns=ct.addressof(code),
        license=ct.addressof(licence),
        expected_attach_type=attach_type,
        attach_btf_id=btf_id,
    )
    program = _bpf(_PROG_LOAD, load)
    if program < 0:
        return f"load: {errno.errorcode.get(-program, program)}"
    link = _bpf(_RAW_TRACEPOINT_OPEN, _Open(name=_address(name) if name else 0, prog_fd=program))
    os.close(program)
    if link < 0:
        return f"attach: {errno.errorcode.get(-link, link)}"
    os.close(link)
    return ""


def _fentry() -> str:
    libbpf = ct.CDLL("libbpf.so.1")
    btf_id = int(libbpf.libbpf_find_vmlinux_btf_id(_FUNCTION, _TRACE_FENTRY))
    if btf_id <= 0:
        return f"no type information of {_FUNCTION.decode()}"
    return _try(_TRACING, attach_type=_TRACE_FENTRY, btf_id=btf_id)


def abilities() -> dict[str, str]:
    """Return {hook family: "" if this kernel has it, else why not}.

    "tracepoint" means that the tracepoints of data moving exist: Linux 6.3 or later.
    """
    # before Linux 5.11 programs are charged to this limit; later it does not matter
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    return {
        "tracepoint": _try(_RAW_TRACEPOINT, name=_TRACEPOINT),
        "fentry": _fentry(),
        "kprobe": "" if _KPROBES.exists() else "built without kprobes",
    }
