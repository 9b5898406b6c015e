"""What every peer is: numbers in, scores out."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
    """

    reads: ClassVar[Literal["raw", "z"]] = "z"

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling

    @abstractmethod
    def update(self, x: Floats) -> Floats:
        """Take float64[streams], return float64[streams], scores."""
