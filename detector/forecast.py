"""What a gauge should read next: a slow level, the shape of the day, and a fast level.

Three robust averages, one upon the other. The slow level and the profile of the day say where
the stream belongs; the fast level follows what they miss (a busier day, a holiday, a new normal),
so that a jump is news and a slow swing is not. All learn from every window, but no window pulls
further than `CLIP` scales (Huber), so that a fault of minutes teaches nearly nothing. A stream
that stays beyond that reach on one side for more than `PATIENCE` windows has a new level: the
reach then grows with every window, and the level is followed within as many again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.parts import At
from detector.table import Column, Table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_S: Final = 86_400.0
BUCKETS: Final = 96
"""Of the profile: a quarter of an hour each, time of day in UTC."""
LEVEL_HALF_LIFE_S: Final = DAY_S
SCALE_HALF_LIFE_S: Final = 3 * DAY_S
FAST_HALF_LIFE_S: Final = 1200.0
CLIP: Final = 2.5
YOUNG_WINDOWS, YOUNG_CLIP = 200.0, 10.0
"""While the scale is hardly known, windows may pull further."""
LEAST_SEASONAL_GAIN: Final = 0.03
PATIENCE: Final = 15.0
STEP_GAIN: Final = 0.01
MEAN_TO_SD: Final = 1.28
"""Standard deviation over mean absolute deviation of a normal, with what the clip takes away."""

COLUMNS: Mapping[str, Column] = {
    "n": Column("f8"),
    "days": Column("f8"),
    "level": Column("f8"),
    "seasonal": Column("f4", (BUCKETS,)),
    "scale": Column("f8"),
    "fast": Column("f8"),
    "noise": Column("f8"),
    "side": Column("f4"),
    "still": Column("f8"),
    "step": Column("f8"),
    "last": Column("f8", (), np.nan),
}
"""`n`: windows learned; `days`: the same as time; `scale`: of residuals about level and profile;
`noise`: of residuals about the fast level too; `side`: windows in a row out of reach, signed;
`still`: share of windows that repeat the last value; `step`: usual size of a move."""


class Forecast(NamedTuple):
    """One window against what was expected of it; all float64[m], in the gauge's unit.

    Attributes:
        value: what was read.
        residual: distance from slow level and profile.
        news: distance from the fast level too: what is judged.
        least: least scale that means anything on this stream.
        noise: usual size of `news`, `least / 2` at least.
    """

    value: Floats
    residual: Floats
    news: Floats
    least: Floats
    noise: Floats


def forecast(t: Table, at: At, value: Floats, time: float) -> Forecast:
    """Return how the windows of streams `at` compare with what was expected.

    Args:
        t: the bank's table.
        at: the streams.
        value: float64[m], what was read.
        time: start of the window, epoch seconds.
    """
    level = np.where(t["n"][at] > 0, t["level"][at], value)
    residual = value - level - t["seasonal"][bucket(time), at]
    news = residual - t["fast"][at]
    # Flat and quantised curves: below 1 % of the level or a small step nothing is news. On a
    # curve that mostly stands still the size of its moves is the only scale there is
    least = np.maximum(0.05, t["still"][at]) * t["step"][at]
    least = np.maximum(np.maximum(0.01 * np.abs(level), least), 1e-9)
    return Forecast(value, residual, news, least, np.maximum(t["noise"][at], 0.5 * least))


def learn(t: Table, at: At, seen: Forecast, time: float, spacing: Floats) -> None:
    """Take the windows of streams `at` into the averages; `spacing` float64[m] or [1], seconds."""
    n = t["n"][at] + 1.0
    clip = np.where(n < YOUNG_WINDOWS, YOUNG_CLIP, CLIP)
    gain = np.maximum(1.0 - 0.5 ** (spacing / SCALE_HALF_LIFE_S), 1.0 / (n + 1.0))
    pull = clip * np.maximum(t["scale"][at], 0.3 * seen.least)
    pull = np.clip(seen.residual, -pull, pull)
    _learn_steps(t, at, seen.value, gain)
    _learn_season(t, at, (seen.value, pull), bucket(time), spacing)
    t["scale"][at] += gain * (MEAN_TO_SD * np.abs(pull) - t["scale"][at])
    reach = clip * seen.noise
    far = np.sign(seen.news) * (np.abs(seen.news) > reach)
    side = t["side"][at]
    side = np.where(far == 0.0, 0.0, np.where(side * far > 0, side + far, far))
    t["side"][at] = side
    drift = reach * np.maximum(np.abs(side) - PATIENCE, 1.0)
    fast = 1.0 - 0.5 ** (spacing / FAST_HALF_LIFE_S)
    t["fast"][at] += fast * np.clip(seen.news, -drift, drift)
    moved = np.minimum(np.abs(seen.news), reach)
    t["noise"][at] += gain * (MEAN_TO_SD * moved - t["noise"][at])
    t["n"][at] = n
    t["days"][at] += spacing / DAY_S


def anchor(t: Table, at: Ints, residual: Floats) -> None:
    """Put the fast level of streams `at` where they are now: nothing is known of them."""
    t["fast"][at] = residual
    t["side"][at] = 0.0


def bucket(time: float) -> int:
    """Return the bucket of the day."""
    return min(int(time % DAY_S / (DAY_S / BUCKETS)), BUCKETS - 1)


def _learn_steps(t: Table, at: At, value: Floats, gain: Floats) -> None:
    """Learn how often and how far the value moves; a move's absence says nothing of its size."""
    first = np.isnan(t["last"][at])
    step = np.where(first, 0.0, np.abs(value - t["last"][at]))
    usual, moved = t["step"][at], step > 0
    new = usual + STEP_GAIN * (np.minimum(step, 5.0 * usual + 1e-12) - usual)
    t["step"][at] = np.where(moved, np.where(usual > 0, new, step), usual)
    t["still"][at] += gain * (~moved - t["still"][at])
    t["last"][at] = value


def _learn_season(
    t: Table, at: At, read: tuple[Floats, Floats], here: int, spacing: Floats
) -> None:
    value, pull = read
    n = t["n"][at] + 1.0
    t["level"][at] = np.where(n == 1.0, value, t["level"][at])
    gain = np.maximum(1.0 - 0.5 ** (spacing / LEVEL_HALF_LIFE_S), 1.0 / (n + 1.0))
    t["level"][at] += np.minimum(gain, 0.2) * pull
    share = np.minimum(spacing / (DAY_S / BUCKETS), 1.0)
    seasonal = np.clip(2.0 / (1.0 + t["days"][at]), LEAST_SEASONAL_GAIN, 1.0)
    t["seasonal"][here, at] += seasonal * share * pull
