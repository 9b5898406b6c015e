"""Growable columns: the state of many streams as named numpy arrays, the streams along one axis.

The streams are the *last* axis, so that an operation on one entry of all streams runs over
memory in order.
"""

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
    """Columns of equal length that grow with an eighth to spare.

    `table["name"]` is a view of the streams in use, of shape (*entry, size); writing to it writes
    to the table. A view is only good until the next `grow` or `keep`.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = dict(columns)
        self._hold(
            {
                name: np.full((*column.shape, 0), column.fill, dtype=column.dtype)
                for name, column in self._columns.items()
            },
            0,
        )

    @property
    def columns(self) -> Mapping[str, Column]:
        """What each column holds, by name."""
        return self._columns

    def _hold(self, arrays: dict[str, Array], size: int) -> None:
        self._arrays, self.size = arrays, size
        # Asked for many times a window, so cut once
        self._views = {name: array[..., :size] for name, array in arrays.items()}

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def flat(self, name: str) -> tuple[Array, int]:
        """Return a column as one row, and the distance in it of a stream's neighbouring entries."""
        array = self._arrays[name]
        return array.reshape(-1), array.shape[-1]

    def grow(self, more: int) -> NDArray[np.int64]:
        """Append `more` fresh streams and return their indices."""
        old, size = self.size, self.size + more
        arrays = dict(self._arrays)
        for name, column in self._columns.items():
            array = arrays[name]
            room = array.shape[-1]
            if size > room:
                room = max(16, room + room // 8, size)
                bigger = np.full((*column.shape, room), column.fill, dtype=column.dtype)
                bigger[..., :old] = array[..., :old]
                arrays[name] = bigger
        self._hold(arrays, size)
        return np.arange(old, size)

    def take(self, at: Array) -> dict[str, Array]:
        """Return copies of all columns of streams `at`, for `put`."""
        return {name: array[..., at] for name, array in self._arrays.items()}

    def put(self, at: Array, columns: Mapping[str, Array]) -> None:
        """Give streams `at` back what `take` returned."""
        for name, column in columns.items():
            self._arrays[name][..., at] = column

    def reset(self, at: Array, names: tuple[str, ...]) -> None:
        """Give the columns `names` of streams `at` their first values again."""
        for name in names:
            self._arrays[name][..., at] = self._columns[name].fill

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Drop every stream that is not marked, closing the gaps."""
        kept = {name: np.ascontiguousarray(view[..., which]) for name, view in self._views.items()}
        self._hold(kept, int(np.count_nonzero(which)))

    def order(self, index: NDArray[np.int64]) -> None:
        """Put the streams in another order: new stream `i` is old stream `index[i]`."""
        ordered = {n: np.ascontiguousarray(view[..., index]) for n, view in self._views.items()}
        self._hold(ordered, self.size)

    def state(self) -> dict[str, Array]:
        """Return all columns, by name; not copies."""
        return dict(self._views)

    def bytes_per_stream(self) -> int:
        """Return how much memory a stream takes."""
        return sum(
            int(np.prod(column.shape, dtype=np.int64)) * np.dtype(column.dtype).itemsize
            for column in self._columns.values()
        )

    def load(self, state: Mapping[str, Array]) -> None:
        """Replace all streams by those of `state`; raises ValueError when it does not fit."""
        sizes = set()
        for name, column in self._columns.items():
            if name not in state:
                raise ValueError(f"column {name!r} is missing")
            array = state[name]
            if array.shape[:-1] != column.shape or array.dtype != np.dtype(column.dtype):
                raise ValueError(f"column {name!r} is {array.dtype}{array.shape}, not {column}")
            sizes.add(array.shape[-1])
        if len(sizes) > 1:
            raise ValueError(f"columns differ in length: {sorted(sizes)}")
        arrays = {name: state[name].copy() for name in self._columns}
        self._hold(arrays, sizes.pop() if sizes else 0)
