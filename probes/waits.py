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
CROWDED_PER_S: Final = 1000.0
"""Requests per second of a server beyond which another's was read a moment before by chance: one
answer in four at this rate, within WOKEN_NS of bpf/woken.h."""
_SURE: Final = 12
"""So many more answers that others woke than that they did not: 2 in 10^6 by chance, at one in
four each (the gambler's ruin, 3**-12)."""


class Waits:
    """What is known of each pair, by its index.

    Attributes:
        met: float64[pairs], when the pair was first seen, epoch seconds.
        given: bool[pairs], whether it has ever waited on purpose.
        works: bool[pairs], whether it waits for what others say.
    """

    def __init__(self) -> None:
        """Start without pairs."""
        self.met: NDArray[np.float64] = np.empty(0)
        self.given: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.works: NDArray[np.bool_] = np.empty(0, np.bool_)
        # int64[pairs], long answers that others woke less those that they did not, at least 0
        self._woken: NDArray[np.int64] = np.empty(0, np.int64)

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
        self._woken = np.append(self._woken, np.zeros(more, np.int64))
        self.met[indices] = now
        self.given[indices] = self.works[indices] = False
        self._woken[indices] = 0

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
        open_server: NDArray[np.bool_],
        now: float,
    ) -> NDArray[Any]:
        """Return the keys with every "wait" and "woken" made what it is: a "wait" or a "request".

        Args:
            keys: LATENCY_KEY[k].
            samples: int64[k], of each.
            pair: int64[k], whose they are, < 0 for nobody's.
            streaming: bool[pairs], whose messages came unasked in this window.
            open_server: bool[k], seen at the end of a server that is not crowded.
            now: end of the window, epoch seconds.
        """
        self.given |= streaming
        self._count_woken(keys, samples, pair, open_server)
        kind = keys["kind"]
        waits = np.flatnonzero((kind == _WAIT) & (pair >= 0))
        whose = pair[waits]
        began = now - lower_edge_s(keys["bucket"][waits])
        self.given[whose[began - self.met[whose] <= _BEGINNING_S]] = True
        judged = keys.copy()
        judged["kind"][waits[~self.given[whose]]] = _REQUEST
        judged["kind"][kind == _WOKEN] = _REQUEST
        asked = np.flatnonzero((judged["kind"] == _REQUEST) & (pair >= 0))
        judged["kind"][asked[self.works[pair[asked]]]] = _WAIT
        return judged

    def _count_woken(
        self,
        keys: NDArray[Any],
        samples: NDArray[np.int64],
        pair: NDArray[np.int64],
        open_server: NDArray[np.bool_],
    ) -> None:
        kind = keys["kind"]
        which = open_server & (pair >= 0) & ((kind == _WOKEN) | (kind == _REQUEST))
        which &= lower_edge_s(keys["bucket"]) >= _LONG_S
        if not which.any():
            return
        signed = np.where(kind == _WOKEN, 1, -1)[which] * samples[which]
        balance = np.bincount(pair[which], signed, len(self._woken)).astype(np.int64)
        self._woken = np.clip(self._woken + balance, 0, _SURE)
        self.works |= self._woken >= _SURE
        self.given |= self.works
