"""Field offsets of the running kernel's structs, from its own type information (BTF).

Read through libbpf, which is on every machine that has BCC. See
https://docs.kernel.org/bpf/btf.html for the encoding.
"""

from __future__ import annotations

import ctypes as ct
from pathlib import Path
from typing import Final

from probes.errors import ProbeError

VMLINUX: Final = Path("/sys/kernel/btf/vmlinux")

KIND_STRUCT: Final = 4
_KIND_UNION: Final = 5
KIND_TYPEDEF: Final = 8
KIND_FUNCTION: Final = 12
_KIND_PROTOTYPE: Final = 13
_MODIFIERS: Final = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type tag


class _Type(ct.Structure):
    """struct btf_type."""

    _fields_ = (("name_off", ct.c_uint32), ("info", ct.c_uint32), ("type", ct.c_uint32))

    @property
    def kind(self) -> int:
        return int(self.info >> 24) & 0x1F

    @property
    def members(self) -> int:
        return int(self.info) & 0xFFFF

    @property
    def bitfields(self) -> bool:
        """Whether member offsets carry a bit-field size in their upper byte (kind_flag)."""
        return bool(self.info >> 31)


class _Member(ct.Structure):
    """struct btf_member."""

    _fields_ = (("name_off", ct.c_uint32), ("type", ct.c_uint32), ("offset", ct.c_uint32))


class _Parameter(ct.Structure):
    """struct btf_param."""

    _fields_ = (("name_off", ct.c_uint32), ("type", ct.c_uint32))


def _libbpf() -> ct.CDLL:
    for name in ("libbpf.so.1", "libbpf.so.0"):
        try:
            lib = ct.CDLL(name)
        except OSError:
            continue
        lib.btf__load_vmlinux_btf.restype = ct.c_void_p
        lib.libbpf_get_error.argtypes = (ct.c_void_p,)
        lib.libbpf_get_error.restype = ct.c_long
        lib.btf__find_by_name_kind.argtypes = (ct.c_void_p, ct.c_char_p, ct.c_uint32)
        lib.btf__find_by_name_kind.restype = ct.c_int32
        lib.btf__type_by_id.argtypes = (ct.c_void_p, ct.c_uint32)
        lib.btf__type_by_id.restype = ct.POINTER(_Type)
        lib.btf__name_by_offset.argtypes = (ct.c_void_p, ct.c_uint32)
        lib.btf__name_by_offset.restype = ct.c_char_p
        lib.btf__free.argtypes = (ct.c_void_p,)
        lib.btf__free.restype = None
        return lib
    raise ProbeError(
        "libbpf is not installed: it reads the kernel's type information. "
        "Install it with BCC (Debian: apt install python3-bpfcc libbpf1)."
    )


class KernelTypes:
    """The running kernel's types. Close it, or use it in a `with`."""

    def __init__(self) -> None:
        """Load the kernel's BTF.

        Raises:
            ProbeError: libbpf is missing, or this kernel has no BTF.
        """
        self._lib = _libbpf()
        self._found: dict[tuple[str, int], int | None] = {}
        if not VMLINUX.exists():
            raise ProbeError(
                f"this kernel has no type information at {VMLINUX}. Tailrace needs a kernel "
                "built with CONFIG_DEBUG_INFO_BTF=y, as the distributions' own are (Debian 11+, "
                "Ubuntu 20.10+, RHEL 8.2+)."
            )
        self._btf: int | None = self._lib.btf__load_vmlinux_btf()
        if self._lib.libbpf_get_error(self._btf) or not self._btf:
            self._btf = None
            raise ProbeError(f"the kernel's type information at {VMLINUX} cannot be read.")

    def close(self) -> None:
        """Release the type information."""
        if self._btf is not None:
            self._lib.btf__free(self._btf)
            self._btf = None

    def __enter__(self) -> KernelTypes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def offset(self, struct: str, path: str) -> int:
        """Return the offset in bytes of a field.

        Args:
            struct: name of a struct, e.g. "tcp_sock".
            path: field, e.g. "srtt_us", or "ns.inum"; anonymous members are looked through.

        Raises:
            ProbeError: this kernel has no such struct or field.
        """
        kind = self._lib.btf__find_by_name_kind(self._btf, struct.encode(), KIND_STRUCT)
        if kind < 0:
            raise ProbeError(f"this kernel's type information has no struct {struct}.")
        total, where = 0, int(kind)
        for name in path.split("."):
            found = self._find(where, name.encode())
            if found is None:
                raise ProbeError(f"this kernel's struct {struct} has no field {path}.")
            total, where = total + found[0], found[1]
        return total

    def find(self, name: str, kind: int) -> int | None:
        """Return the id of a type, or None where this kernel has none of that name.

        Args:
            name: e.g. "tcp_sendmsg".
            kind: KIND_TYPEDEF or KIND_FUNCTION. Functions of modules are not found.
        """
        if (name, kind) not in self._found:  # libbpf goes through all 100 000 types each time
            found = int(self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind))
            self._found[name, kind] = found if found > 0 else None
        return self._found[name, kind]

    def parameters(self, function: str) -> tuple[str, ...]:
        """Return the names of a kernel function's parameters, in order; "" where it has none.

        Raises:
            ProbeError: this kernel has no such function.
        """
        found = self.find(function, KIND_FUNCTION)
        if found is None:
            raise ProbeError(f"this kernel's type information has no function {function}.")
        prototype = self._type(int(self._type(found).type))
        if prototype.kind != _KIND_PROTOTYPE:
            raise ProbeError(f"this kernel's type information of {function} is broken.")
        first = ct.addressof(prototype) + ct.sizeof(_Type)
        named = (_Parameter * prototype.members).from_address(first)
        return tuple(
            self._lib.btf__name_by_offset(self._btf, one.name_off).decode() for one in named
        )

    def _type(self, type_id: int) -> _Type:
        while True:
            pointer = self._lib.btf__type_by_id(self._btf, type_id)
            found: _Type = pointer.contents
            if found.kind not in _MODIFIERS:
                return found
            type_id = int(found.type)

    def _find(self, type_id: int, name: bytes) -> tuple[int, int] | None:
        """Return (offset in bytes, type id) of member `name`, anonymous members looked through."""
        outer = self._type(type_id)
        if outer.kind not in (KIND_STRUCT, _KIND_UNION):
            return None
        first = ct.addressof(outer) + ct.sizeof(_Type)
        members = (_Member * outer.members).from_address(first)
        for member in members:
            bits = int(member.offset) & 0xFFFFFF if outer.bitfields else int(member.offset)
            called: bytes = self._lib.btf__name_by_offset(self._btf, member.name_off)
            if called == name:
                return bits // 8, int(member.type)
            if not called:
                inner = self._find(int(member.type), name)
                if inner is not None:
                    return bits // 8 + inner[0], inner[1]
        return None
