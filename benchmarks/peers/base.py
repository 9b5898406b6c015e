"""What every peer is: numbers in, scores out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Sampling(NamedTuple):
    """What a peer is told of its streams.

    Attributes:
        streams: how many there are.
        spacing_s: seconds between their windows.
        season: windows in a day, 0 where there is no daily wave.
        history: windows for which it can learn before it has to judge.
    """

    streams: int
    spacing_s: float
    season: int
    history: int

    def windows(self, seconds: float) -> int:
        """Return how many windows make up a time, one at least."""
        return max(round(seconds / self.spacing_s), 1)


class Peer(ABC):
    """One method over many streams at once.

    Class attributes:
        reads: "raw" for the numbers as measured, "z" for what is left of them after a level, a
            wave and a scale have been taken away (`baseline.Seasonal`, or the known null).
        restarts: whether its authors start it afresh after an alarm; if not, it forgets by
            itself, or remembers nothing.
        learns: whether it learns from the history beyond what makes `z`.
    """

    reads: ClassVar[Literal["raw", "z"]] = "z"
    restarts: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling

    @abstractmethod
    def update(self, x: Floats) -> Floats:
        """Take float64[streams], return float64[streams], scores."""

    def restart(self, which: NDArray[np.bool_]) -> None:  # noqa: B027 - those that do not have none
        """Start the streams of bool[streams] afresh."""


LEVELS = np.geomspace(5.0, 5000.0, 16)
"""Thresholds at which a method that restarts is run, all at once."""


class Restarting(Peer):
    """A peer that starts afresh after every alarm, at many thresholds side by side.

    Otherwise one great change would hold a running sum above any threshold for days. The score is
    the highest threshold at which an alarm is raised just now.
    """

    def __init__(self, make: Callable[[Sampling], Peer], sampling: Sampling) -> None:
        super().__init__(sampling)
        self.inner = make(sampling._replace(streams=sampling.streams * len(LEVELS)))
        self.level = np.repeat(LEVELS, sampling.streams)

    def update(self, x: Floats) -> Floats:
        """Take float64[streams], return float64[streams], scores; 0 for no alarm."""
        alarm = self.inner.update(np.tile(x, len(LEVELS))) >= self.level
        if alarm.any():
            self.inner.restart(alarm)
        score: Floats = np.where(alarm, self.level, 0.0).reshape(len(LEVELS), -1).max(axis=0)
        return score
