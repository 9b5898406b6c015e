"""A line for every pair: how much, how well, how fast, over some time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from probes.window import Kind, Pair
from tailrace.history import codes
from tailrace.history.codes import Rows, concatenated, summed
from tailrace.history.merge import merged

Floats = NDArray[np.float64]


class Known(NamedTuple):
    """What the store knows of a pair.

    Attributes:
        pair: it.
        first: when it was first seen, epoch seconds.
        signals: what was ever measured, by name.
    """

    pair: Pair
    first: int
    signals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSummary:
    """What a pair did in some time.

    Attributes:
        pair: whose.
        first, last: when it was first and last seen in it, epoch seconds, as exactly as
            `HistoryReader.pairs` tells times apart.
        signals: what was ever measured, by name.
        requests_per_s: mean; NaN when unknown, as all that follows.
        error_share: connect errors and resets, of its connections.
        p50_s, p99_s: of the latency of requests, seconds.
    """

    pair: Pair
    first: float
    last: float
    signals: tuple[str, ...]
    requests_per_s: float
    error_share: float
    p50_s: float
    p99_s: float


def summaries(
    parts: Sequence[tuple[int, Rows]],
    *,
    known: Mapping[int, Known],
    signals: Mapping[int, str],
    until: float,
) -> list[PairSummary]:
    """Return one summary per pair, by name.

    Args:
        parts: rows, and the length of their steps in seconds.
        known: the pairs by number.
        signals: their names by number.
        until: end of what was asked for, epoch seconds.
    """
    rows = concatenated([part for _, part in parts])
    end = np.concatenate([part.step + length for length, part in parts] or [np.empty(0, np.int64)])
    named = np.isin(rows.pair, list(known))
    rows, end = rows.take(named), end[named]
    order = np.argsort(rows.pair, kind="stable")
    rows, end = rows.take(order), end[order]
    numbers, into = np.unique(rows.pair, return_inverse=True)
    total = len(numbers)
    first = np.full(total, np.iinfo(np.int64).max)
    last = np.zeros(total, np.int64)
    np.minimum.at(first, into, rows.step)
    np.maximum.at(last, into, end)
    by_name = {name: number for number, name in signals.items()}

    def of(signal: str) -> tuple[NDArray[np.int64], codes.Codes]:
        some = rows.signal == by_name.get(signal, -1)
        return into[some], rows.codes[some]

    requests = merged(Kind.COUNT, *of("requests"), total)["mean"]
    latency = merged(Kind.LATENCY, *of("request_latency"), total)
    errors = _error_share(of("connect_errors"), of("resets"), total)
    found = [
        PairSummary(
            pair=known[number].pair,
            first=float(max(first[at], known[number].first)),
            last=min(float(last[at]), until),
            signals=known[number].signals,
            requests_per_s=float(requests[at]),
            error_share=float(errors[at]),
            p50_s=float(latency["p50"][at]),
            p99_s=float(latency["p99"][at]),
        )
        for at, number in enumerate(numbers.tolist())
    ]
    return sorted(found, key=lambda summary: summary.pair)


def _error_share(
    failed: tuple[NDArray[np.int64], codes.Codes],
    reset: tuple[NDArray[np.int64], codes.Codes],
    total: int,
) -> Floats:
    """Return the share of connections that failed or were reset; NaN where there were none."""
    errors = np.zeros(total)
    most = np.zeros(total)
    for into, rows in (failed, reset):
        of, hits = codes.decode_ratios(rows)
        errors += summed(into, hits, total)
        most = np.maximum(most, summed(into, of, total))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.minimum(errors / most, 1.0)
