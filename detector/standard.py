"""Streams of any kind on one scale: deviations from their own baseline, as plain numbers."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probes.window import Kind

Floats = NDArray[np.float64]
Kinds = NDArray[np.int64]

COUNT, SUM, RATIO, LATENCY, GAUGE = range(5)
KINDS: Final = (Kind.COUNT, Kind.SUM, Kind.RATIO, Kind.LATENCY, Kind.GAUGE)
"""The kinds by their numbers here."""
CLIP: Final = 10.0
"""Most deviations that are told."""
LEAST_SCALE: Final = (1.0, 0.05, 1.0, 0.05, 0.0)
"""Below it nothing is news: of counts, the square root's own; of sums and latencies, 5 %."""
BLOCKS: Final = (1, 5, 20, 60)
"""Windows per block: what wanders slower than a window has a larger spread in the mean of some."""
LEAST_BLOCKS: Final = 4


class Baseline(NamedTuple):
    """Where a stream is when nothing is wrong, on its transformed scale (`transformed`)."""

    location: float
    scale: float


def usable(kind: Kinds, value: Floats, count: Floats) -> NDArray[np.bool_]:
    """Return which rows hold a number that their kind can have; all bool/float64[m]."""
    # NaN fails every comparison; what is beyond all measure is as good as infinite
    good = np.abs(value) < np.where(kind == GAUGE, 1e30, 1e15)
    good &= (kind == GAUGE) | (value >= 0.0)
    known = ((count > 0) & (count < 1e15)) | np.isnan(count)
    good &= (kind != RATIO) | (known & (value <= 1.0 + 1e-9))
    good &= (kind != LATENCY) | (value > 0.0)
    return good


def transformed(kind: Kinds, value: Floats, seconds: Floats) -> Floats:
    """Return values on a scale on which their spread does not depend on their level.

    Counts: twice the square root of the number in a window (Anscombe 1948); sums and latencies:
    the logarithm; ratios and gauges: as they are.

    Args:
        kind: int64[m], numbers of kinds.
        value: float64[m], in the signal's own unit, usable.
        seconds: float64[m], length of a window.
    """
    y = value.astype(np.float64)
    with np.errstate(all="ignore"):  # each kind takes its own branch only
        y = np.where(kind == COUNT, 2.0 * np.sqrt(value * seconds + 0.375), y)
        y = np.where(kind == RATIO, np.minimum(value, 1.0), y)
        y = np.where(kind == SUM, np.log1p(value), y)
        return np.where(kind == LATENCY, np.log(value), y)


def level(kind: int, y: float, seconds: float) -> float:
    """Return a transformed value in the signal's own unit."""
    if kind == COUNT:
        return max((y / 2.0) ** 2 - 0.375, 0.0) / seconds
    if kind == SUM:
        return float(np.expm1(y))
    return float(np.exp(y)) if kind == LATENCY else float(y)


def mean(kind: int, y: Floats, trials: Floats) -> float:
    """Return the mean of transformed values; of ratios, pooled with their denominators."""
    if kind == RATIO:
        return float((y * trials).sum() / trials.sum())
    return float(y.mean())


def baseline(kind: int, y: Floats, trials: Floats) -> Baseline:
    """Return the baseline of a stream's history.

    The scale is the largest that blocks of windows show, so that what is autocorrelated does not
    look changed; single outliers are clipped before.

    Args:
        kind: number of the kind.
        y: float64[n], transformed values, n > 0.
        trials: float64[n], denominators; of ratios only.
    """
    if kind == RATIO:
        share = float((np.sum(y * trials) + 0.5) / (np.sum(trials) + 1.0))
        return Baseline(share, max(_spread(_of_ratio(y, trials, share)), 1.0))
    location = float(np.median(y))
    least = LEAST_SCALE[kind]
    if kind == GAUGE:
        steps = np.abs(np.diff(y))
        steps = steps[steps > 0]
        step = 0.05 * float(np.median(steps)) if len(steps) else 0.0
        least = max(0.01 * abs(location), step, 1e-12)
    return Baseline(location, max(_spread(y - location), least))


def deviations(
    kind: Kinds, y: Floats, trials: Floats, location: Floats, scale: Floats
) -> NDArray[np.float64]:
    """Return by how many of its own scales each value is off its baseline, within +-`CLIP`."""
    z = y - location
    ratio = kind == RATIO
    if ratio.any():
        z[ratio] = _of_ratio(y[ratio], trials[ratio], location[ratio])
    return np.clip(z / scale, -CLIP, CLIP)


def _of_ratio(y: Floats, trials: Floats, share: Floats | float) -> Floats:
    """Return standardised hits; the 1 keeps one failure of one attempt from being news."""
    z: Floats = (y - share) * trials / np.sqrt(trials * share * (1.0 - share) + 1.0)
    return z


def _spread(residual: Floats) -> float:
    """Return the long-run standard deviation: of blocks' means, in units of one window's."""
    reach = 5.0 * 1.4826 * float(np.median(np.abs(residual)))
    clipped = np.clip(residual, -reach, reach) if reach > 0 else residual
    largest = 0.0
    for size in BLOCKS:
        blocks = len(clipped) // size
        if blocks < LEAST_BLOCKS and size > 1:
            break
        sums = clipped[len(clipped) - blocks * size :].reshape(blocks, size).sum(axis=1)
        # Few blocks may have been calm by chance
        doubt = 1.0 + np.sqrt(2.0 / max(blocks, 1))
        largest = max(largest, float(doubt * np.sqrt(np.mean(sums**2) / size)))
    return largest
