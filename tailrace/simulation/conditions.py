"""What the faults of a scenario make of its laws, in each window of a block."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tailrace.simulation.blocks import Floats, Ints
from tailrace.simulation.fate import OF_THE_HOST, SHARES, Applied, Member, applied
from tailrace.simulation.scenario import CAUSES, Scenario


class Conditions:
    """The laws as they are, arrays [B, P].

    A fault that is there for a part of a window has that part of its effect on rates and shares,
    and all of it on that part of the samples.

    Attributes:
        rate: factor on the rates.
        share: by kind of fault (`SHARES`): the share it sets.
        slower: logarithm of the factor on latencies.
        tail: logarithm of the factor on the slowest.
        from_z: above which normal score a sample is one of these.
        partly: faults of latency in a part of their windows: that part, and the logarithm.
        cause: number of the cause of failed connects, in `causes`.
        kept: float64[B], share of what happens that is counted at all.
    """

    causes = CAUSES

    def __init__(
        self, scenario: Scenario, found: list[Member], start: Floats, width: Floats
    ) -> None:
        """Take the windows of a block; `start` is since the scenario's."""
        law = np.array([member.law for member in found], np.int64)
        shape = (len(start), len(found))
        self.rate = np.ones(shape)
        self.share = {
            kind: np.tile(np.array([getattr(p, key) for p in scenario.pairs])[law], (shape[0], 1))
            for kind, key in SHARES.items()
        }
        self.slower, self.tail = np.zeros(shape), np.zeros(shape)
        self.from_z = np.full(shape, np.inf)
        self.partly: list[tuple[Floats, float]] = []
        first = np.array([CAUSES.index(p.cause) for p in scenario.pairs])[law]
        self.cause: Ints = np.tile(first, (shape[0], 1))
        self.kept = np.ones(shape[0])
        for one in applied(scenario, found):
            part = one.overlap(start, width)
            if part.any() and len(one.members):
                self._apply(one, part, start + width / 2)
        for fault in scenario.faults:
            if fault.kind == "lost":
                part = Applied(fault, np.zeros(0, np.int64)).overlap(start, width)
                self.kept *= 1.0 - part * (fault.size or 0.0)

    def _apply(self, fault: Applied, part: Floats, middle: Floats) -> None:
        kind, size, whom = fault.fault.kind, fault.size, fault.members
        assert kind not in OF_THE_HOST
        at = np.ix_(np.flatnonzero(part), whom)
        share = part[part > 0][:, None]
        if kind in ("rate", "silence"):
            self.rate[at] *= 1.0 + (size - 1.0) * share
        elif kind in SHARES:
            before = self.share[kind][at]
            self.share[kind][at] = before + (size - before) * share
            if kind == "errors":
                self.cause[at] = CAUSES.index(fault.fault.cause)
        elif kind == "leak":
            minutes = fault.age(middle)[part > 0][:, None] / 60.0
            self.slower[at] += math.log1p(size) * minutes
        elif kind == "tail":
            self.tail[at] += math.log(size)
            self.from_z[at] = float(ndtri(1.0 - fault.fault.share))
        else:
            self._slow_down(math.log(size), part, whom)

    def _slow_down(self, shift: float, part: Floats, whom: NDArray[np.int64]) -> None:
        self.slower[np.ix_(np.flatnonzero(part >= 1.0), whom)] += shift
        if ((part > 0) & (part < 1)).any():
            chance = np.zeros(self.rate.shape)
            chance[:, whom] = np.where(part < 1.0, part, 0.0)[:, None]
            self.partly.append((chance, shift))
