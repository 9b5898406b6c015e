"""Which answers are waited for on purpose: long polls, pushed messages, and jobs of a queue.

The kernel tells answers that took ten seconds or more apart, and later slow ones on the same
connection. Two programs that do this from the beginning have agreed on it; where it begins later,
a server hangs, and that must be told.

It also tells, of a server here, which long answers left right after the same thread had read what
another client said (`bpf/woken.h`): the next job, for who waits in an empty queue. A pair whose
long answers are nearly all like that waits for others; how long says nothing of the server.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.histogram import lower_edge_s

_BEGINNING_S: Final = 120.0
_WAIT: Final = layout.LATENCIES.index("wait")
_REQUEST: Final = layout.LATENCIES.index("request")
_WOKEN: Final = layout.LATENCIES.index("woken")
_LONG_S: Final = 0.08
"""As LONG_NS of bpf/woken.h: shorter answers are no evidence of either."""
_WOKEN_S: Final = 250e-6
"""As WOKEN_NS there: another's question came so long before the answer, at most ..."""
_WOKEN_SHARE: Final = 0.75
"""... for this share of the answers of who waits for others, and for as many as chance gives of a
slow server's: its requests per second times that length."""
_LEAST_CHANCE, _MOST_CHANCE = 0.1, 0.5
_LIKELY_NATS, _SURE_NATS = 12.0, 40.0
"""Evidence that long answers are waits, and that the pair is given to waiting for good. A slow
server's long answers give as much once in e**12 or e**40 at most (Page's CUSUM), and the former
passes with the next ten."""


class Waits:
    """What is known of each pair, by its index.

    Attributes:
        met: float64[pairs], when the pair was first seen, epoch seconds.
        given: bool[pairs], whether it has ever waited on purpose.
        works: bool[pairs], whether it is sure to wait for what others say.
    """

    def __init__(self) -> None:
        """Start without pairs."""
        self.met: NDArray[np.float64] = np.empty(0)
        self.given: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.works: NDArray[np.bool_] = np.empty(0, np.bool_)
        # float64[pairs], evidence that others wake who waits for the answers, nats
        self._woken: NDArray[np.float64] = np.empty(0)

    def meet(self, indices: list[int], pairs: int, now: float) -> None:
        """Take note of new pairs.

        Args:
            indices: theirs; some may have been others' before.
            pairs: how many pairs there are.
            now: epoch seconds.
        """
        more = pairs - len(self.met)
        self.met = np.append(self.met, np.full(more, now))
        self.given = np.append(self.given, np.zeros(more, np.bool_))
        self.works = np.append(self.works, np.zeros(more, np.bool_))
        self._woken = np.append(self._woken, np.zeros(more))
        self.met[indices] = now
        self.given[indices] = self.works[indices] = False
        self._woken[indices] = 0.0

    def know(self, index: int, *, met: float, given: bool, works: bool) -> None:
        """Take up what was known of a pair: when it was first seen, whether it has waited."""
        self.met[index] = met
        self.given[index] |= given
        self.works[index] |= works

    def judge(
        self,
        keys: NDArray[Any],
        samples: NDArray[np.int64],
        pair: NDArray[np.int64],
        *,
        streaming: NDArray[np.bool_],
        served_per_s: NDArray[np.float64],
        now: float,
    ) -> NDArray[Any]:
        """Return the keys with every "wait" and "woken" made what it is: a "wait" or a "request".

        Args:
            keys: LATENCY_KEY[k].
            samples: int64[k], of each.
            pair: int64[k], whose they are, < 0 for nobody's.
            streaming: bool[pairs], whose messages came unasked in this window.
            served_per_s: float64[k], requests per second of the server's process, of what was
                measured at its end; NaN at a client's.
            now: end of the window, epoch seconds.
        """
        self.given |= streaming
        self._count_woken(keys, samples, pair, served_per_s)
        kind = keys["kind"]
        waits = np.flatnonzero((kind == _WAIT) & (pair >= 0))
        whose = pair[waits]
        began = now - lower_edge_s(keys["bucket"][waits])
        self.given[whose[began - self.met[whose] <= _BEGINNING_S]] = True
        judged = keys.copy()
        judged["kind"][waits[~self.given[whose]]] = _REQUEST
        judged["kind"][kind == _WOKEN] = _REQUEST
        asked = np.flatnonzero((judged["kind"] == _REQUEST) & (pair >= 0))
        waiting = self.works | (self._woken >= _LIKELY_NATS)
        judged["kind"][asked[waiting[pair[asked]]]] = _WAIT
        return judged

    def _count_woken(
        self,
        keys: NDArray[Any],
        samples: NDArray[np.int64],
        pair: NDArray[np.int64],
        served_per_s: NDArray[np.float64],
    ) -> None:
        kind, chance = keys["kind"], np.maximum(served_per_s * _WOKEN_S, _LEAST_CHANCE)
        which = (pair >= 0) & ((kind == _WOKEN) | (kind == _REQUEST)) & (chance <= _MOST_CHANCE)
        which &= lower_edge_s(keys["bucket"]) >= _LONG_S
        if not which.any():
            return
        chance = chance[which]
        woken, not_woken = _WOKEN_SHARE / chance, (1.0 - _WOKEN_SHARE) / (1.0 - chance)
        nats = np.log(np.where(kind[which] == _WOKEN, woken, not_woken)) * samples[which]
        self._woken += np.bincount(pair[which], nats, len(self._woken))
        self.works |= self._woken >= _SURE_NATS
        self._woken = np.clip(self._woken, 0.0, _SURE_NATS)
        self.given |= self.works
