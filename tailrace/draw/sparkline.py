"""A series as a line of bars, for terminals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alerts.history import BARS


def sparkline(values: NDArray[np.float64], *, width: int = 24) -> str:
    """Return a line of bars from nothing (lowest) to the largest value (highest).

    Args:
        values: float64[n], at equal distances, NaN where there is none; a bar is the mean of the
            values that it stands for, and of nothing a space.
        width: at most so many bars.

    Returns:
        At most `width` characters; "" when there is no value at all.
    """
    means = _means(np.asarray(values, np.float64), width)
    there = means[np.isfinite(means)]
    if not there.size:
        return ""
    top = float(there.max())
    heights = np.zeros(len(means)) if top <= 0.0 else np.round(7.0 * means / top)
    return "".join(
        BARS[min(max(int(height), 0), 7)] if there else " "
        for height, there in zip(heights, np.isfinite(means), strict=True)
    )


def _means(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    if len(values) <= width:
        return values
    part = np.arange(len(values)) * width // len(values)
    there = np.isfinite(values)
    number = np.bincount(part[there], minlength=width)
    total = np.bincount(part[there], values[there], minlength=width)
    means = np.full(width, np.nan)
    np.divide(total, number, out=means, where=number > 0)
    return means
