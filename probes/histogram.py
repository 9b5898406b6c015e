"""Log-scale buckets for durations, the same in the kernel and in user space.

A duration in nanoseconds falls into one of 16 equal steps of its power of two, so a bucket
is at most 6.25 % wide and its midpoint at most 3.2 % off: the HDR histogram's scheme
(Tene, https://hdrhistogram.org) with four significant bits. `bpf/tcp.c` computes the same
index; `tests/test_histogram.py` holds the two against each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

SUB_BITS = 4
SUB = 1 << SUB_BITS
BUCKETS = (64 - SUB_BITS + 1) * SUB
"""Number of buckets: indices are 0 .. BUCKETS - 1."""


def bucket_of(duration_ns: ArrayLike) -> NDArray[np.int64]:
    """Return the bucket index of each duration.

    Args:
        duration_ns: durations in nanoseconds, below 2**53; negative ones count as 0.

    Returns:
        int64 array of the same shape.
    """
    value = np.maximum(np.asarray(duration_ns, dtype=np.int64), 0)
    # frexp is exact for integers below 2**53: value = mantissa * 2**exponent, mantissa in [.5, 1)
    exponent = np.frexp(value.astype(np.float64))[1].astype(np.int64)
    shift: NDArray[np.int64] = np.maximum(exponent - 1 - SUB_BITS, 0)
    index: NDArray[np.int64] = shift * SUB + (value >> shift)
    return index


def lower_edge_s(bucket: ArrayLike) -> NDArray[np.float64]:
    """Return the lower edge of each bucket, in seconds (the upper edge is that of bucket + 1)."""
    index = np.asarray(bucket, dtype=np.int64)
    shift = np.maximum(index // SUB - 1, 0)
    edge: NDArray[np.float64] = np.ldexp((index - shift * SUB).astype(np.float64), shift) * 1e-9
    return edge


def quantile_s(buckets: ArrayLike, counts: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Return quantiles of a histogram, in seconds, interpolated within the bucket.

    Args:
        buckets: int[k], bucket indices in any order, repeats allowed.
        counts: number[k], how many samples fell into each.
        q: quantiles in [0, 1].

    Returns:
        float64 array of the shape of `q`; NaN where the histogram is empty.
    """
    index = np.asarray(buckets, dtype=np.int64)
    number = np.asarray(counts, dtype=np.float64)
    wanted = np.asarray(q, dtype=np.float64)
    order = np.argsort(index, kind="stable")
    index, number = index[order], number[order]
    total = number.sum()
    if total <= 0:
        return np.full(wanted.shape, np.nan)
    upto = np.cumsum(number)
    rank = wanted * total
    at = np.minimum(np.searchsorted(upto, rank, side="left"), len(index) - 1)
    below = upto[at] - number[at]
    within = np.clip((rank - below) / np.maximum(number[at], 1e-300), 0.0, 1.0)
    low, high = lower_edge_s(index[at]), lower_edge_s(index[at] + 1)
    value: NDArray[np.float64] = low + within * (high - low)
    return value


def quantile_by_group_s(
    group: NDArray[np.int64],
    bucket: NDArray[np.int64],
    number: NDArray[np.int64],
    q: ArrayLike,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return quantiles of many histograms at once.

    Args:
        group: int64[k], which histogram an entry belongs to; ascending.
        bucket: int64[k]; ascending within a group.
        number: int64[k], > 0.
        q: quantiles in [0, 1], one or an array.

    Returns:
        (groups int64[g] ascending, seconds float64[*shape of q, g], samples int64[g]).
    """
    groups, start = np.unique(group, return_index=True)
    if not len(groups):
        return groups, np.empty((*np.shape(q), 0)), np.empty(0, np.int64)
    upto = np.cumsum(number)
    before = upto[start] - number[start]
    total = np.add.reduceat(number, start)
    # the running sum over all groups is ascending, so one search serves every group
    rank = before + np.multiply.outer(np.asarray(q), total)
    last = np.append(start[1:], len(group)) - 1
    at = np.clip(np.searchsorted(upto, rank, side="left"), start, last)
    within = np.clip((rank - (upto[at] - number[at])) / number[at], 0.0, 1.0)
    low, high = lower_edge_s(bucket[at]), lower_edge_s(bucket[at] + 1)
    return groups, low + within * (high - low), total
