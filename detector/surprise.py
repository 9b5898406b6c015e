"""How surprising a score is for the stream that gave it: tails, habits and episodes.

Streams differ in their tails by far more than in their scale. Above its own 95 % quantile a
robust score z is taken for Pareto: ln z has an exponential excess, whose mean (Hill 1975) is
learned per stream. Both the quantile and the mean are shrunk to the class, which was learned on
public curves: a spiky stream must earn its tail, and labelled faults are part of what it has
seen. Surprise is the excess in units of that mean, so -ln p is ln 20 + surprise, were it exact.

A stream that keeps surprising loses the power to surprise: each episode of the last days takes
off a little (`HABIT`), which is what makes one threshold fit streams of many tempers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detector.parts import At
from detector.table import Column, Table

Floats = NDArray[np.float64]

COMMON: Final = 0.95
CLASS_COMMON: Final = 0.7
"""ln z of the 95 % quantile over the class; a normal has ln 1.96 = 0.67."""
OWN_SHARE, COMMON_WINDOWS = 0.6, 5000.0
"""How far the quantile follows the stream in the end, and after how many windows half of that."""
CLASS_EXCESS, EXCESS_WINDOWS = 0.5, 2000.0
"""Mean excess of the class, and how many exceedances of its own weigh as much."""
MOST_EXCEEDANCES: Final = 2000.0
"""Memory of the mean excess: four weeks of minutes."""
MOST_EXCESS: Final = 3.0
"""One window's excess counts at most this many means; 1.05 undoes that for an exponential."""
LEAST_Z: Final = 0.05
OPEN: Final = 2.0
"""Surprise that opens an episode, and keeps it open."""
CLOSE_WINDOWS, CLOSE_S = 10.0, 60.0
"""An episode closes after this long without, the longer of both."""
HABIT, HABIT_HALF_LIFE_S, FREE_EPISODES = 0.2, 3 * 86_400.0, 1.0

COLUMNS: Mapping[str, Column] = {
    "common": Column("f8", (), CLASS_COMMON),
    "excess": Column("f8", (), CLASS_EXCESS),
    "exceedances": Column("f8"),
    "episodes": Column("f8"),
    "peak": Column("f8"),
}
"""`common`: 95 % quantile of ln z; `excess`: mean of what is above it, over `exceedances`;
`episodes`: how many there were lately; `peak`: the highest surprise of the open episode."""


def surprise(t: Table, at: At, log_z: Floats) -> tuple[Floats, Floats]:
    """Return surprise, float64[m], before and after habit."""
    n = t["n"][at]
    own = OWN_SHARE * n / (n + COMMON_WINDOWS)
    common = CLASS_COMMON + own * (t["common"][at] - CLASS_COMMON)
    raw = (log_z - common) / _excess(t, at)
    habit = HABIT * np.log1p(np.maximum(t["episodes"][at] - FREE_EPISODES, 0.0))
    return raw, raw - habit


def learn(t: Table, at: At, log_z: Floats, spacing: Floats) -> None:
    """Take one window's ln z into the tails; episodes are counted by who follows them."""
    mean = _excess(t, at)
    above = log_z - t["common"][at]
    over = above > 0
    many = np.where(over, np.minimum(t["exceedances"][at] + 1.0, MOST_EXCEEDANCES), 0.0)
    new = 1.05 * np.minimum(above, MOST_EXCESS * mean)
    pull = np.where(over, (new - t["excess"][at]) / np.maximum(many, 1.0), 0.0)
    t["excess"][at] += pull
    t["exceedances"][at] = np.where(over, many, t["exceedances"][at])
    # Robbins-Monro: at rest it rises on one window of twenty as much as it falls on the others
    pace = np.minimum(0.1 / (1.0 - COMMON) * np.maximum(2.0 / (t["n"][at] + 20.0), 0.002), 0.5)
    t["common"][at] += pace * np.where(over, COMMON, COMMON - 1.0)
    t["episodes"][at] *= 0.5 ** (spacing / HABIT_HALF_LIFE_S)


def log_score(news: Floats, noise: Floats) -> Floats:
    """Return ln z, bounded below."""
    log_z: Floats = np.log(np.maximum(np.abs(news) / noise, LEAST_Z))
    return log_z


def _excess(t: Table, at: At) -> Floats:
    many = t["exceedances"][at]
    mean: Floats = (many * t["excess"][at] + EXCESS_WINDOWS * CLASS_EXCESS) / (
        many + EXCESS_WINDOWS
    )
    return mean
