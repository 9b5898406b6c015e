"""This host as a source of windows, and how watching it ends."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol, Self

from probes.window import Window
from tailrace.errors import TailraceError


class Observer(Protocol):
    """What watches the host: `probes.observer.Observer`."""

    notes: list[str]

    def windows(self) -> Iterator[Window]:
        """Yield one window per interval, until it is stopped."""

    def stop(self) -> None:
        """Make `windows` end; called from another thread."""

    def memory(self) -> bytes:
        """Return what a later observer should know."""

    def restore(self, saved: bytes) -> None:
        """Take up what an earlier observer knew; ValueError when it cannot be read."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


def observer(window_s: float) -> Observer:
    """Return what watches this host.

    Raises:
        TailraceError: this machine lacks what it takes.
    """
    try:
        # Late: it needs BCC, which only some machines have, and few commands have use for
        from probes.observer import Observer as Host  # noqa: PLC0415
    except ImportError as error:
        raise TailraceError(
            f"cannot watch this host: {error}",
            remedy="run `tailrace doctor` to see what is missing",
        ) from error
    return Host(window_s=window_s)


def windows_within(duration_s: float | None, window_s: float) -> int | None:
    """Return how many windows cover a duration; None for no end."""
    if duration_s is None:
        return None
    return max(1, math.ceil(round(duration_s / window_s, 6)))


class Interrupt:
    """Which signal asked for the end, if one did."""

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, otherwise 0: SIGTERM is how a service is stopped."""
        return 130 if self.number == signal.SIGINT else 0


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[Interrupt]:
    """Call `stop` on the first SIGTERM or SIGINT; a second one ends the process at once."""
    interrupt = Interrupt()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        interrupt.number = number
        restore()
        # Not from here: the main thread may hold the very lock that waking it takes
        threading.Thread(target=stop, name="stop", daemon=True).start()

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield interrupt
    finally:
        restore()
