"""Growable columns: the state of many streams as named numpy arrays, one row per stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Column(NamedTuple):
    """What a column holds: its dtype, the shape of one stream's entry, and its first value."""

    dtype: str
    shape: tuple[int, ...] = ()
    fill: float = 0.0


class Table:
    """Columns of equal length that grow by doubling.

    `table["name"]` is a view of the rows in use; writing to it writes to the table. A view is
    only good until the next `grow`.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = dict(columns)
        self.size = 0
        self._arrays: dict[str, Array] = {
            name: np.full((0, *column.shape), column.fill, dtype=column.dtype)
            for name, column in self._columns.items()
        }

    @property
    def columns(self) -> Mapping[str, Column]:
        """What each column holds, by name."""
        return self._columns

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name][: self.size]

    def grow(self, more: int) -> NDArray[np.int64]:
        """Append `more` fresh rows and return their indices."""
        old, self.size = self.size, self.size + more
        for name, column in self._columns.items():
            array = self._arrays[name]
            if self.size > len(array):
                room = max(16, 2 * len(array), self.size)
                bigger = np.full((room, *column.shape), column.fill, dtype=column.dtype)
                bigger[:old] = array[:old]
                self._arrays[name] = bigger
        return np.arange(old, self.size)

    def reset(self, at: Array, names: tuple[str, ...]) -> None:
        """Give the columns `names` of rows `at` their first values again."""
        for name in names:
            self._arrays[name][at] = self._columns[name].fill

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Drop every row that is not marked, closing the gaps."""
        for name in self._columns:
            self._arrays[name] = self[name][rows].copy()
        self.size = int(np.count_nonzero(rows))

    def state(self) -> dict[str, Array]:
        """Return copies of all columns, by name."""
        return {name: self[name].copy() for name in self._columns}

    def load(self, state: Mapping[str, Array]) -> None:
        """Replace all rows by those of `state`; raises ValueError when it does not fit."""
        sizes = set()
        for name, column in self._columns.items():
            if name not in state:
                raise ValueError(f"column {name!r} is missing")
            array = state[name]
            if array.shape[1:] != column.shape or array.dtype != np.dtype(column.dtype):
                raise ValueError(f"column {name!r} is {array.dtype}{array.shape}, not {column}")
            sizes.add(len(array))
        if len(sizes) > 1:
            raise ValueError(f"columns differ in length: {sorted(sizes)}")
        self._arrays = {name: state[name].copy() for name in self._columns}
        self.size = sizes.pop() if sizes else 0
