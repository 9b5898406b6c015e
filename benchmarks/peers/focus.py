"""FOCuS: the likelihood ratio of every change of every size at every time, exactly.

Source: Romano, Eckley, Fearnhead, Rigaill, "Fast online changepoint detection via functional
pruning CUSUM statistics" (JMLR 2023), and Ward, Romano, Eckley, Fearnhead, "A constant-per-
iteration likelihood ratio test" (2024): onsets that can ever be the best are the vertices of the
lower convex hull of the running sum, for every exponential family. The mean before the change is
known here, so only the part of the hull after the sum's minimum counts.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Floats, Peer, Sampling

MOST = 48
"""Onsets remembered per stream and direction (a hull has about ln t); then the oldest goes."""


class _Hull:
    """Candidate onsets of increases of one sum per stream, as stacks side by side."""

    def __init__(self, streams: int) -> None:
        self.sum = np.zeros(streams)
        self.time, self.height = np.zeros((streams, MOST)), np.full((streams, MOST), np.inf)
        self.size = np.zeros(streams, np.int64)

    def add(self, x: Floats, now: int) -> None:
        """Put the present on the stacks as an onset, then add float64[streams], centred."""
        at = np.arange(len(x))
        while len(at):
            size = self.size[at]
            last = np.maximum(size - 1, 0)
            before = np.maximum(size - 2, 0)
            high, low = self.height[at, last], self.height[at, before]
            when, then = self.time[at, last], self.time[at, before]
            here = self.sum[at]
            two = size > 1  # an empty place is infinitely high
            rise = np.where(two, high, 0.0) - np.where(two, low, 0.0)
            bent = two & (rise * (now - when) >= (here - np.where(two, high, 0.0)) * (when - then))
            gone = ((size > 0) & (high >= here)) | bent
            at = at[gone]
            self.height[at, last[gone]] = np.inf
            self.size[at] -= 1
        full = np.flatnonzero(self.size == MOST)
        if len(full):
            for stack in (self.time, self.height):
                stack[full, :-1] = stack[full, 1:]
            self.size[full] -= 1
        rows = np.arange(len(x))
        self.time[rows, self.size], self.height[rows, self.size] = now, self.sum
        self.size += 1
        self.sum += x

    def clear(self, which: NDArray[np.bool_]) -> None:
        """Forget the onsets of bool[streams]."""
        self.height[which] = np.inf
        self.size[which] = 0

    def runs(self, now: int) -> tuple[Floats, Floats]:
        """Return, per candidate, windows since then and the sum since then (0 where none)."""
        wide = int(self.size.max())
        since: Floats = np.maximum(self.sum[:, None] - self.height[:, :wide], 0.0)
        return now - self.time[:, :wide], since


class _Focus(Peer):
    restarts, learns = True, False

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        self.now = 0
        self.up, self.down = _Hull(sampling.streams), _Hull(sampling.streams)

    def _follow(self, centred: Floats) -> Floats:
        self.up.add(centred, self.now)
        self.down.add(-centred, self.now)
        self.now += 1
        best = [
            self._ratio(*hull.runs(self.now), sign).max(axis=1)
            for hull, sign in ((self.up, 1.0), (self.down, -1.0))
        ]
        return np.maximum(*best)

    def restart(self, which: NDArray[np.bool_]) -> None:
        """Forget the onsets of bool[streams]."""
        self.up.clear(which)
        self.down.clear(which)

    @abstractmethod
    def _ratio(self, windows: Floats, since: Floats, sign: float) -> Floats:
        """Return ln of the likelihood ratio of runs whose centred sum is sign * since."""


class GaussianFocus(_Focus):
    """For a mean of 0 and a variance of 1 before the change."""

    def update(self, x: Floats) -> Floats:
        """Return the generalised likelihood ratio, nats."""
        return self._follow(x)

    def _ratio(self, windows: Floats, since: Floats, sign: float) -> Floats:
        del sign
        ratio: Floats = 0.5 * since * since / windows
        return ratio


class PoissonFocus(_Focus):
    """For counts of a known mean before the change.

    Args:
        sampling: the streams.
        mean: float64[streams], counts per window before the change, > 0.
    """

    def __init__(self, sampling: Sampling, mean: Floats) -> None:
        super().__init__(sampling)
        self.mean = mean

    def update(self, x: Floats) -> Floats:
        """Return the generalised likelihood ratio, nats."""
        return self._follow(x - self.mean)

    def _ratio(self, windows: Floats, since: Floats, sign: float) -> Floats:
        expected = np.maximum(windows * self.mean[:, None], 1e-12)
        # rounding may leave the sum of a dead stream a hair below 0
        share = np.maximum(1.0 + sign * since / expected, 0.0)
        logarithm = np.log(np.maximum(share, 1e-300))
        ratio: Floats = expected * (share * logarithm - share + 1.0)
        return ratio
