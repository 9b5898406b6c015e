"""A series as a line of bars, for terminals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alerts.history import BARS


def sparkline(values: NDArray[np.float64], *, width: int = 24, top: float | None = None) -> str:
    """Return a line of bars from nothing (lowest) to the largest value (highest).

    Args:
        values: float64[n], at equal distances, NaN where there is none; a bar is the mean of the
            values that it stands for, and of nothing a space.
        width: at most so many bars.
        top: what the highest bar stands for; None for the highest there is.

    Returns:
        At most `width` characters; "" when there is no value at all.
    """
    averages = means(np.asarray(values, np.float64), width)
    there = averages[np.isfinite(averages)]
    if not there.size:
        return ""
    top = float(there.max()) if top is None else top
    heights = np.zeros(len(averages)) if top <= 0.0 else np.round(7.0 * averages / top)
    return "".join(
        BARS[min(max(int(height), 0), 7)] if known else " "
        for height, known in zip(np.nan_to_num(heights), np.isfinite(averages), strict=True)
    )


def means(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return float64[width or less], the means of equally long parts, NaN where nothing is."""
    if len(values) <= width:
        return values
    part = np.arange(len(values)) * width // len(values)
    there = np.isfinite(values)
    number = np.bincount(part[there], minlength=width)
    total = np.bincount(part[there], values[there], minlength=width)
    found = np.full(width, np.nan)
    np.divide(total, number, out=found, where=number > 0)
    return found
