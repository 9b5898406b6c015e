"""Which pairs do most, so that those with rows of their own are they."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.places import Places

_HALF_LIFE_S: Final = 300.0
_EVERY_S: Final = 10.0
_FACTOR: Final = 2.0
"""A pair under `other` gets another's rows if it does this many times as much."""
_IDLE: Final = 0.1
_EVENTS: Final = [
    layout.COUNTERS.index(name)
    for name in (
        "established", "requests", "datagrams", "refused", "timed_out", "unreachable",
        "connect_reset", "aborted", "no_port",
    )
]  # fmt: skip
_BYTES: Final = [layout.COUNTERS.index(name) for name in ("bytes_out", "bytes_in")]


class Ranking:
    """How much each pair does, fading by half in five minutes: events, and kilobytes."""

    def __init__(self, places: Places) -> None:
        """Start with pairs that do nothing.

        Args:
            places: the pairs.
        """
        self._places = places
        self._done: NDArray[np.float64] = np.empty(0)
        self._ranked_s = -np.inf

    def update(self, pair: NDArray[Any], grown: NDArray[np.int64], width: float) -> None:
        """Take a window.

        Args:
            pair: int[n], whose each group is, < 0 for nobody's.
            grown: int64[n, counters].
            width: seconds.
        """
        places = len(self._places.pairs)
        self._done = np.append(self._done, np.zeros(places - len(self._done)))
        ours = pair >= 0
        amount = grown[:, _EVENTS].sum(axis=1) + grown[:, _BYTES].sum(axis=1) / 1000.0
        self._done *= 0.5 ** (width / _HALF_LIFE_S)
        self._done += np.bincount(pair[ours], amount[ours], places)

    def idle(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the pairs that have done next to nothing."""
        return pairs[self._done[pairs] < _IDLE]

    def forget(self, pairs: NDArray[np.int64]) -> None:
        """Have these pairs begin anew."""
        self._done[pairs] = 0.0

    def exchange(self, now_s: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give rows to pairs that do more than others that have some.

        Now and then, and a tenth of the pairs at most: mostly it does nothing.

        Args:
            now_s: of a monotonic clock.

        Returns:
            (int64[m] pairs that were put under `other`, int64[n] pairs that have rows again).
        """
        none = np.empty(0, np.int64)
        places = self._places
        if not places.folded or now_s - self._ranked_s < _EVERY_S:
            return none, none
        self._ranked_s = now_s
        itself = places.rows == np.arange(len(places.pairs))
        most = max(places.most // 10, 1)
        waiting = np.flatnonzero(~itself)
        waiting = waiting[np.argsort(-self._done[waiting], kind="stable")][:most]
        waiting = waiting[self._done[waiting] > _IDLE]
        free = waiting[: places.room]
        for index in free.tolist():
            places.unfold(index)
        waiting = waiting[len(free) :]
        having = np.flatnonzero(itself)
        # those whose numbers are free do nothing either, and are passed over
        having = having[np.argsort(self._done[having], kind="stable")].tolist()
        idle = [i for i in having if places.has_rows(i)][: len(waiting)]
        least = np.array(idle, np.int64)
        waiting = waiting[: len(least)]
        better = self._done[waiting] > _FACTOR * self._done[least]
        least, waiting = least[better], waiting[better]
        for index in least.tolist():
            places.fold(index)
        for index in waiting.tolist():
            places.unfold(index)
        return least, np.concatenate([free, waiting])
