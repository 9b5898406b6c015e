"""Which answers are waited for on purpose: long polls, and messages that nobody asked for.

The kernel tells answers that took ten seconds or more apart, and later slow ones on the same
connection. Two programs that do this from the beginning have agreed on it; where it begins later,
a server hangs, and that must be told.
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


class Waits:
    """What is known of each pair, by its index.

    Attributes:
        met: float64[pairs], when the pair was first seen, epoch seconds.
        given: bool[pairs], whether it has ever waited on purpose.
    """

    def __init__(self) -> None:
        """Start without pairs."""
        self.met: NDArray[np.float64] = np.empty(0)
        self.given: NDArray[np.bool_] = np.empty(0, np.bool_)

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
        self.met[indices] = now
        self.given[indices] = False

    def know(self, index: int, *, met: float, given: bool) -> None:
        """Take up what was known of a pair: when it was first seen, whether it has waited."""
        self.met[index] = met
        self.given[index] |= given

    def judge(
        self,
        keys: NDArray[Any],
        pair: NDArray[np.int64],
        streaming: NDArray[np.bool_],
        now: float,
    ) -> NDArray[Any]:
        """Return the keys with every "wait" that is none made a "request".

        Args:
            keys: LATENCY_KEY[k].
            pair: int64[k], whose they are, < 0 for nobody's.
            streaming: bool[pairs], whose messages came unasked in this window.
            now: end of the window, epoch seconds.
        """
        self.given |= streaming
        waits = np.flatnonzero((keys["kind"] == _WAIT) & (pair >= 0))
        if not len(waits):
            return keys
        whose = pair[waits]
        began = now - lower_edge_s(keys["bucket"][waits])
        self.given[whose[began - self.met[whose] <= _BEGINNING_S]] = True
        judged = keys.copy()
        judged["kind"][waits[~self.given[whose]]] = _REQUEST
        return judged
