"""Latency samples into histograms, many at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from probes.window import Histograms, no_histograms

_FLOAT_BUCKETS: Final = 130 * 16
"""See `bucket_of_float`."""
_CHUNK: Final = 1024
"""Histograms that are counted at once: their bins fit the cache."""


def bucket_of_float(nanoseconds: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return `probes.histogram.bucket_of` for float32 of at least 16 ns; less counts as 16.

    A float32 is an exponent, biased by 127, and a fraction, of which the four highest bits say
    which sixteenth of its power of two it falls into: the bucket stands in its bits.
    """
    clipped = np.clip(nanoseconds, np.float32(16.0), np.float32(1e18))
    bits: NDArray[np.int32] = clipped.view(np.int32)
    bucket: NDArray[np.int32] = (bits >> 19) - _FLOAT_BUCKETS
    return bucket


def histograms_of(stream: NDArray[np.int32], bucket: NDArray[np.int32], streams: int) -> Histograms:
    """Return the histograms of samples.

    Args:
        stream: int32[n], whose sample it is, in 0 .. streams - 1; ascending.
        bucket: int32[n], what it fell into.
        streams: how many there are.

    Returns:
        Histograms whose `row` is the stream.
    """
    if len(stream) == 0:
        return no_histograms()
    edges = np.searchsorted(stream, np.arange(0, streams + _CHUNK, _CHUNK))
    parts = [
        _count(stream[a:b] - np.int32(i * _CHUNK), bucket[a:b], i * _CHUNK)
        for i, (a, b) in enumerate(pairwise(edges.tolist()))
        if b > a
    ]
    return Histograms(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _count(stream: NDArray[np.int32], bucket: NDArray[np.int32], first: int) -> Histograms:
    least = int(bucket.min())
    span = int(bucket.max()) - least + 1
    key = stream * np.int32(span) + (bucket - np.int32(least))
    bins = int(stream[-1] + 1) * span
    if bins <= 64 * len(stream):
        numbers = np.bincount(key, minlength=bins)
        filled = np.flatnonzero(numbers)
        number = numbers[filled]
    else:  # few samples over many bins
        filled, number = np.unique(key, return_counts=True)
    return Histograms(
        (filled // span + first).astype(np.int32),
        (filled % span + least).astype(np.int16),
        number.astype(np.int64),
    )
