"""Numbers as small integers on a logarithmic scale, and the rows that are made of them.

A value is kept within 1 %, a quantile within 2 %, an extreme within 3 %: what a picture shows.
Small integers so close to each other are what compresses well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probes.window import Kind

LEAST: Final = 1e-9
"""The least magnitude that is not 0: a nanosecond."""
FINE: Final = float(np.log(1.02))
COARSE: Final = 2 * FINE
"""Width of a code, in natural logarithms of the value."""
_MOST: Final = 30_000

QUANTILES: Final = (0.5, 0.1, 0.0, 0.9, 0.99, 1.0)
"""Of a latency's distribution, in the order of the columns."""
COLUMNS: Final = 2 + len(QUANTILES) - 1
"""Of codes in a row; what each means depends on the kind of the signal:

- rates and gauges: seconds that were seen, mean, mean - least, most - mean
- ratios: of how many, how many
- latencies: samples, p50, p50 - p10, p10 - p0, p90 - p50, p99 - p90, p100 - p99

All are codes or differences of codes; the rest is 0. Where the least is exactly 0, its difference
is `ZERO`.
"""
ZERO: Final = -1

Floats = NDArray[np.float64]
Codes = NDArray[np.int16]


class Rows(NamedTuple):
    """One row per stream and step.

    Attributes:
        pair: int32[n], number of the pair in the store.
        signal: int16[n], number of the signal in the store.
        step: int64[n], start of the step, epoch seconds.
        codes: int16[n, COLUMNS].
    """

    pair: NDArray[np.int32]
    signal: NDArray[np.int16]
    step: NDArray[np.int64]
    codes: Codes

    def take(self, which: NDArray[Any]) -> Rows:
        """Return some of the rows."""
        return Rows(self.pair[which], self.signal[which], self.step[which], self.codes[which])


def no_rows() -> Rows:
    """Return no rows."""
    return Rows(
        np.empty(0, np.int32),
        np.empty(0, np.int16),
        np.empty(0, np.int64),
        np.empty((0, COLUMNS), np.int16),
    )


def concatenated(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several, one after the other."""
    if not parts:
        return no_rows()
    return Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def summed(into: NDArray[Any], values: NDArray[Any], groups: int) -> Floats:
    """Return the sums of values by group, float64[groups]."""
    return np.bincount(into, values, groups).astype(np.float64)


def is_rate(kind: Kind) -> bool:
    """Return whether a signal's rows are means and extremes over time."""
    return kind not in (Kind.RATIO, Kind.LATENCY)


def encode(value: Floats, width: float = FINE) -> NDArray[np.int64]:
    """Return the codes of finite values: 0 is 0, and the sign is kept."""
    size = np.abs(value)
    with np.errstate(divide="ignore"):
        code = np.rint((np.log(size) - np.log(LEAST)) / width) + 1
    code = np.where(size < LEAST, 0, np.clip(code, 1, _MOST))
    signed: NDArray[np.int64] = np.where(value < 0, -code, code).astype(np.int64)
    return signed


def decode(code: NDArray[Any], width: float = FINE) -> Floats:
    """Return the values of codes."""
    size = np.abs(code.astype(np.float64))
    value: Floats = np.where(size == 0, 0.0, np.sign(code) * LEAST * np.exp((size - 1) * width))
    return value


def encode_rates(seconds: Floats, mean: Floats, least: Floats, most: Floats) -> Codes:
    """Return the codes of rates or gauges."""
    middle = encode(mean)
    codes = np.zeros((len(mean), COLUMNS), np.int16)
    codes[:, 0], codes[:, 1] = encode(seconds), middle
    codes[:, 2] = np.maximum((middle - encode(least)) // 2, 0)
    codes[(least == 0) & (mean != 0), 2] = ZERO
    codes[:, 3] = np.maximum((encode(most) - middle) // 2, 0)
    return codes


def decode_rates(codes: Codes) -> tuple[Floats, Floats, Floats, Floats]:
    """Return seconds, mean, least and most."""
    wide = codes.astype(np.int64)
    least = decode(wide[:, 1] - 2 * wide[:, 2])
    return (
        decode(wide[:, 0]),
        decode(wide[:, 1]),
        np.where(wide[:, 2] == ZERO, 0.0, least),
        decode(wide[:, 1] + 2 * wide[:, 3]),
    )


def encode_ratios(of: Floats, hits: Floats) -> Codes:
    """Return the codes of ratios."""
    codes = np.zeros((len(of), COLUMNS), np.int16)
    codes[:, 0], codes[:, 1] = encode(of), encode(hits)
    return codes


def decode_ratios(codes: Codes) -> tuple[Floats, Floats]:
    """Return of how many, and how many; small whole numbers come back exactly."""
    of, hits = (_whole(decode(codes[:, column])) for column in (0, 1))
    return of, np.minimum(hits, of)


def _whole(value: Floats) -> Floats:
    near = np.rint(value)
    return np.where((value < 40) & (np.abs(value - near) <= 0.01 * value), near, value)


def encode_latencies(samples: Floats, quantiles: Floats) -> Codes:
    """Return the codes of latencies.

    Args:
        samples: float64[n].
        quantiles: float64[n, len(QUANTILES)], seconds.
    """
    p50, p10, p0, p90, p99, p100 = encode(quantiles, COARSE).T
    codes = np.zeros((len(samples), COLUMNS), np.int16)
    codes[:, 0], codes[:, 1] = encode(samples), p50
    for column, (more, less) in enumerate(
        ((p50, p10), (p10, p0), (p90, p50), (p99, p90), (p100, p99)), start=2
    ):
        codes[:, column] = more - less
    return codes


def decode_latencies(codes: Codes) -> tuple[Floats, NDArray[np.int64]]:
    """Return samples, and the quantiles' codes, ascending: int64[n, len(QUANTILES)]."""
    wide = codes.astype(np.int64)
    p50 = wide[:, 1]
    p10 = p50 - wide[:, 2]
    p90 = p50 + wide[:, 4]
    p99 = p90 + wide[:, 5]
    ascending = np.stack([p10 - wide[:, 3], p10, p50, p90, p99, p99 + wide[:, 6]], axis=1)
    return _whole(decode(codes[:, 0])), ascending
