"""Laws of streams of traffic, and changes of them, as numbers or one number per stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Per = float | Floats
"""One number for all streams, or float64[M], one for each."""

DAY_S: Final = 86_400.0
BEGIN: Final = 1_700_006_400.0
"""Start of the first window unless told: midnight UTC of Wednesday, 15 November 2023."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Law:
    """How many events (requests, attempts) a stream has in a window.

    Attributes:
        mean: expected events in a window, > 0.
        dispersion: r of the negative binomial, whose variance is m + m**2 / r; inf for Poisson.
        wobble: standard deviation of the logarithm of the level, stationary.
        memory: correlation of that logarithm from one window to the next, in [0, 1).
        daily: amplitude of a daily sine, in [0, 1); 0 for none.
        phase: of that sine, in days; "random" gives each stream its own.
    """

    mean: Per = 10.0
    dispersion: Per = math.inf
    wobble: Per = 0.0
    memory: Per = 0.0
    daily: Per = 0.0
    phase: Per | str = 0.0

    def __post_init__(self) -> None:
        need(np.asarray(self.mean) > 0, "mean is above 0")
        need(np.asarray(self.dispersion) > 0, "dispersion is above 0")
        need(np.asarray(self.wobble) >= 0, "wobble is 0 or more")
        need((np.asarray(self.memory) >= 0) & (np.asarray(self.memory) < 1), "memory in [0, 1)")
        need((np.asarray(self.daily) >= 0) & (np.asarray(self.daily) < 1), "daily in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Effect:
    """A change of known size, for as long as it is passed.

    Attributes:
        rate: factor on the expected events; 0 for silence.
        share: of ratios: the new share of failures; None for no change.
        latency: of latencies: factor on all of them.
        tail: of latencies: factor on the slowest `tail_share` only.
        tail_share: share of the samples that `tail` is about.
    """

    rate: Per = 1.0
    share: Per | None = None
    latency: Per = 1.0
    tail: float = 1.0
    tail_share: float = 0.1


NO_EFFECT: Final = Effect()


def wobble_of(dispersion: float) -> float:
    """Return the wobble that over-disperses as much as a negative binomial with this r."""
    return math.sqrt(math.log1p(1.0 / dispersion))


def need(holds: bool | NDArray[np.bool_], what: str) -> None:
    """Raise a ValueError that names what must hold, unless it holds for all."""
    if not np.all(holds):
        raise ValueError(f"it must be that {what}")
