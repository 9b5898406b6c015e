"""The calls to the kernel for maps and what is in them: bpf(2)."""

from __future__ import annotations

import ctypes as ct
import errno
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from probes import syscalls

_MAP_CREATE: Final = 0
_MAP_LOOKUP: Final = 1
_MAP_UPDATE: Final = 2
_MAP_DELETE: Final = 3
_MAP_LOOKUP_BATCH: Final = 24
_MAP_LOOKUP_AND_DELETE_BATCH: Final = 25
_MAP_UPDATE_BATCH: Final = 26
_MAP_DELETE_BATCH: Final = 27

_NAME_BYTES: Final = 15


@dataclass(frozen=True, slots=True)
class MapInfo:
    """The shape of a map (struct bpf_map_info); the sizes in bytes."""

    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


def map_info(descriptor: int) -> MapInfo:
    """Return the shape of a map.

    Raises:
        OSError: not a map's descriptor.
    """
    kind, _, key, value, entries, flags = struct.unpack_from(
        "<IIIIII", syscalls.information(descriptor, 80)
    )
    return MapInfo(kind, key, value, entries, flags)


def create_map(name: str, shape: MapInfo) -> int:
    """Make an empty map and return its descriptor.

    Args:
        name: for the kernel's own listings; it is cut where the kernel would refuse it.
        shape: as `map_info` tells it.

    Raises:
        OSError: as of bpf(2); ENOMEM or, before Linux 5.11, EPERM when there is no memory for it.
    """
    return syscalls.bpf(
        _MAP_CREATE,
        syscalls.packed(
            "<IIIIIII16s",
            shape.type,
            shape.key_size,
            shape.value_size,
            shape.max_entries,
            shape.flags,
            0,  # no map inside it
            0,  # on no NUMA node of choice
            name.encode()[:_NAME_BYTES],
        ),
    )


def lookup_element(descriptor: int, key: bytes, size: int) -> bytes | None:
    """Return the value under `key`, of `size` bytes as user space sees it, or None.

    Raises:
        OSError: as of bpf(2), other than that there is no such key.
    """
    keyed, value = ct.create_string_buffer(key, len(key)), ct.create_string_buffer(size)
    try:
        syscalls.bpf(
            _MAP_LOOKUP,
            syscalls.packed("<IIQQQ", descriptor, 0, ct.addressof(keyed), ct.addressof(value), 0),
        )
    except FileNotFoundError:
        return None
    return value.raw


def update_element(descriptor: int, key: bytes, value: bytes) -> None:
    """Store `value` under `key`.

    Raises:
        OSError: E2BIG: the map is full; others as of bpf(2).
    """
    keyed = ct.create_string_buffer(key, len(key))
    valued = ct.create_string_buffer(value, len(value))
    syscalls.bpf(
        _MAP_UPDATE,
        syscalls.packed("<IIQQQ", descriptor, 0, ct.addressof(keyed), ct.addressof(valued), 0),
    )


def push_element(descriptor: int, value: bytes) -> None:
    """Put `value` on a stack or at the end of a queue.

    Raises:
        OSError: E2BIG: the map is full; others as of bpf(2).
    """
    valued = ct.create_string_buffer(value, len(value))
    syscalls.bpf(_MAP_UPDATE, syscalls.packed("<IIQQQ", descriptor, 0, 0, ct.addressof(valued), 0))


def delete_element(descriptor: int, key: bytes) -> bool:
    """Delete what is under `key`; return whether there was anything.

    Raises:
        OSError: as of bpf(2), other than that there is no such key.
    """
    keyed = ct.create_string_buffer(key, len(key))
    try:
        syscalls.bpf(
            _MAP_DELETE, syscalls.packed("<IIQQQ", descriptor, 0, ct.addressof(keyed), 0, 0)
        )
    except FileNotFoundError:
        return False
    return True


def lookup_batch(
    descriptor: int,
    cursor: bytes | None,
    keys: int,
    values: int,
    count: int,
    *,
    delete: bool = False,
    cursor_bytes: int = 4,
) -> tuple[int, bytes | None]:
    """Copy up to `count` entries of a map to the addresses `keys` and `values`.

    Args:
        descriptor: the map's.
        cursor: what the call before returned; None to begin.
        keys: address of room for `count` keys.
        values: address of room for `count` values.
        count: how many entries there is room for.
        delete: delete what is copied, in the same step.
        cursor_bytes: room that a cursor needs: 4 for the hash maps, the key's size for others.

    Returns:
        How many entries were copied, and the cursor to go on with; None at the end, or when the
        room left is too small for the next bucket of a hash map.

    Raises:
        OSError: as of bpf(2); EINVAL where the map knows no batch calls (before Linux 5.6).
    """
    begin = None if cursor is None else ct.create_string_buffer(cursor, len(cursor))
    following = ct.create_string_buffer(cursor_bytes)
    attr = syscalls.packed(
        "<QQQQIIQQ",
        syscalls.address_of(begin),
        ct.addressof(following),
        keys,
        values,
        count,
        descriptor,
        0,
        0,
    )
    end = False
    try:
        syscalls.bpf(_MAP_LOOKUP_AND_DELETE_BATCH if delete else _MAP_LOOKUP_BATCH, attr)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOSPC):
            raise
        end = True
    (copied,) = struct.unpack_from("<I", attr, 32)
    return int(copied), None if end else following.raw


def update_batch(descriptor: int, keys: NDArray[Any], values: NDArray[Any]) -> int:
    """Store values[i] under keys[i]; return how many a full map refused.

    Raises:
        OSError: as of bpf(2), other than E2BIG: the map is full.
    """
    return _batch(_MAP_UPDATE_BATCH, descriptor, keys, values, errno.E2BIG)


def delete_batch(descriptor: int, keys: NDArray[Any]) -> int:
    """Delete what is under each key; return under how many there was nothing.

    Raises:
        OSError: as of bpf(2), other than that there is no such key.
    """
    return _batch(_MAP_DELETE_BATCH, descriptor, keys, None, errno.ENOENT)


def _batch(
    command: int, descriptor: int, keys: NDArray[Any], values: NDArray[Any] | None, skipped: int
) -> int:
    """Do it to one after the other; count those that fail with the error `skipped`."""
    keys = np.ascontiguousarray(keys)
    values = None if values is None else np.ascontiguousarray(values)
    at = skips = 0
    while at < len(keys):
        attr = syscalls.packed(
            "<QQQQIIQQ",
            0,
            0,
            keys[at:].ctypes.data,
            0 if values is None else values[at:].ctypes.data,
            len(keys) - at,
            descriptor,
            0,
            0,
        )
        try:
            syscalls.bpf(command, attr)
        except OSError as error:
            if error.errno != skipped:
                raise
            # the count is of those before the one that failed (generic_map_update_batch())
            skips, at = skips + 1, at + 1
        (done,) = struct.unpack_from("<I", attr, 32)
        at += int(done)
    return skips
