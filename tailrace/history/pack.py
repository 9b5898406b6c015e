"""Rows as compressed bytes, in two layouts.

A *piece* has all streams of some pairs at a few steps, as they come. A *chunk* has one pair at all
steps of some hours, stream by stream and column by column: neighbours in it differ little, and
one stream is found without decoding the others. The codes in both are the same, so making a
chunk of pieces loses nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.history.codes import COLUMNS, Codes, Rows, concatenated, no_rows

_PIECE = struct.Struct("<Iqi")  # rows, first step, least pair
_STREAM = struct.Struct("<hHI")  # signal, rows, bytes
_HEADER = np.dtype([("how", "u1"), ("base", "<i2")])  # of a column
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


def unpack_piece(
    data: bytes,
    choose: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]] = lambda pair, _: pair >= 0,
) -> Rows:
    """Return the rows of a piece, or only some.

    Args:
        data: it.
        choose: which rows, by the numbers of their pairs and of their signals.

    Raises:
        PackError: it is none.
    """
    if not data:
        return no_rows()
    try:
        number, first, least = _PIECE.unpack_from(data)
        body = zlib.decompress(data[_PIECE.size :])
        steps, pairs, names = (
            np.frombuffer(body, kind, number, offset * number)
            for kind, offset in (("<u4", 0), ("<u2", 4), ("<i2", 6))
        )
        planes = np.frombuffer(body, np.uint8, 2 * number * COLUMNS, 8 * number)
    except (struct.error, zlib.error, ValueError) as error:
        raise PackError(str(error)) from error
    pair = pairs.astype(np.int32) + np.int32(least)
    rows = np.flatnonzero(choose(pair, names))
    low, high = planes.reshape(2, COLUMNS, number)[:, :, rows].astype(np.uint16)
    return Rows(
        pair[rows],
        names[rows].astype(np.int16),
        steps[rows].astype(np.int64) + first,
        (low | high << 8).view(np.int16).T.copy(),
    )


def pack_chunks(rows: Rows, *, start: int, step: int, steps: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each pair and its rows as bytes.

    Args:
        rows: sorted by pair, by signal and then by step; a step once in each.
        start: of the chunk, epoch seconds.
        step: length of a step, seconds.
        steps: how many the chunk may have.
    """
    if not len(rows.step):
        return
    changes = (np.diff(rows.pair, prepend=-1) != 0) | (np.diff(rows.signal, prepend=-1) != 0)
    begins = np.flatnonzero(changes)
    ends = np.append(begins[1:], len(rows.step)).tolist()
    headers, narrow, wide = _columns(rows.codes, begins)
    index = (rows.step - start) // step
    signals, pairs = rows.signal[begins].tolist(), rows.pair[begins].tolist()
    streams: list[bytes] = []
    for at, (begin, end) in enumerate(zip(begins.tolist(), ends, strict=True)):
        body = [_places(index[begin:end], steps), headers[at].tobytes()]
        for column, how in enumerate(headers["how"][at].tolist()):
            if how & _WIDE:
                body.append(wide[column][begin:end].tobytes())
            elif how:
                body.append(narrow[column, begin:end].tobytes())
        stream = b"".join(body)
        streams.append(_STREAM.pack(signals[at], end - begin, len(stream)) + stream)
        if at + 1 == len(pairs) or pairs[at + 1] != pairs[at]:
            yield pairs[at], zlib.compress(b"".join(streams), 6)
            streams = []


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


def _places(index: Ints, steps: int) -> bytes:
    """Return which steps a stream has; nothing when it has all."""
    if len(index) == steps:
        return b""
    there = np.zeros(steps, np.uint8)
    there[index] = 1
    return np.packbits(there).tobytes()


def _columns(
    codes: Codes, begins: Ints
) -> tuple[NDArray[np.void], NDArray[np.uint8], dict[int, NDArray[np.uint32]]]:
    """Return the columns of all streams as what is kept of them.

    Args:
        codes: int16[n, COLUMNS], stream by stream.
        begins: int64[s], where each begins.

    Returns:
        (headers of `_HEADER`, [s, COLUMNS]; the values that follow, uint8[COLUMNS, n]; for columns
        in which some are wide, all as uint32[n]).
    """
    number = np.diff(np.append(begins, len(codes)))
    headers = np.zeros((len(begins), COLUMNS), _HEADER)
    narrow = np.empty((COLUMNS, len(codes)), np.uint8)
    wide = {}
    for place in range(COLUMNS):
        column = np.ascontiguousarray(codes[:, place])
        headers["base"][:, place] = column[begins]
        varies = np.minimum.reduceat(column, begins) != np.maximum.reduceat(column, begins)
        if not varies.any():
            continue
        some = np.repeat(varies, number)
        sizes = number[varies]
        base, how, folded = _folded(column[some].astype(np.int32), sizes)
        headers["base"][varies, place], headers["how"][varies, place] = base, how
        narrow[place, some] = folded
        if (how & _WIDE).any():
            wide[place] = np.zeros(len(codes), "<u4")
            wide[place][some] = folded
    return headers, narrow, wide


def _folded(column: NDArray[np.int32], sizes: Ints) -> tuple[Ints, Ints, NDArray[np.int32]]:
    """Return bases, how streams are kept, and their values: small and not negative.

    Args:
        column: int32[n], stream by stream.
        sizes: int64[s], how many of each.
    """
    begins = np.cumsum(sizes) - sizes
    deltas = np.diff(column, prepend=0)
    deltas[begins] = 0
    middle = np.rint(np.add.reduceat(column, begins) / sizes).astype(np.int32)
    offsets = column - np.repeat(middle, sizes)
    wander = np.add.reduceat(np.abs(deltas), begins)
    by_delta = wander < np.add.reduceat(np.abs(offsets), begins)
    values = np.where(np.repeat(by_delta, sizes), deltas, offsets)
    folded = (values << 1) ^ (values >> 31)
    how = np.where(by_delta, _DELTAS, _OFFSETS)
    how |= np.where(np.maximum.reduceat(folded, begins) > 255, _WIDE, 0)
    return np.where(by_delta, column[begins], middle), how, folded


def _unpack_stream(body: bytes, number: int, steps: int) -> tuple[Ints, Codes]:
    at = 0
    index = np.arange(steps)
    if number < steps:
        at = (steps + 7) // 8
        index = np.flatnonzero(np.unpackbits(np.frombuffer(body, np.uint8, at), count=steps))
    codes = np.empty((number, COLUMNS), np.int16)
    header = np.frombuffer(body, _HEADER, COLUMNS, at)
    at += header.nbytes
    for column, (how, base) in enumerate(header.tolist()):
        if how == _CONSTANT:
            codes[:, column] = base
            continue
        kind = np.dtype("<u4" if how & _WIDE else np.uint8)
        folded = np.frombuffer(body, kind, number, at).astype(np.int64)
        at += folded.size * kind.itemsize
        values = (folded >> 1) ^ -(folded & 1)
        codes[:, column] = base + (np.cumsum(values) if how & _DELTAS else values)
    if len(index) != number:
        raise ValueError(f"{len(index)} steps for {number} rows")
    return index, codes


def _planes(columns: NDArray[np.int16]) -> bytes:
    """Return all low bytes and then all high ones: these are nearly all the same."""
    flat = np.ascontiguousarray(columns).view(np.uint16).ravel()
    return (flat & 255).astype(np.uint8).tobytes() + (flat >> 8).astype(np.uint8).tobytes()
