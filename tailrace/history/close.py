"""From pieces as they come to a merged one per section, and to one chunk per pair."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.window import Kind, kind_of
from tailrace.history.codes import Rows, concatenated
from tailrace.history.merge import coarser
from tailrace.history.names import SHARD
from tailrace.history.pack import pack_chunks, pack_piece, unpack_chunk, unpack_piece
from tailrace.history.settings import CHUNK_STEPS, Tier

HEADLINES = ("requests", "connect_errors", "resets", "request_latency")
"""Signals that a summary has."""
_KINDS = (Kind.COUNT, Kind.RATIO, Kind.LATENCY)
FEW_PIECES = 12
"""So many in a section are as quickly read as one."""


def merge(
    db: sqlite3.Connection, tier: Tier, start: int, shard: int, signals: Sequence[str]
) -> None:
    """Put the pieces of a section that is complete into one, if they are many, with a summary.

    Within a transaction of the caller's.

    Raises:
        PackError: what is stored cannot be read.
    """
    chunk = start // tier.chunk * tier.chunk
    if db.execute(
        "SELECT 1 FROM summaries WHERE step = ? AND start = ? AND shard = ? AND whole = 1",
        (tier.step, chunk, shard),
    ).fetchone():  # the clock was set back into a chunk that was complete
        close(db, tier, chunk, shard, signals)
        return
    pieces = _pieces(db, tier, start, tier.section, shard)
    rows = concatenated(pieces)
    at = (tier.step, start, shard)
    if len(pieces) > FEW_PIECES:
        db.execute("DELETE FROM pieces WHERE step = ? AND start = ? AND shard = ?", at)
        db.execute(
            "INSERT INTO pieces VALUES (?, ?, ?, 1, ?)", (*at, pack_piece(unique(rows, signals)))
        )
    else:
        db.execute("UPDATE pieces SET merged = 1 WHERE step = ? AND start = ? AND shard = ?", at)
    _store_summary(db, (*at, 0), _headlines(rows, signals, tier.section))


def close(
    db: sqlite3.Connection, tier: Tier, start: int, shard: int, signals: Sequence[str]
) -> None:
    """Put the pieces of a chunk that is complete into chunks, with a summary.

    What is there already of the same chunk, before the clock was set back, stays in it. Within a
    transaction of the caller's.

    Raises:
        PackError: what is stored cannot be read.
    """
    stored = [
        unpack_chunk(data, pair=pair, start=start, step=tier.step, steps=CHUNK_STEPS)
        for pair, data in db.execute(
            "SELECT pair, data FROM chunks WHERE step = ? AND start = ? AND pair BETWEEN ? AND ?",
            (tier.step, start, shard * SHARD, shard * SHARD + SHARD - 1),
        )
    ]
    rows = unique(concatenated([*stored, *_pieces(db, tier, start, tier.chunk, shard)]), signals)
    db.executemany(
        "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?)",
        (
            (tier.step, start, pair, data)
            for pair, data in pack_chunks(rows, start=start, step=tier.step, steps=CHUNK_STEPS)
        ),
    )
    span = (tier.step, start, start + tier.chunk, shard)
    for table in ("pieces", "summaries"):
        db.execute(
            f"DELETE FROM {table} WHERE step = ? AND start >= ? AND start < ? AND shard = ?",  # noqa: S608
            span,
        )
    sections = _headlines(rows, signals, tier.section)
    _store_summary(db, (tier.step, start, shard, 0), sections)
    _store_summary(db, (tier.step, start, shard, 1), _headlines(sections, signals, tier.chunk))


def _pieces(db: sqlite3.Connection, tier: Tier, start: int, length: int, shard: int) -> list[Rows]:
    return [
        unpack_piece(data)
        for (data,) in db.execute(
            "SELECT data FROM pieces WHERE step = ? AND start >= ? AND start < ? AND shard = ?",
            (tier.step, start, start + length, shard),
        )
    ]


def _store_summary(db: sqlite3.Connection, at: tuple[int, int, int, int], rows: Rows) -> None:
    db.execute("INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?, ?)", (*at, pack_piece(rows)))


def unique(rows: Rows, signals: Sequence[str]) -> Rows:
    """Return the rows by pair, signal and step; those of the same merged into one."""
    key = _keys(rows)
    order = np.argsort(key, kind="stable")  # they are in order in parts, which makes it fast
    rows, key = rows.take(order), key[order]
    same = np.diff(key, prepend=-1) == 0
    if not same.any():
        return rows
    twice = same | np.append(same[1:], False)
    again = _coarser(rows.take(np.flatnonzero(twice)), signals, 1)
    return unique(concatenated([rows.take(np.flatnonzero(~twice)), again]), signals)


def _keys(rows: Rows) -> NDArray[np.int64]:
    """Return numbers in the order of pair, signal and step, the same where all three are."""
    step = rows.step - (rows.step.min() if len(rows.step) else 0)
    return (rows.pair.astype(np.int64) << 40) | (rows.signal.astype(np.int64) << 24) | step


def _headlines(rows: Rows, signals: Sequence[str], step: int) -> Rows:
    """Return the headline signals in longer steps."""
    return _coarser(
        rows.take(np.flatnonzero(are_headlines(rows.pair, rows.signal, signals))), signals, step
    )


def are_headlines(
    pair: NDArray[Any], signal: NDArray[Any], signals: Sequence[str]
) -> NDArray[np.bool_]:
    """Return which rows are of headline signals; of pairs that have none of them, all are."""
    headline = np.array([name in HEADLINES for name in signals], bool)[signal]
    found: NDArray[np.bool_] = headline | ~np.isin(pair, np.unique(pair[headline]))
    return found


def _coarser(rows: Rows, signals: Sequence[str], step: int) -> Rows:
    """Return the rows of longer steps, kind by kind."""
    longer = rows._replace(step=rows.step // step * step)
    key = _keys(longer)
    order = np.argsort(key, kind="stable")
    longer, key = longer.take(order), key[order]
    kinds = np.array([_kind(name) for name in signals])[longer.signal]
    found = []
    for kind in _KINDS:
        some = np.flatnonzero(kinds == _KINDS.index(kind))
        if not len(some):
            continue
        starts = np.diff(key[some], prepend=-1) != 0
        into = np.cumsum(starts) - 1
        codes = coarser(kind, into, longer.codes[some], int(into[-1]) + 1)
        found.append(longer.take(some[starts])._replace(codes=codes))
    return concatenated(found)


def _kind(signal: str) -> int:
    """Return how a signal is merged; all that are neither ratios nor latencies are one."""
    kind = kind_of(signal)
    return _KINDS.index(kind if kind in _KINDS else Kind.COUNT)
