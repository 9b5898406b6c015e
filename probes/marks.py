"""Which connections' marks a window tells, for whoever watches their other ends."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout

_AGAIN_S: Final = 60.0


class Marks:
    """The marks of groups, by place, and when each was told last."""

    def __init__(self, capacity: int) -> None:
        """Start with none told.

        Args:
            capacity: how many groups there can be.
        """
        self._id = np.zeros(capacity, np.uint64)
        self._mark = np.zeros(capacity, np.uint64)
        self._told_s = np.full(capacity, -np.inf)

    def told(
        self, slots: NDArray[np.int64], groups: NDArray[Any], now_s: float
    ) -> NDArray[np.uint64]:
        """Return the marks to tell, uint64[n]: new ones, and once a minute the old again.

        Of groups whose other end is not on this host; another may have seen that.

        Args:
            slots: int64[n], places.
            groups: GROUP[n].
            now_s: of a monotonic clock.
        """
        key, mark = groups["key"], groups["mark"]
        fresh = self._id[slots] != groups["id"]
        self._id[slots] = groups["id"]
        self._mark[slots[fresh]] = 0
        self._told_s[slots[fresh]] = -np.inf
        # a connection's is there as long as it is open; a flow's once, as nobody knows its end
        flow = (key["transport"] == layout.UDP) & (mark == 0)
        mark = np.where(flow, self._mark[slots], mark)
        alone = (groups["link"] == 0) & (key["peer"] == 0) & (key["self"] == 0) & (mark > 0)
        again = self._told_s[slots] < now_s - _AGAIN_S
        told = alone & (again | (self._mark[slots] != mark))
        self._mark[slots[told]] = mark[told]
        self._told_s[slots[told]] = now_s
        return np.where(told, mark, 0).astype(np.uint64)

    def tell_again(self) -> None:
        """Have all told once more: nobody has seen the last."""
        self._told_s[:] = -np.inf
