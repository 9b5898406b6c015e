"""The detector's state as bytes: arrays and JSON, checked, without pickle.

Layout: MAGIC, then a blake2b digest of 16 bytes of what follows, then zlib of: the length of
the header (8 bytes, little-endian), the header (JSON: version, meta, arrays), the arrays' bytes.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from detector.table import Array

MAGIC = b"TAILRACE-DETECTOR\n"
VERSION = 7
DIGEST = 16


def pack(meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Return `meta` (JSON values) and `arrays` as bytes; the same input gives the same bytes."""
    listed = [(name, arrays[name].dtype.str, arrays[name].shape) for name in sorted(arrays)]
    header = json.dumps({"version": VERSION, "meta": meta, "arrays": listed}).encode()
    body = b"".join(
        [
            len(header).to_bytes(8, "little"),
            header,
            *(np.ascontiguousarray(arrays[name]).tobytes() for name, _, _ in listed),
        ]
    )
    packed = zlib.compress(body, 1)
    return MAGIC + hashlib.blake2b(packed, digest_size=DIGEST).digest() + packed


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what `pack` was given.

    Raises:
        ValueError: when the bytes are not a detector's state, are damaged, or are of a newer
            version.
    """
    if not data.startswith(MAGIC):
        raise ValueError("not the state of a Tailrace detector; remove it to start afresh")
    digest, packed = data[len(MAGIC) :][:DIGEST], data[len(MAGIC) + DIGEST :]
    if hashlib.blake2b(packed, digest_size=DIGEST).digest() != digest:
        raise ValueError("the detector's state is damaged; remove it to start afresh")
    body = zlib.decompress(packed)
    start = 8 + int.from_bytes(body[:8], "little")
    header = json.loads(body[8:start])
    if header["version"] != VERSION:
        raise ValueError(
            f"the detector's state has version {header['version']}, this Tailrace reads "
            f"{VERSION}; use the Tailrace that wrote it, or remove the state to start afresh"
        )
    arrays: dict[str, Array] = {}
    for name, dtype, shape in header["arrays"]:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        arrays[name] = np.frombuffer(body[start : start + size], dtype).reshape(shape).copy()
        start += size
    return header["meta"], arrays
