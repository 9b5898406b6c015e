"""The mixture Shiryaev-Roberts e-detector that every model shares.

Source: Shin, Ramdas, Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection" (arXiv 2203.03532). For likelihood ratios L with E[L | past] <= 1 while nothing has
changed, R = (1 + R) L crosses c at most once in c windows on average, whatever the dependence
between streams. A weighted mean of R over alternatives keeps the property, and so does any
capping of L from above. R >= L, so the test of a single window is part of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
"""float32 or float64."""

SECONDS_PER_WEEK = 604_800.0
CEILING = np.float32(1e30)
"""R is cut here: far above any threshold, far below overflow."""
PAUSE_S = 3.0
"""No change is reported on less: a host or a service that pauses for a second has not changed."""


LEAST_NATS = 6.0
"""No threshold is lower (1 in 400 windows): a huge budget is no licence for pure noise."""


def log_threshold(streams: int, spacing_s: Floats, alerts_per_week: float) -> Floats:
    """Return ln c per stream so that all together give `alerts_per_week` false alarms.

    Args:
        streams: how many streams share the budget.
        spacing_s: float[m] or scalar, seconds between the windows of each stream.
        alerts_per_week: the budget, > 0.
    """
    windows = SECONDS_PER_WEEK / np.maximum(spacing_s, 1e-3)
    budget: Floats = np.log(max(streams, 1) * windows / max(alerts_per_week, 1e-9))
    return np.maximum(budget, LEAST_NATS)


def window_cap(log_c: Floats, spacing_s: Floats, pause_s: float = PAUSE_S) -> Floats:
    """Return the most that one window may contribute, nats, so that a pause cannot fire alone.

    As many windows are the least as begin within a pause, and no more than that many of a second.
    """
    least = np.clip(np.ceil(pause_s / np.maximum(spacing_s, 1e-3)), 1.0, pause_s)
    # Just above what a single window needs, where one is enough
    cap: Floats
    if len(least) == 1:
        cap = log_c / least if least[0] > 1.0 else log_c + np.float32(1.0)
    else:
        cap = np.where(least > 1.0, log_c / least, log_c + 1.0)
    return cap


def step(r: Floats, log_l: Floats, cap: Floats) -> None:
    """Move R on by one window, in place; `log_l` becomes L, capped.

    Args:
        r: float32[K, m], R of each alternative and stream.
        log_l: float32[K, m], ln L of this window.
        cap: float32[m] or scalar, most that one window may contribute, nats.
    """
    np.minimum(log_l, cap, out=log_l)
    np.exp(log_l, out=log_l)
    np.add(r, np.float32(1.0), out=r)
    np.multiply(r, log_l, out=r)
    np.minimum(r, CEILING, out=r)


def negative_binomial(x: Floats, mean: Floats, shape: Floats, factor: Floats) -> Floats:
    """Return ln of NB(factor * mean, shape) over NB(mean, shape) at x.

    All broadcast.

    Args:
        x: events counted.
        mean: mean at the null's edge, > 0.
        shape: r = 1 / dispersion: variance = mean + mean**2 / r.
        factor: the alternatives, in units of the mean.
    """
    ratio: Floats = x * np.log(factor) - (x + shape) * np.log1p(
        (factor - 1.0) * mean / (shape + mean)
    )
    return ratio


def binomial(hits: Floats, trials: Floats, null: Floats, alternative: Floats) -> Floats:
    """Return ln of Binomial(trials, alternative) over Binomial(trials, null) at hits.

    All broadcast; null and alternative lie inside (0, 1). No trials give 0: no evidence.
    """
    ratio: Floats = hits * np.log(alternative / null) + (trials - hits) * np.log(
        (1.0 - alternative) / (1.0 - null)
    )
    return ratio
