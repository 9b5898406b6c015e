"""How much a stream moves without having changed: fast jitter and slow wander, told apart.

For independent windows the variance of a block's mean is the windows' variance over the block's
length. What block means vary beyond that is autocorrelation: a level that wanders (batch means,
Conway 1963, with three batch sizes). Where a level may follow a trend it is measured about the
baseline that did not know the block yet: then it is the error that the null has to stand, lag
included. Where a trend is news it is measured from one block to the next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.blocks import BLOCK, HYPER, SUPER

Floats = NDArray[Any]

PRIOR_SD = 0.06
PRIOR_BLOCKS = 6.0
LEAST_LONG = 4.0
"""So many long blocks are needed before they say anything."""
CHANCE = 1.64
"""Upper confidence limits, standard errors."""
DEVIATIONS, TREND_DEVIATIONS, ERRORS = 1.5, 2.0, 2.5
"""How many standard deviations of the wander, of its slow part and of the baseline's own error are
in the band. The more of the wander, the slower a small change is found; the fewer, the slower any
change, as `lasting` then takes more from the evidence."""
LASTS = 2.0
"""What many windows of a wander have over a super-block of it: a quarter more at a memory of ten
windows, and a margin, as no path beyond the band is as straight as `lasting` takes it to be."""
MOST_NATS = 25.0
"""Threshold of the largest fleets."""


class Wander(NamedTuple):
    """Relative variances, dimensionless (of the rate over its mean, or of a logarithm).

    Attributes:
        slow: of the wandering level, upper confidence limit.
        trend: the part of it that lasts for hyper-blocks, or may do so.
        long: of the mean of many windows, times their number, trend left out.
    """

    slow: Floats
    trend: Floats
    long: Floats


def wander(spread: Floats) -> Wander:
    """Return the wander of a level, by its baseline's errors.

    Args:
        spread: float32[5, m], as the column of `Blocks`.
    """
    windows = spread[4]
    unit = np.maximum(spread[3], 1e-30)
    seen = []
    for scale, length in enumerate((BLOCK, BLOCK * SUPER, BLOCK * HYPER)):
        # The windows' own variance has the wander in it
        beyond = np.maximum(spread[scale], 0.0) / unit * (length / (length - 1.0))
        number = windows / length
        if scale:
            beyond = np.where(number >= LEAST_LONG, beyond, 0.0)
        if scale < 2:
            beyond *= 1.0 + CHANCE * np.sqrt(2.0 / np.maximum(number - 1.0, 1.0))
        seen.append(beyond)
    block, longer, trend = seen
    many = windows / BLOCK
    slow = many * np.maximum(block, longer) / (many + PRIOR_BLOCKS)
    # Of a young stream nobody knows how long its wander lasts
    young = windows < LEAST_LONG * BLOCK * SUPER
    trend = np.where(young, slow, np.minimum(trend, slow))
    long = LASTS * BLOCK * SUPER * np.maximum(longer - trend, 0.0)
    return Wander(slow, trend, long)


def wander_by_steps(single: Floats, spread: Floats) -> Floats:
    """Return the variance of a wandering level, by half the squares of successive differences.

    A trend leaves these small (von Neumann 1941).

    Args:
        single: float32[m], variance of single windows.
        spread: float32[6, m], of blocks, super-blocks and hyper-blocks: the sum, and the number.
    """
    slow, shorter = np.zeros_like(single), single
    for scale, longer in enumerate((BLOCK, SUPER, HYPER // SUPER)):
        number = spread[2 * scale + 1]
        seen = spread[2 * scale] / np.maximum(number, 1.0)
        # Of independent parts the mean varies by so much less as there are parts
        excess = np.maximum(seen - shorter / longer, 0.0) * (longer / (longer - 1.0))
        excess *= 1.0 + CHANCE * np.sqrt(2.0 / np.maximum(number - 1.0, 1.0))
        if scale:
            excess = np.where(number >= LEAST_LONG, excess, 0.0)
        np.maximum(slow, excess, out=slow)
        shorter = seen
    many = spread[1]
    variance: Floats = many * slow / (many + PRIOR_BLOCKS)
    return variance


def allowance(wandered: Wander, prior: Floats, error: Floats) -> Floats:
    """Return what wander and a baseline's own error add to a band.

    Args:
        wandered: of the stream.
        prior: float32[m], variance of wander that is believed in before any was seen.
        error: float32[m], variance of the baseline's mean.
    """
    added: Floats = np.sqrt(
        DEVIATIONS**2 * (wandered.slow - wandered.trend)
        + TREND_DEVIATIONS**2 * (wandered.trend + prior)
        + ERRORS**2 * error
    )
    return added


def _shares() -> tuple[Floats, Floats]:
    """Return steps, in standard deviations of the wander, and shares of its long-run variance."""
    step = np.arange(0.0, 12.0, 0.25)
    height = np.linspace(DEVIATIONS, np.sqrt(2.0 * MOST_NATS), 200)[:, None]
    gain = step * (height - DEVIATIONS) - 0.5 * step**2
    share = 2.0 * gain * (height**-2.0 - 0.5 / MOST_NATS)
    return step.astype(np.float32), share.max(axis=0).clip(min=0.0).astype(np.float32)


_STEPS, _SHARES = _shares()


def lasting(wandered: Wander, step: Floats) -> Floats:
    """Return the variance per window at which wander alarms as seldom as the threshold says.

    Windows that are taken one by one count a level many times that has gone beyond the band and
    stays there. To stay at height h for n windows costs a level of standard deviation s and
    long-run variance V some h**2 / (2 s**2) + n h**2 / (2 V) nats, and brings an alternative at
    distance a from the band's edge b the evidence n (a (h - b) - a**2 / 2) / v of windows of
    variance v. The first is at least as large as the threshold, when this has reached it, for all h
    if v is at least the share of V that is returned: nothing for an alternative so far off that
    the level never gets there.

    Args:
        wandered: of the streams.
        step: float32[K, 1], distances of the alternatives from the band's edge.

    Returns:
        float32[K, m].
    """
    deviation = np.sqrt(np.maximum(wandered.slow - wandered.trend, 1e-12))
    variance: Floats = np.interp(step / deviation, _STEPS, _SHARES).astype(np.float32)
    variance *= wandered.long
    return variance
