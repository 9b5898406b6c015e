"""Compiled programs, kept from one start to the next.

Compiling takes BCC a second or two, and gives the same for the same source, flags, headers,
compiler and kernel. What is kept is checked by its digest, taken only from files that nobody else
can write, and verified by the kernel like anything else that is loaded.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import json
import os
import stat
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bpf import layout
from probes.mapcalls import MapInfo

CACHE_VARIABLE: Final = "CACHE_DIRECTORY"
"""As systemd sets it for a service with CacheDirectory=."""

_FORMAT: Final = b"tailrace bytecode 1\n"
_KEPT: Final = 8
"""Files; a start on a kernel that refuses some programs compiles more than once."""

_ROOT_PATH: Final = Path("/var/cache/tailrace")
_INSTRUCTION: Final = struct.Struct("<BBhi")
_LOAD_64: Final = 0x18
_MAP_DESCRIPTOR: Final = 1  # BPF_PSEUDO_MAP_FD, include/uapi/linux/bpf.h


@dataclass(frozen=True, slots=True)
class Bytecode:
    """A compiled source.

    Attributes:
        functions: by name; where a map is meant stands its place in `maps`.
        maps: by name, in order.
        license_name: which decides what helpers may be called.
    """

    functions: Mapping[str, bytes]
    maps: Mapping[str, MapInfo]
    license_name: bytes


def relocated(code: bytes, number: Callable[[int], int]) -> bytes:
    """Return instructions in which each map is meant by another number.

    Args:
        code: instructions, 8 bytes each.
        number: from the number of a map that stands there to what shall stand there.
    """
    moved = bytearray(code)
    places = iter(range(0, len(code), _INSTRUCTION.size))
    for place in places:
        opcode, registers, offset, immediate = _INSTRUCTION.unpack_from(code, place)
        if opcode != _LOAD_64:
            continue
        next(places, None)  # its second half is no instruction
        if registers >> 4 == _MAP_DESCRIPTOR:
            _INSTRUCTION.pack_into(moved, place, opcode, registers, offset, number(immediate))
    return bytes(moved)


def directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where compiled programs are kept: $CACHE_DIRECTORY, or a default."""
    if environment.get(CACHE_VARIABLE):
        return Path(environment[CACHE_VARIABLE].partition(":")[0])
    if os.geteuid() == 0:
        return _ROOT_PATH
    import platformdirs  # noqa: PLC0415 - only needed here

    return platformdirs.user_cache_path("tailrace", appauthor=False)


def _compiler() -> bytes:
    """What tells one BCC from another, without loading it; empty if there is none."""
    found = importlib.util.find_spec("bcc")
    if found is None or found.origin is None:
        return b""
    version = Path(found.origin).with_name("version.py")
    with contextlib.suppress(OSError):
        return found.origin.encode() + version.read_bytes()
    return b""


def key(source: bytes, cflags: Sequence[str]) -> str:
    """Return a name for all that decides what a source compiles to; "" if that is not known."""
    compiler = _compiler()
    if not compiler or any(flag.startswith("-I") for flag in cflags):
        return ""
    headers = [path.read_bytes() for path in sorted(layout.HEADERS.glob("include/**/*.h"))]
    parts = [_FORMAT, source, "\0".join(cflags).encode(), *headers, compiler, *_kernel()]
    framed = b"".join(struct.pack("<Q", len(part)) + part for part in parts)
    return hashlib.sha256(framed).hexdigest()


def _kernel() -> Iterable[bytes]:
    name = os.uname()
    return (each.encode() for each in (name.release, name.version, name.machine))


def read(place: Path, name: str) -> Bytecode | None:
    """Return what is kept under a name, or None.

    Args:
        place: the directory.
        name: as `key` gives it.
    """
    path = place / name
    try:
        if not _is_ours(place.stat()):
            return None
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            if not _is_ours(os.fstat(file.fileno())):
                return None
            digest, _, body = file.read().partition(b"\n")
        os.utime(path)  # the longest unused are forgotten
    except OSError:
        return None
    if digest.decode("ascii", "replace") != hashlib.sha256(body).hexdigest():
        return None
    kept = json.loads(body)
    return Bytecode(
        {each: base64.b64decode(code) for each, code in kept["functions"].items()},
        {each: MapInfo(**shape) for each, shape in kept["maps"].items()},
        kept["license"].encode(),
    )


def _is_ours(found: os.stat_result) -> bool:
    """Whether nobody but us, or root, can have written it."""
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def keep(place: Path, name: str, code: Bytecode) -> None:
    """Keep compiled code for the next start; say so on the standard error where that fails.

    Args:
        place: the directory, made if it is missing.
        name: as `key` gives it.
        code: what was compiled.
    """
    body = json.dumps(
        {
            "functions": {
                each: base64.b64encode(instructions).decode()
                for each, instructions in code.functions.items()
            },
            "maps": {each: asdict(shape) for each, shape in code.maps.items()},
            "license": code.license_name.decode(),
        }
    ).encode()
    try:
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place, prefix=".new-", delete=False) as file:
            file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        Path(file.name).replace(place / name)
        kept = sorted(place.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        sys.stderr.write(f"compiled programs are not kept: {error}\n")
