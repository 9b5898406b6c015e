"""A chunk that is complete: from the pieces of a shard to one chunk per pair, and a summary."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probes.window import Kind, kind_of
from tailrace.history.codes import Rows, concatenated
from tailrace.history.merge import coarser
from tailrace.history.names import SHARD
from tailrace.history.pack import pack_chunks, pack_piece, unpack_chunk, unpack_piece
from tailrace.history.settings import CHUNK_STEPS, SUMMARY_STEPS

HEADLINES = ("requests", "connect_errors", "resets", "request_latency")
"""Signals of which a summary has the values; of the others it has that they were there."""


def close(
    db: sqlite3.Connection, step: int, start: int, shard: int, signals: Sequence[str]
) -> None:
    """Put a shard's pieces into chunks, within a transaction of the caller's.

    What is there already of the same chunk, before the clock was set back, stays in it.

    Raises:
        PackError: what is stored cannot be read.
    """
    at = (step, start, shard)
    rows = _stored(db, step, start, shard)
    if len(rows.step):
        rows = unique(rows, signals, step)
        db.executemany(
            "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?)",
            (
                (step, start, pair, data)
                for pair, data in pack_chunks(rows, start=start, step=step, steps=CHUNK_STEPS)
            ),
        )
        db.execute(
            "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?)",
            (*at, pack_piece(_summary(rows, signals, step))),
        )
    db.execute("DELETE FROM pieces WHERE step = ? AND start = ? AND shard = ?", at)


def _stored(db: sqlite3.Connection, step: int, start: int, shard: int) -> Rows:
    found = [
        unpack_piece(data)
        for (data,) in db.execute(
            "SELECT data FROM pieces WHERE step = ? AND start = ? AND shard = ?",
            (step, start, shard),
        )
    ]
    found += [
        unpack_chunk(data, pair=pair, start=start, step=step, steps=CHUNK_STEPS)
        for pair, data in db.execute(
            "SELECT pair, data FROM chunks WHERE step = ? AND start = ? AND pair BETWEEN ? AND ?",
            (step, start, shard * SHARD, shard * SHARD + SHARD - 1),
        )
    ]
    return concatenated(found)


def unique(rows: Rows, signals: Sequence[str], step: int) -> Rows:
    """Return the rows by pair, signal and step; those of the same merged into one."""
    rows = rows.take(np.lexsort((rows.step, rows.signal, rows.pair)))
    same = ~_changes(rows, step)
    if not same.any():
        return rows
    twice = same | np.append(same[1:], False)
    again = _coarser(rows.take(np.flatnonzero(twice)), signals, step)
    rows = concatenated([rows.take(np.flatnonzero(~twice)), again])
    return rows.take(np.lexsort((rows.step, rows.signal, rows.pair)))


def _summary(rows: Rows, signals: Sequence[str], step: int) -> Rows:
    """Return the headlines in longer steps, and of other signals that they were there."""
    headlines = np.isin(
        rows.signal, [number for number, name in enumerate(signals) if name in HEADLINES]
    )
    others = rows.take(np.flatnonzero(~headlines))
    first = np.flatnonzero(_changes(others._replace(step=np.zeros(len(others.step), np.int64)), 1))
    there = others.take(first)
    values = _coarser(rows.take(np.flatnonzero(headlines)), signals, step * SUMMARY_STEPS)
    return concatenated([values, there._replace(codes=np.zeros_like(there.codes))])


def _coarser(rows: Rows, signals: Sequence[str], step: int) -> Rows:
    """Return the rows of longer steps; they come, and go, by pair, signal and step."""
    longer = rows._replace(step=rows.step // step * step)
    into = np.cumsum(_changes(longer, step)) - 1
    kinds = {number: kind_of(signals[number]) for number in np.unique(rows.signal).tolist()}
    found = []
    for kind in (Kind.COUNT, Kind.RATIO, Kind.LATENCY):
        some = np.flatnonzero(_of_kind(rows.signal, kinds, kind))
        if not len(some):
            continue
        groups, place = np.unique(into[some], return_inverse=True)
        codes = coarser(kind, place, rows.codes[some], len(groups))
        found.append(
            longer.take(np.atleast_1d(np.searchsorted(into, groups)))._replace(codes=codes)
        )
    return concatenated(found)


def _of_kind(signal: NDArray[np.int16], kinds: dict[int, Kind], wanted: Kind) -> NDArray[np.bool_]:
    """Return which rows are of a kind; all that are neither ratios nor latencies are one."""
    other = (Kind.RATIO, Kind.LATENCY)
    chosen = [
        n for n, k in kinds.items() if k is wanted or (wanted is Kind.COUNT and k not in other)
    ]
    return np.isin(signal, chosen)


def _changes(rows: Rows, step: int) -> NDArray[np.bool_]:
    """Return which rows are the first of their pair, signal and step."""
    columns = (rows.pair, rows.signal, rows.step // step)
    if not len(rows.step):
        return np.empty(0, bool)
    return np.append(True, np.any([np.diff(column) != 0 for column in columns], axis=0))
