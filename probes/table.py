"""A BPF map behind its descriptor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from probes import mapcalls

_PER_CPU: Final = frozenset({5, 6, 10})  # hash, array, LRU hash; enum bpf_map_type
_POSSIBLE: Final = Path("/sys/devices/system/cpu/possible")


def possible_cpus(text: str) -> int:
    """Return how many CPUs a list as "0-3,8" names."""
    ranges = (part.split("-") for part in text.strip().split(","))
    return sum(int(each[-1]) - int(each[0]) + 1 for each in ranges)


@dataclass(frozen=True, slots=True)
class Map:
    """One map.

    Attributes:
        descriptor: it lives as long as this is open.
        shape: type, sizes in bytes, entries.
    """

    descriptor: int
    shape: mapcalls.MapInfo

    @property
    def value_bytes(self) -> int:
        """Size of a value as user space sees it: for a per-CPU map, one for every CPU."""
        if self.shape.type not in _PER_CPU:
            return self.shape.value_size
        one = (self.shape.value_size + 7) // 8 * 8
        return one * possible_cpus(_POSSIBLE.read_text())

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value under `key`, or None.

        Raises:
            ValueError: a key of the wrong size.
            OSError: as of bpf(2).
        """
        self._check(key, self.shape.key_size, "key")
        return mapcalls.lookup_element(self.descriptor, key, self.value_bytes)

    def update(self, key: bytes, value: bytes) -> None:
        """Store `value` under `key`.

        Raises:
            ValueError: a key or value of the wrong size.
            OSError: E2BIG: the map is full; others as of bpf(2).
        """
        self._check(key, self.shape.key_size, "key")
        self._check(value, self.value_bytes, "value")
        mapcalls.update_element(self.descriptor, key, value)

    def delete(self, key: bytes) -> bool:
        """Delete what is under `key`; return whether there was anything.

        Raises:
            ValueError: a key of the wrong size.
            OSError: as of bpf(2).
        """
        self._check(key, self.shape.key_size, "key")
        return mapcalls.delete_element(self.descriptor, key)

    @staticmethod
    def _check(given: bytes, size: int, what: str) -> None:
        # The kernel would read or write past the end of a shorter one
        if len(given) != size:
            raise ValueError(f"a {what} of this map has {size} bytes, not {len(given)}.")
