"""Whole BPF maps into numpy arrays, with the kernel's batch operations.

A batch call copies one hash bucket at a time under the bucket's lock, so an entry that lives
throughout the call is copied exactly once (kernel/bpf/hashtab.c,
__htab_map_lookup_and_delete_batch).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes import mapcalls
from probes.errors import ProbeError


class MapReader:
    """Reads one hash map into arrays that it owns and uses again."""

    def __init__(
        self,
        fd: int,
        *,
        name: str,
        key: np.dtype[Any],
        value: np.dtype[Any],
        capacity: int,
        drain: bool = False,
    ) -> None:
        """Prepare to read the map behind `fd`.

        Args:
            fd: the map's descriptor.
            name: for messages.
            key: dtype of a key.
            value: dtype of a value.
            capacity: the map's max_entries.
            drain: delete what is read, in the same step.
        """
        self._drain = drain
        self._fd = fd
        self._name = name
        # never written before it is needed, so pages that no entry reaches cost no memory
        self._keys = np.empty(capacity, key)
        self._values = np.empty(capacity, value)

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (keys, values), one per entry, in no order; views valid until the next read.

        Raises:
            ProbeError: the kernel refused.
        """
        capacity = len(self._keys)
        have = 0
        cursor: bytes | None = None
        while have < capacity:
            try:
                copied, cursor = mapcalls.lookup_batch(
                    self._fd,
                    cursor,
                    self._keys[have:].ctypes.data,
                    self._values[have:].ctypes.data,
                    capacity - have,
                    delete=self._drain,
                )
            except OSError as error:
                raise ProbeError(
                    f"reading the BPF map {self._name} failed: {error.strerror}. "
                    "Batch operations need a kernel of 5.6 or later."
                ) from error
            have += copied
            if cursor is None:
                break
        return self._keys[:have], self._values[:have]
