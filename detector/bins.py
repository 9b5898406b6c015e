"""Histograms of latencies in few bins, fine around a stream's own middle and coarse beyond."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from probes.histogram import BUCKETS, lower_edge_s

Floats = NDArray[Any]
Ints = NDArray[np.int64]

_WIDTHS: Final = (16, *(8,) * 2, *(4,) * 12, *(8,) * 8, 16)
"""Buckets of the probes, 16 to the octave, per bin: an octave, two halves, three octaves in
quarters, four in halves, and all beyond."""
BINS: Final = len(_WIDTHS)
LOWER: Final = np.concatenate([[0], np.cumsum(_WIDTHS)]).astype(np.float32)
"""Edges of the bins, in buckets after the origin."""
REACH: Final = int(LOWER[-1])
MIDDLE: Final = 48
"""Where a stream's median shall lie, in buckets after the origin ..."""
EARLIEST: Final = 36
LATEST: Final = 66
"""... and where it may."""
_BIN_OF: Final = np.repeat(np.arange(BINS), _WIDTHS)
_EDGES_S: Final = lower_edge_s(np.arange(BUCKETS + 1))


def bin_of(bucket: NDArray[Any], origin: NDArray[Any]) -> Ints:
    """Return the bin of each bucket of a stream with that origin; both int[k]."""
    found: Ints = _BIN_OF[np.clip(bucket - origin, 0, REACH - 1)]
    return found


def summed(bins: Floats) -> Floats:
    """Return float32[BINS, m]: samples in each bin and all below."""
    upto = bins.astype(np.float32)
    for row in range(1, BINS):
        upto[row] += upto[row - 1]
    return upto


def quantiles(upto: Floats, share: Floats) -> Floats:
    """Return a quantile of each stream, in buckets after its origin.

    Args:
        upto: float32[BINS, m], as `summed` returns it.
        share: float32[m], the quantile wanted of each, in [0, 1].

    Returns:
        float32[m]; within the bins, whose outermost stand for all beyond.
    """
    rank = share * upto[-1]
    at = np.minimum(np.add.reduce(upto < rank, axis=0, dtype=np.int8), BINS - 1).astype(np.int64)
    each = np.arange(upto.shape[1])
    below = np.where(at > 0, upto[at - 1, each], 0.0)
    inside = (rank - below) / np.maximum(upto[at, each] - below, 1e-30)
    found: Floats = LOWER[at] + np.clip(inside, 0.0, 1.0) * (LOWER[at + 1] - LOWER[at])
    return found


def seconds(position: Floats) -> Floats:
    """Return the duration at a position, in buckets and parts of one."""
    whole = np.clip(position, 0, BUCKETS - 1).astype(np.int64)
    low, high = _EDGES_S[whole], _EDGES_S[whole + 1]
    duration: Floats = low + (np.clip(position, 0, BUCKETS) - whole) * (high - low)
    return duration


def rebinned(bins: Floats, shift: Ints) -> Floats:
    """Return the histograms of streams whose origins move up by `shift` buckets, int64[m]."""
    middle = (LOWER[:-1] + LOWER[1:]) / 2.0
    where = bin_of(middle[:, None].astype(np.int64), shift[None, :])
    moved = np.zeros_like(bins)
    np.add.at(moved, (where, np.arange(bins.shape[1])[None, :]), bins)
    return moved
