"""What the data say about why: causes counted while a run of evidence lasts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Causes:
    """Counts of causes per stream, kept only while the stream's evidence runs."""

    def __init__(self) -> None:
        self._counts: dict[int, dict[str, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, stream: int, causes: Mapping[str, int]) -> None:
        """Count one window's causes of a stream whose evidence runs."""
        counts = self._counts.setdefault(stream, {})
        for cause, number in sorted(causes.items()):
            counts[cause] = counts.get(cause, 0.0) + number

    def drop(self, streams: Iterable[int]) -> None:
        """Forget streams whose evidence has ended."""
        for stream in streams:
            self._counts.pop(stream, None)

    def main(self, stream: int) -> str:
        """Return the most frequent cause, the first by name among equals; "" without one."""
        counts = self._counts.get(stream)
        return min(counts, key=lambda name: (-counts[name], name)) if counts else ""

    def renumber(self, numbers: Mapping[int, int]) -> None:
        """Give every stream its new number; drop those without."""
        self._counts = {numbers[i]: c for i, c in self._counts.items() if i in numbers}

    def streams(self) -> list[int]:
        """Return the streams that have counts."""
        return list(self._counts)

    def to_state(self) -> list[Any]:
        """Return the state as JSON values."""
        return [[stream, counts] for stream, counts in self._counts.items()]

    @classmethod
    def from_state(cls, state: Iterable[Any]) -> Causes:
        """Return what `to_state` was given."""
        self = cls()
        self._counts = {int(stream): dict(counts) for stream, counts in state}
        return self
