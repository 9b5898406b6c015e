"""The detector as it was when the daemon last ran."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from detector import engines
from detector.engines import Engine
from detector.settings import DetectorSettings
from tailrace.durations import duration_text


class Store(Protocol):
    """Where states are kept."""

    def snapshot(self, name: str = "detector") -> bytes | None:
        """Return a state, None when there is none."""

    def save_snapshot(self, name: str, data: bytes, *, now: float) -> None:
        """Keep a state."""


class Observer(Protocol):
    """What has a memory."""

    def restore(self, saved: bytes) -> None:
        """Take up what an earlier observer knew; ValueError when it cannot be read."""


def remember(store: Store, name: str, observer: Observer, *, note: Callable[[str], None]) -> None:
    """Tell the observer what it knew when the daemon last ran."""
    data = store.snapshot(name)
    if data is None:
        return
    try:
        observer.restore(data)
    except ValueError as error:
        note(f"who was watched before is not known any more: {error}")


def detector_of(store: Store, settings: DetectorSettings, *, note: Callable[[str], None]) -> Engine:
    """Return the engine with its stored baselines, or a new one when there are none.

    A state that cannot be read (of another version, or of another engine) is set aside, never
    overwritten.
    """
    data = store.snapshot("detector")
    if data is None:
        warmup = duration_text(settings.warmup_s)
        note(f"no baselines yet: nothing is judged before {warmup} of traffic were seen")
        return engines.new(settings)
    try:
        return engines.restore(data, settings)
    except ValueError as error:
        store.save_snapshot("detector-unreadable", data, now=time.time())
        note(f"the stored baselines cannot be used ({error}): they are set aside, learning anew")
        return engines.new(settings)
