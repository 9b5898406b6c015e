"""A compiled source with its maps: from BCC, or from what BCC compiled before."""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probes import bytecode, mapcalls
from probes.bytecode import Bytecode, relocated
from probes.errors import ProbeError


def import_bcc() -> Any:
    """Return the bcc module.

    Raises:
        ProbeError: BCC is missing, or it is PyPI's unrelated package of the same name.
    """
    try:
        import bcc  # noqa: PLC0415  (LLVM: only in this process)
    except ImportError as error:
        raise ProbeError(
            f"BCC is not installed ({error}). Install your distribution's package "
            "(Debian, Ubuntu: apt install python3-bpfcc; Fedora: dnf install python3-bcc); a "
            "virtual environment must be made with `/usr/bin/python3 -m venv "
            "--system-site-packages` to see it."
        ) from error
    if not hasattr(bcc, "BPF"):
        raise ProbeError(
            f"the module bcc at {getattr(bcc, '__file__', '?')} is not the BPF compiler collection "
            "but an unrelated package. Remove it (pip uninstall bcc) and install your "
            "distribution's (Debian, Ubuntu: apt install python3-bpfcc)."
        )
    return bcc


class NotPreparedError(Exception):
    """BCC failed; its compiler and its map maker print what was wrong."""


class Module:
    """The compiled source: the instructions of its functions, and its maps, which are made."""

    def __init__(self, code: Bytecode, maps: Mapping[str, int]) -> None:
        self.functions = code.functions
        self.license = code.license_name
        self.maps = dict(maps)
        self._numbers = list(maps.values())

    def code(self, function: str) -> bytes:
        """Return the instructions of a function, with the maps' descriptors in place."""
        return relocated(self.functions[function], self._numbers.__getitem__)


def _compiled(source: bytes, cflags: Sequence[str]) -> tuple[Bytecode, dict[str, int]]:
    """Compile, which makes the maps too; return their descriptors by name."""
    bcc = import_bcc()
    try:
        program = bcc.BPF(text=source, cflags=list(cflags))
    except Exception as error:  # bcc raises plain Exception; the compiler's words are printed
        raise NotPreparedError(str(error)) from error
    lib, handle = bcc.lib, program.module
    # what BCC's own Python has no use for (src/cc/bcc_common.h)
    for name, result in (("bpf_table_name", ct.c_char_p), ("bpf_table_fd_id", ct.c_int)):
        call = getattr(lib, name)
        call.argtypes, call.restype = (ct.c_void_p, ct.c_size_t), result
    lib.bpf_num_tables.argtypes = (ct.c_void_p,)
    lib.bpf_num_tables.restype = ct.c_size_t
    theirs = [int(lib.bpf_table_fd_id(handle, i)) for i in range(lib.bpf_num_tables(handle))]
    names = [lib.bpf_table_name(handle, i).decode() for i in range(len(theirs))]
    functions = [lib.bpf_function_name(handle, i) for i in range(lib.bpf_num_functions(handle))]
    code = Bytecode(
        {
            name.decode(): relocated(bytes(program.dump_func(name)), theirs.index)
            for name in functions
        },
        {name: mapcalls.map_info(at) for name, at in zip(names, theirs, strict=True)},
        lib.bpf_module_license(handle),
    )
    # BCC closes its own with `program`
    return code, {name: os.dup(at) for name, at in zip(names, theirs, strict=True)}


def _made(code: Bytecode) -> dict[str, int]:
    try:
        return {name: mapcalls.create_map(name, shape) for name, shape in code.maps.items()}
    except OSError as error:
        raise NotPreparedError(f"their maps cannot be made ({error.strerror})") from error


def module(source: bytes, cflags: Sequence[str], cache: Path | None) -> Module:
    """Compile, unless that was done before.

    Args:
        source: C for BCC.
        cflags: for the compiler.
        cache: directory of what was compiled before; None: compile.

    Raises:
        ProbeError: there is no BCC.
        NotPreparedError: it does not compile, or its maps cannot be made.
    """
    name = bytecode.key(source, cflags) if cache else ""
    if cache and name:
        kept = bytecode.read(cache, name)
        if kept:
            return Module(kept, _made(kept))
    code, maps = _compiled(source, cflags)
    if cache and name:
        bytecode.keep(cache, name, code)
    return Module(code, maps)
