"""How much a stream moves without having changed: fast jitter and slow wander, told apart.

For independent windows the variance of a block's mean is the windows' variance over the block's
length. What block means vary beyond that is autocorrelation: a level that wanders. The excess
of blocks over windows, of super-blocks over blocks, and of hyper-blocks over those estimate the
wander's variance; the largest counts (batch means, Conway 1963, with three batch sizes).
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


class Wander(NamedTuple):
    """Relative variances, dimensionless (of the rate over its mean, or of a logarithm).

    Attributes:
        fast: of single windows about the mean, everything included.
        slow: of the wandering level, upper confidence limit.
    """

    fast: Floats
    slow: Floats


def wander(
    level: Floats, square: Floats, windows: Floats, spread: Floats, *, by_steps: bool = False
) -> Wander:
    """Split the variance of a baseline.

    Args:
        level: float32[m], mean of the windows.
        square: float32[m], mean of the windows' squares.
        windows: float32[m], number of windows.
        spread: float32[6, m], of blocks, super-blocks and hyper-blocks: sum of the squared means,
            and number.
        by_steps: whether it sums half the squares of their successive differences instead (von
            Neumann 1941), which a trend leaves small.
    """
    mean2 = level * level
    single = np.maximum(square - mean2, 0.0) * windows / np.maximum(windows - 1.0, 1.0)
    slow, shorter = np.zeros_like(single), single
    for scale, longer in enumerate((BLOCK, SUPER, HYPER // SUPER)):
        number = spread[2 * scale + 1]
        free = np.maximum(number - 1.0, 1.0)
        seen = spread[2 * scale] / np.maximum(number, 1.0)
        if not by_steps:
            seen = np.maximum(seen - mean2, 0.0) * (number / free)
        # Of independent parts the mean varies by so much less as there are parts
        excess = np.maximum(seen - shorter / longer, 0.0) * (longer / (longer - 1.0))
        excess *= 1.0 + 1.64 * np.sqrt(2.0 / free)
        if scale:
            excess = np.where(number >= LEAST_LONG, excess, 0.0)
        np.maximum(slow, excess, out=slow)
        shorter = seen
    many = spread[1]
    return Wander(single, many * slow / (many + PRIOR_BLOCKS))
