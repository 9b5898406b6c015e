"""A number for every pair, and which of them have rows of their own."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from probes.window import OTHER, Pair, is_other

_LEAST_NUMBERS: Final = 40_000
"""So many pairs are told apart by how much they do, or four times those with rows if that is more:
more than there are groups in the kernel."""


class Places:
    """The pairs, by number; of those beyond a limit, each counts in a pair with `other`.

    A pair is put under `other -> server` if the server has other clients, under
    `client -> other` if the client has other servers and more of them, else under
    `other -> other`. It keeps its number, so that it can be given rows again.

    Attributes:
        pairs: by number; numbers of forgotten pairs are used again.
    """

    def __init__(self, most: int) -> None:
        """Start without pairs.

        Args:
            most: how many may have rows of their own, at least 1; a tenth as many (one at least)
                are for pairs with `other`.
        """
        self._most = most
        self._most_others = max(most // 10, 1)
        self._numbers = max(4 * most, _LEAST_NUMBERS)
        self._index: dict[Pair, int] = {}
        self._free: list[int] = []
        self._met: list[int] = []
        self._of_server: Counter[tuple[str, int, str]] = Counter()
        self._of_client: Counter[str] = Counter()
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)
        self._own = self._others = 0
        self.pairs: list[Pair] = []

    def __len__(self) -> int:
        return len(self._index)

    @property
    def most(self) -> int:
        """How many pairs may have rows of their own."""
        return self._most

    @property
    def room(self) -> int:
        """How many more may."""
        return max(self._most - self._own, 0)

    @property
    def folded(self) -> int:
        """How many pairs count under `other`."""
        return len(self._index) - self._own - self._others

    @property
    def crowded(self) -> bool:
        """Whether it is time to forget pairs."""
        return self._own >= 0.9 * self._most or len(self) >= 0.9 * self._numbers

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64[pairs]: the pair under which each is counted, itself if it has rows."""
        return self._rows[: len(self.pairs)]

    def has_rows(self, index: int) -> bool:
        """Return whether a number is that of a pair with rows which could be put under `other`."""
        pair = self.pairs[index]
        known = self._index.get(pair) == index and self._rows[index] == index
        return known and not is_other(pair)

    def number(self, pair: Pair) -> int:
        """Return the number of a pair, meeting it if it is new."""
        index = self._index.get(pair)
        if index is not None:
            return index
        if is_other(pair):
            self._others += 1
            return self._place(pair)
        if len(self._index) >= self._numbers:
            return self.number(self._other(pair))
        index = self._place(pair)
        self._count(pair, 1)
        if self._own < self._most:
            self._own += 1
        else:
            self._rows[index] = self.number(self._other(pair))
        return index

    def met(self) -> list[int]:
        """Return the numbers that were given to pairs since the last call."""
        met, self._met = self._met, []
        return met

    def fold(self, index: int) -> None:
        """Take its rows from a pair that has some and is not itself an `other`."""
        self._own -= 1
        self._rows[index] = self.number(self._other(self.pairs[index]))

    def unfold(self, index: int) -> None:
        """Give a pair rows."""
        self._own += 1
        self._rows[index] = index

    def forget(self, indices: NDArray[np.int64]) -> None:
        """Give the numbers of these pairs to others."""
        counted = np.bincount(self.rows, minlength=len(self.pairs)) > 1  # others count under it
        for index in indices.tolist():
            pair = self.pairs[index]
            if counted[index] or self._index.get(pair) != index:
                continue
            del self._index[pair]
            self._free.append(index)
            if is_other(pair):
                self._others -= 1
                continue
            self._count(pair, -1)
            if self._rows[index] == index:
                self._own -= 1
            self._rows[index] = index

    def _count(self, pair: Pair, by: int) -> None:
        self._of_server[pair[1:]] += by
        self._of_client[pair.client] += by
        if not self._of_server[pair[1:]]:
            del self._of_server[pair[1:]]
        if not self._of_client[pair.client]:
            del self._of_client[pair.client]

    def _other(self, pair: Pair) -> Pair:
        clients, servers = self._of_server[pair[1:]], self._of_client[pair.client]
        found = Pair(OTHER, OTHER, 0, pair.transport)
        if max(clients, servers) > 1:
            found = Pair(OTHER, *pair[1:])
            if servers > clients:
                found = Pair(pair.client, OTHER, 0, pair.transport)
        if found not in self._index and self._others >= self._most_others:
            return Pair(OTHER, OTHER, 0, pair.transport)
        return found

    def _place(self, pair: Pair) -> int:
        if self._free:
            index = self._free.pop()
            self.pairs[index] = pair
        else:
            index = len(self.pairs)
            self.pairs.append(pair)
            if index >= len(self._rows):
                self._rows = np.resize(self._rows, max(2 * index, 1024))
        self._rows[index] = index
        self._index[pair] = index
        self._met.append(index)
        return index
