"""Rows of one stream merged into fewer and longer steps, by their kind.

Means are weighted by the time that was seen, ratios pooled with their denominators. Quantiles are
those of the distributions together: each row's is spread evenly, on the logarithmic scale,
between its own quantiles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probes.window import Kind
from tailrace.history import codes
from tailrace.history.codes import COARSE, QUANTILES, Codes, is_rate, summed

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SHARES = np.diff(sorted(QUANTILES))
"""Of the samples, between a quantile and the next."""
_CELLS = 2
"""So many for a code: a quantile is the upper end of one."""
_MOST_CELLS = 4_000_000


def merged(kind: Kind, into: Ints, rows: Codes, steps: int) -> dict[str, Floats]:
    """Return the values of merged steps, NaN where there is nothing.

    Args:
        kind: of the signal.
        into: int64[n], which step each row goes into; ascending.
        rows: int16[n, COLUMNS].
        steps: how many there are.

    Returns:
        float64[steps] by name: rates and gauges "mean", "min", "max"; ratios "share", "of";
        latencies "p50", "p90", "p99" (s) and "count".
    """
    if is_rate(kind):
        return _rates(into, rows, steps)
    if kind is Kind.RATIO:
        of, hits = codes.decode_ratios(rows)
        total = summed(into, of, steps)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = summed(into, hits, steps) / total
        return {"share": share, "of": np.where(total > 0, total, np.nan)}
    samples, edges = codes.decode_latencies(rows)
    count = summed(into, samples, steps)
    found: dict[str, Floats] = {}
    alone = np.bincount(into, minlength=steps)[into] == 1 if len(into) else np.empty(0, bool)
    places = {0.5: 2, 0.9: 3, 0.99: 4}
    together = _quantiles(into[~alone], samples[~alone], edges[~alone], steps, tuple(places))
    for (q, place), values in zip(places.items(), together, strict=True):
        values[into[alone]] = codes.decode(edges[alone, place], COARSE)
        found[f"p{round(q * 100)}"] = values
    return {**found, "count": np.where(count > 0, count, np.nan)}


def coarser(kind: Kind, into: Ints, rows: Codes, steps: int) -> Codes:
    """Return the rows of merged steps, each of which has some.

    Args:
        kind: of the signal.
        into: int64[n], which step each row goes into; ascending.
        rows: int16[n, COLUMNS].
        steps: how many there are.
    """
    if is_rate(kind):
        seconds, *_ = codes.decode_rates(rows)
        found = _rates(into, rows, steps)
        time = summed(into, seconds, steps)
        return codes.encode_rates(time, found["mean"], found["min"], found["max"])
    if kind is Kind.RATIO:
        of, hits = codes.decode_ratios(rows)
        return codes.encode_ratios(summed(into, of, steps), summed(into, hits, steps))
    samples, edges = codes.decode_latencies(rows)
    quantiles = np.stack(_quantiles(into, samples, edges, steps, QUANTILES), axis=1)
    least, most = np.full(steps, np.iinfo(np.int64).max), np.zeros(steps, np.int64)
    np.minimum.at(least, into, edges[:, 0])
    np.maximum.at(most, into, edges[:, -1])
    quantiles[:, QUANTILES.index(0.0)] = codes.decode(least, COARSE)
    quantiles[:, QUANTILES.index(1.0)] = codes.decode(most, COARSE)
    return codes.encode_latencies(summed(into, samples, steps), quantiles)


def _rates(into: Ints, rows: Codes, steps: int) -> dict[str, Floats]:
    seconds, mean, least, most = codes.decode_rates(rows)
    low, high = np.full(steps, np.inf), np.full(steps, -np.inf)
    np.minimum.at(low, into, least)
    np.maximum.at(high, into, most)
    time = summed(into, seconds, steps)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = summed(into, mean * seconds, steps) / time
    nothing = np.isnan(middle)
    # each within 1 or 2 %, so a mean of what hardly varies may come out a hair above its most
    return {
        "mean": middle,
        "min": np.where(nothing, np.nan, np.minimum(low, middle)),
        "max": np.where(nothing, np.nan, np.maximum(high, middle)),
    }


def _quantiles(
    into: Ints, samples: Floats, edges: Ints, steps: int, wanted: tuple[float, ...]
) -> list[Floats]:
    """Return quantiles (s) of distributions together; NaN for steps without any."""
    found = [np.full(steps, np.nan) for _ in wanted]
    if not len(into):
        return found
    edges = edges * _CELLS
    lowest = int(edges.min())
    width = int(edges.max()) - lowest + 2
    at_once = max(1, _MOST_CELLS // width)
    for first in range(0, steps, at_once):
        begin, end = np.searchsorted(into, (first, first + at_once))
        if begin == end:
            continue
        number = min(at_once, steps - first)
        upto = _cumulated(
            into[begin:end] - first, samples[begin:end], edges[begin:end] - lowest, number, width
        )
        total = upto[:, -1]
        some = np.flatnonzero(total > 0)
        for q, values in zip(wanted, found, strict=True):
            at = np.argmax(upto[some] >= (q * total[some] * (1 - 1e-12))[:, None], axis=1)
            values[first + some] = codes.decode((at + lowest) / _CELLS, COARSE)
    return found


def _cumulated(into: Ints, samples: Floats, edges: Ints, steps: int, width: int) -> Floats:
    """Return how many samples are at most at each cell: float64[steps, width]."""
    change = np.zeros(steps * width)
    for place, share in enumerate(_SHARES.tolist()):
        low, high = edges[:, place], edges[:, place + 1]
        # (low, high], so that all samples up to a quantile are at its cell
        length = np.maximum(high - low, 1)
        begin = np.where(high > low, low + 1, low)
        density = samples * share / length
        cell = into * width
        change += np.bincount(cell + begin, density, steps * width)
        change -= np.bincount(cell + begin + length, density, steps * width)
    return np.cumsum(np.cumsum(change.reshape(steps, width), axis=1), axis=1)
