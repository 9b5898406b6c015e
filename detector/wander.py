"""How much a stream moves without having changed: fast jitter and slow wander, told apart.

For independent windows the variance of a block's mean is the windows' variance over the block's
length. What block means vary beyond that is autocorrelation: a level that wanders. The excess
of blocks over windows, and of super-blocks over blocks, estimates the wander's variance; the
larger of the two counts (batch means, Conway 1963, with two batch sizes).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.bank import BLOCK, SUPER

Floats = NDArray[np.float64]

PRIOR_SD = 0.06
PRIOR_BLOCKS = 6.0


class Wander(NamedTuple):
    """Relative variances, dimensionless (of the rate over its mean, or of a logarithm).

    Attributes:
        fast: of single windows about the mean, everything included.
        slow: of the wandering level, upper confidence limit.
    """

    fast: Floats
    slow: Floats


def wander(
    single: Floats, blocks: Floats, supers: Floats, windows: Floats, extra: Floats
) -> Wander:
    """Split the variance of a baseline.

    Args:
        single: float64[m], variance of windows.
        blocks: float64[m], variance of block means.
        supers: float64[m], variance of super-block means.
        windows: float64[m], number of windows.
        extra: float64[m, >= 4], number of blocks in column 1, of super-blocks in column 3.
    """
    many, long = extra[:, 1], extra[:, 3]
    one = single * windows / np.maximum(windows - 1.0, 1.0)
    five = blocks * many / np.maximum(many - 1.0, 1.0)
    twenty = supers * long / np.maximum(long - 1.0, 1.0)
    by_block = np.maximum(five - one / BLOCK, 0.0) * BLOCK / (BLOCK - 1.0)
    by_super = np.maximum(twenty - five / SUPER, 0.0) * SUPER / (SUPER - 1.0)
    by_block = by_block * (1.0 + 1.64 * np.sqrt(2.0 / np.maximum(many - 1.0, 1.0)))
    by_super = by_super * (1.0 + 1.64 * np.sqrt(2.0 / np.maximum(long - 1.0, 1.0)))
    seen = np.maximum(by_block, np.where(long >= 4.0, by_super, 0.0))
    slow = (many * seen + PRIOR_BLOCKS * PRIOR_SD**2) / (many + PRIOR_BLOCKS)
    return Wander(one, slow)
