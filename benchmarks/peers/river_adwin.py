"""river's own ADWIN, one object per stream and sensitivity."""

from __future__ import annotations

import numpy as np
from river.drift import ADWIN

from benchmarks.peers.base import Floats, Peer, Sampling

DELTAS = (0.9, 0.3, 0.05, 0.002, 1e-5, 1e-9, 1e-18, 1e-36, 1e-72, 1e-144)
"""ADWIN alarms or not at a sensitivity fixed in advance, so one of each is run."""


class Adwin(Peer):
    """-ln of the strictest sensitivity at which ADWIN says that the mean has drifted.

    Source: Bifet and Gavalda, "Learning from time-changing data with adaptive windowing" (2007).
    It looks at every number (`clock=1`; river's default is every 32nd, which is faster).
    """

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        self.models = [
            [ADWIN(delta=delta, clock=1) for _ in range(sampling.streams)] for delta in DELTAS
        ]

    def update(self, x: Floats) -> Floats:
        """Return the scores; 0 where not even the loosest alarms."""
        values = x.tolist()
        score = np.zeros(len(x))
        for delta, models in zip(DELTAS, self.models, strict=True):
            hit = []
            for i, (model, value) in enumerate(zip(models, values, strict=True)):
                model.update(value)
                if model.drift_detected:
                    hit.append(i)
            if hit:
                score[hit] = -np.log(delta)
        return score
