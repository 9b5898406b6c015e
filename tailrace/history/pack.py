"""Rows as compressed bytes, in two layouts.

A *piece* has all streams of some pairs at a few steps, as they come. A *chunk* has one pair at all
steps of some hours, stream by stream and column by column: neighbours in it differ little, and
one stream is found without decoding the others. The codes in both are the same, so making a
chunk of pieces loses nothing.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from tailrace.history.codes import COLUMNS, Codes, Rows, concatenated, no_rows

_PIECE = struct.Struct("<Iqi")  # rows, first step, least pair
_STREAM = struct.Struct("<HHI")  # signal, rows, bytes
_COLUMN = struct.Struct("<Bh")  # how, base
_CONSTANT, _OFFSETS, _DELTAS, _WIDE = 0, 1, 2, 4

Ints = NDArray[np.int64]


class PackError(ValueError):
    """Bytes that are no rows."""


def pack_piece(rows: Rows) -> bytes:
    """Return any rows as bytes, in their order; steps and pairs within 2**16 of each other."""
    if not len(rows.step):
        return b""
    first, least = int(rows.step.min()), int(rows.pair.min())
    body = b"".join(
        [
            (rows.step - first).astype("<u4").tobytes(),
            (rows.pair - least).astype("<u2").tobytes(),
            rows.signal.astype("<i2").tobytes(),
            _planes(rows.codes.T),
        ]
    )
    return _PIECE.pack(len(rows.step), first, least) + zlib.compress(body, 1)


def unpack_piece(data: bytes) -> Rows:
    """Return the rows of a piece.

    Raises:
        PackError: it is none.
    """
    if not data:
        return no_rows()
    try:
        number, first, least = _PIECE.unpack_from(data)
        body = zlib.decompress(data[_PIECE.size :])
        step, pair, signal = (
            np.frombuffer(body, kind, number, offset * number)
            for kind, offset in (("<u4", 0), ("<u2", 4), ("<i2", 6))
        )
        low, high = np.frombuffer(body, np.uint8, 2 * number * COLUMNS, 8 * number).reshape(2, -1)
    except (struct.error, zlib.error, ValueError) as error:
        raise PackError(str(error)) from error
    codes = (low.astype(np.uint16) | high.astype(np.uint16) << 8).view(np.int16)
    return Rows(
        pair.astype(np.int32) + np.int32(least),
        signal.astype(np.int16),
        step.astype(np.int64) + first,
        codes.reshape(COLUMNS, number).T.copy(),
    )


def pack_chunk(rows: Rows, *, start: int, step: int, steps: int) -> bytes:
    """Return the rows of one pair as bytes.

    Args:
        rows: of one pair, sorted by signal and then by step; a step once in each.
        start: of the chunk, epoch seconds.
        step: length of a step, seconds.
        steps: how many the chunk may have.
    """
    begins = np.flatnonzero(np.diff(rows.signal, prepend=-1))
    ends = np.append(begins[1:], len(rows.signal))
    index = (rows.step - start) // step
    streams = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        body = _stream(rows.codes[begin:end], index[begin:end], steps)
        streams.append(_STREAM.pack(int(rows.signal[begin]), end - begin, len(body)) + body)
    return zlib.compress(b"".join(streams), 6)


def unpack_chunk(
    data: bytes, *, pair: int, start: int, step: int, steps: int, signal: int | None = None
) -> Rows:
    """Return the rows of a chunk, or only those of one signal.

    Raises:
        PackError: it is none.
    """
    found = []
    try:
        body = zlib.decompress(data)
        at = 0
        while at < len(body):
            of, number, length = _STREAM.unpack_from(body, at)
            at += _STREAM.size
            if signal is None or of == signal:
                index, codes = _unpack_stream(body[at : at + length], number, steps)
                found.append(
                    Rows(
                        np.full(number, pair, np.int32),
                        np.full(number, of, np.int16),
                        start + index * step,
                        codes,
                    )
                )
            at += length
    except (struct.error, zlib.error, ValueError, IndexError) as error:
        raise PackError(str(error)) from error
    return concatenated(found)


def _stream(codes: Codes, index: Ints, steps: int) -> bytes:
    """Return one stream: which steps it has, unless all, and its columns."""
    parts = []
    if len(index) < steps:
        there = np.zeros(steps, np.uint8)
        there[index] = 1
        parts.append(np.packbits(there).tobytes())
    for column in codes.T.astype(np.int64):
        how, base, values = _column(column)
        parts.append(_COLUMN.pack(how, base))
        if how:
            parts.append(values)
    return b"".join(parts)


def _column(column: Ints) -> tuple[int, int, bytes]:
    """Return how a column is kept, its base, and the bytes that follow."""
    base = int(column[0])
    deltas = np.diff(column)
    if not deltas.any():
        return _CONSTANT, base, b""
    middle = int(np.sort(column)[len(column) // 2])
    offsets = column - middle
    how, values = _OFFSETS, offsets
    if np.abs(deltas).sum() < np.abs(offsets).sum():
        how, values = _DELTAS, deltas
    else:
        base = middle
    folded = (values << 1) ^ (values >> 63)  # small whatever the sign
    if folded.max() < 256:
        return how, base, folded.astype(np.uint8).tobytes()
    return how | _WIDE, base, folded.astype("<u4").tobytes()


def _unpack_stream(body: bytes, number: int, steps: int) -> tuple[Ints, Codes]:
    at = 0
    index = np.arange(steps)
    if number < steps:
        at = (steps + 7) // 8
        index = np.flatnonzero(np.unpackbits(np.frombuffer(body, np.uint8, at), count=steps))
    codes = np.empty((number, COLUMNS), np.int16)
    for column in range(COLUMNS):
        how, base = _COLUMN.unpack_from(body, at)
        at += _COLUMN.size
        if how == _CONSTANT:
            codes[:, column] = base
            continue
        many = number - 1 if how & _DELTAS else number
        kind = np.dtype("<u4" if how & _WIDE else np.uint8)
        folded = np.frombuffer(body, kind, many, at).astype(np.int64)
        at += many * kind.itemsize
        values = (folded >> 1) ^ -(folded & 1)
        if how & _DELTAS:
            codes[:, column] = base + np.concatenate(([0], np.cumsum(values)))
        else:
            codes[:, column] = base + values
    if len(index) != number:
        raise ValueError(f"{len(index)} steps for {number} rows")
    return index, codes


def _planes(columns: NDArray[np.int16]) -> bytes:
    """Return all low bytes and then all high ones: these are nearly all the same."""
    flat = np.ascontiguousarray(columns).view(np.uint16).ravel()
    return (flat & 255).astype(np.uint8).tobytes() + (flat >> 8).astype(np.uint8).tobytes()
