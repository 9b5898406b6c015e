"""From pieces as they come to a merged one per section, and to one chunk per pair."""

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
from tailrace.history.settings import CHUNK_STEPS, Tier

HEADLINES = ("requests", "connect_errors", "resets", "request_latency")
"""Signals of which a summary has the values; of the others it has that they were there."""


def merge(
    db: sqlite3.Connection, tier: Tier, start: int, shard: int, signals: Sequence[str]
) -> None:
    """Put the pieces of a section that is complete into one, with a summary.

    Within a transaction of the caller's.

    Raises:
        PackError: what is stored cannot be read.
    """
    rows = unique(concatenated(_pieces(db, tier, start, tier.section, shard)), signals)
    at = (tier.step, start, shard)
    db.execute("DELETE FROM pieces WHERE step = ? AND start = ? AND shard = ?", at)
    db.execute("INSERT INTO pieces VALUES (?, ?, ?, 1, ?)", (*at, pack_piece(rows)))
    _store_summary(db, tier, start, shard, _summary(rows, signals, tier))


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
    _store_summary(db, tier, start, shard, _summary(rows, signals, tier))


def _pieces(db: sqlite3.Connection, tier: Tier, start: int, length: int, shard: int) -> list[Rows]:
    return [
        unpack_piece(data)
        for (data,) in db.execute(
            "SELECT data FROM pieces WHERE step = ? AND start >= ? AND start < ? AND shard = ?",
            (tier.step, start, start + length, shard),
        )
    ]


def _store_summary(db: sqlite3.Connection, tier: Tier, start: int, shard: int, rows: Rows) -> None:
    db.execute(
        "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?)",
        (tier.step, start, shard, pack_piece(rows)),
    )


def unique(rows: Rows, signals: Sequence[str]) -> Rows:
    """Return the rows by pair, signal and step; those of the same merged into one."""
    rows = rows.take(np.lexsort((rows.step, rows.signal, rows.pair)))
    same = ~_changes(rows)
    if not same.any():
        return rows
    twice = same | np.append(same[1:], False)
    again = _coarser(rows.take(np.flatnonzero(twice)), signals, 1)
    rows = concatenated([rows.take(np.flatnonzero(~twice)), again])
    return rows.take(np.lexsort((rows.step, rows.signal, rows.pair)))


def _summary(rows: Rows, signals: Sequence[str], tier: Tier) -> Rows:
    """Return the headlines in longer steps, and of other signals that they were there."""
    headlines = np.isin(
        rows.signal, [number for number, name in enumerate(signals) if name in HEADLINES]
    )
    others = rows.take(np.flatnonzero(~headlines))
    others = others._replace(step=others.step // tier.section * tier.section)
    there = others.take(np.flatnonzero(_changes(others)))
    values = _coarser(rows.take(np.flatnonzero(headlines)), signals, tier.section)
    return concatenated([values, there._replace(codes=np.zeros_like(there.codes))])


def _coarser(rows: Rows, signals: Sequence[str], step: int) -> Rows:
    """Return the rows of longer steps; they come, and go, by pair, signal and step."""
    longer = rows._replace(step=rows.step // step * step)
    into = np.cumsum(_changes(longer)) - 1
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


def _changes(rows: Rows) -> NDArray[np.bool_]:
    """Return which rows are the first of their pair, signal and step."""
    columns = (rows.pair, rows.signal, rows.step)
    if not len(rows.step):
        return np.empty(0, bool)
    return np.append(True, np.any([np.diff(column) != 0 for column in columns], axis=0))
