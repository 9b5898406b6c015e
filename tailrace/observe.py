"""This host as a source of windows, and how watching it ends."""

from __future__ import annotations

import contextlib
import functools
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Protocol, Self

from tailrace import condition

if TYPE_CHECKING:
    from probes.identity.service import Service
    from probes.identity.service_event import ServiceEvent
    from probes.identity.sources import NamingSettings
    from probes.programs import Programs
    from probes.window import Pair, Window


class Observer(condition.Observer, Protocol):
    """What watches the host: `probes.observer.Observer`."""

    notes: list[str]

    @property
    def services(self) -> Mapping[str, Service]:
        """What is known of the services in the pairs, by name."""

    def asked(self, pair: Pair) -> Sequence[str]:
        """Return where a pair's clients asked for its server."""

    def events(self) -> Sequence[ServiceEvent]:
        """Return what has happened to services since the last call."""

    @property
    def hooks_in_use(self) -> str:
        """The families of hooks in use, in a line."""

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


class Loading:
    """The probes, which are being loaded while this process does something else.

    Compiling takes a second or two in a process of its own; whoever starts it first and imports
    and opens the rest meanwhile has its first window so much earlier. Use it in a `with`: what
    was loaded and not taken is let go of.
    """

    def __init__(self, hooks: str) -> None:
        """Begin.

        Args:
            hooks: "auto", or the family of hooks that may be used.
        """
        # Late: few commands watch. Here and not in the thread: no two threads import at once
        from probes.programs import Programs  # noqa: PLC0415

        self._load: Callable[[], Programs] = functools.partial(Programs, hooks=hooks)
        self._programs: Programs | None = None
        self._error: BaseException | None = None
        self._abandoned = False
        self._lock = threading.Lock()
        # A daemon: who ends before it is loaded does not wait for the compiler
        self._thread = threading.Thread(target=self._run, name="loading", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            programs = self._load()
        except BaseException as error:  # raised again for who asks
            self._error = error
            return
        with self._lock:
            if not self._abandoned:
                self._programs = programs
                return
        programs.close()

    def observer(
        self,
        window_s: float,
        *,
        overhead_budget: float | None,
        naming: NamingSettings | None = None,
        netns: Sequence[str] = (),
    ) -> Observer:
        """Return what watches this host, as soon as it is loaded.

        Args:
            window_s: length of a window, seconds.
            overhead_budget: share of one core it may use before it measures less; None: no limit.
            naming: how services are named.
            netns: network namespaces to look at; all if there is none.

        Raises:
            ProbeError: this host cannot be watched.
        """
        from probes.observer import Observer as Host  # noqa: PLC0415

        self._thread.join()
        if self._error is not None:
            raise self._error
        programs, self._programs = self._programs, None
        return Host(
            window_s,
            overhead_budget=overhead_budget,
            programs=programs,
            naming=naming,
            netns=netns,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._abandoned = True
            programs, self._programs = self._programs, None
        if programs is not None:
            programs.close()


def observer(
    window_s: float,
    *,
    hooks: str,
    overhead_budget: float | None,
    naming: NamingSettings | None = None,
    netns: Sequence[str] = (),
) -> Observer:
    """Return what watches this host.

    Args:
        window_s: length of a window, seconds.
        hooks: "auto", or the family of hooks that may be used.
        overhead_budget: share of one core it may use before it measures less; None for no limit.
        naming: how services are named.
        netns: network namespaces to look at; all if there is none.

    Raises:
        ProbeError: this host cannot be watched.
    """
    with Loading(hooks) as loading:
        return loading.observer(
            window_s, overhead_budget=overhead_budget, naming=naming, netns=netns
        )


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
