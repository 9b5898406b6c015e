"""A line for every pair: how much, how well, how fast, over some time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.window import Kind, Pair
from tailrace.history import codes
from tailrace.history.codes import Rows, concatenated, summed
from tailrace.history.merge import merged

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSummary:
    """What a pair did in some time.

    Attributes:
        pair: whose.
        first, last: begin of the first and end of the last step with something of it, epoch
            seconds.
        signals: what was measured, by name.
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
    names: Mapping[int, Pair],
    signals: Mapping[int, str],
) -> list[PairSummary]:
    """Return one summary per pair, by name.

    Args:
        parts: rows, and the length of their steps in seconds.
        names: pairs by number.
        signals: their names by number.
    """
    rows = concatenated([part for _, part in parts])
    end = np.concatenate([part.step + length for length, part in parts] or [np.empty(0, np.int64)])
    known = np.isin(rows.pair, list(names))
    rows, end = rows.take(known), end[known]
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
    has = [
        tuple(sorted(signals[number] for number in numbers_ if number in signals))
        for numbers_ in _signals_of(into, rows.signal, total)
    ]
    found = [
        PairSummary(
            pair=names[number],
            first=float(first[at]),
            last=float(last[at]),
            signals=has[at],
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


def _signals_of(into: NDArray[np.int64], signal: NDArray[np.int16], total: int) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in range(total)]
    for cell in np.unique(into << 16 | signal.astype(np.int64)).tolist():
        found[cell >> 16].add(cell & 0xFFFF)
    return found
