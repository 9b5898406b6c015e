"""Tailrace's observer in a process of its own, as the daemon runs it, and what that costs.

The child takes a window each second and looks at nothing in it: the cost is that of observing;
detecting, storing and alerting are not in it.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from benchmarks.kernel_child import BenchmarkError, Child, pss_bytes, python_child
from probes.errors import ProbeError
from probes.observer import Observer

_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """What the observing process said after one window.

    Attributes:
        cpu_s: user and system CPU seconds of the process (and of helpers that have ended) so far.
        at: when the window came out, `time.monotonic()` seconds.
        rows: rows of the window.
        pairs: service pairs that the window's rows refer to.
        lost: samples lost in the window.
        connections: connection records held; -1 when this observer does not say.
    """

    cpu_s: float
    at: float
    rows: int
    pairs: int
    lost: int
    connections: int


def _cpu_s() -> float:
    helpers = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + helpers.ru_utime + helpers.ru_stime


def _say(kind: str, **fields: object) -> None:
    sys.stdout.write(f"{kind} {json.dumps(fields)}\n")
    sys.stdout.flush()


def _observer(window_s: float, connections: int) -> tuple[Observer, int]:
    """Return an observer with room for so many connections, and the room that was asked for."""
    if not connections:
        return Observer(window_s), 0
    try:
        from probes.capacity import Capacity  # noqa: PLC0415  (an observer may do without)

        capacity = Capacity(connections=connections)
        return Observer(window_s, capacity=capacity), connections
    except (ImportError, TypeError):
        return Observer(window_s), 0


def _obey(observer: Observer) -> None:
    for _ in sys.stdin:
        _say("programs", **observer.run_time_ns())
    observer.stop()


def child_main() -> None:
    """Observe until the standard input ends; a line on it is answered with the programs' times."""
    window_s, connections = float(sys.argv[1]), int(sys.argv[2])
    try:
        observer, room = _observer(window_s, connections)
    except ProbeError as error:
        sys.exit(str(error))
    with observer:
        _say("ready", cpu_s=_cpu_s(), room=room, notes=observer.notes)
        threading.Thread(target=_obey, args=(observer,), daemon=True).start()
        for window in observer.windows():
            _say(
                "window",
                cpu_s=_cpu_s(),
                at=time.monotonic(),
                rows=len(window),
                pairs=len(set(window.pair.tolist())),
                lost=window.lost,
                connections=getattr(observer, "connections", -1),
            )


class Watcher:
    """Tailrace's observer in a child process; it ends with the `with`.

    Attributes:
        ready_s: from the process's start until the probes were attached and checked.
        first_window_s: from the process's start until the first window was out.
        start_cpu_s: user and system CPU seconds until the probes were attached and checked.
        room: the connections it was given room for; 0 for its own default.
        failed_starts: why observers of this run did not start at first.
    """

    failed_starts: ClassVar[list[str]] = []

    def __init__(self, window_s: float = 1.0, *, connections: int = 0) -> None:
        """Start it and wait for its first window.

        Args:
            window_s: length of a window in seconds.
            connections: how many connections there must be room for; 0 for the default.

        Raises:
            BenchmarkError: this host cannot be watched.
        """
        self._window_s = window_s
        self._child, said = self._start(window_s, connections)
        try:
            ready = json.loads(said)
            self.ready_s = time.monotonic() - self._child.started
            self.start_cpu_s: float = ready["cpu_s"]
            self.room: int = ready["room"]
            self.notes: list[str] = ready["notes"]
            first = self.window()
        except BaseException:
            self._child.close()
            raise
        self.first_window_s = first.at - self._child.started

    @classmethod
    def _start(cls, window_s: float, connections: int) -> tuple[Child, str]:
        for attempt in range(_ATTEMPTS):
            child = python_child("benchmarks.kernel_watch:child_main", window_s, connections)
            try:
                return child, child.expect("ready", 60).partition(" ")[2]
            except BenchmarkError as error:
                child.close()
                cls.failed_starts.append(str(error))
                if attempt == _ATTEMPTS - 1:
                    raise
                sys.stderr.write(f"the observer did not start, once more: {error}\n")
            except BaseException:
                child.close()
                raise
        raise AssertionError

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def window(self) -> Seen:
        """Return the next window that nobody has taken yet."""
        line = self._child.expect("window", 60 + 10 * self._window_s)
        return Seen(**json.loads(line.partition(" ")[2]))

    def so_far(self) -> list[Seen]:
        """Return the windows that are out and that nobody has taken yet, without waiting."""
        lines = [line.partition(" ") for line in self._child.said()]
        return [Seen(**json.loads(text)) for kind, _, text in lines if kind == "window"]

    def windows(self, number: int) -> list[Seen]:
        """Return the next windows, from now on."""
        self.so_far()
        return [self.window() for _ in range(number)]

    def programs(self) -> dict[str, tuple[int, int]]:
        """Return {program: (ns spent, times run)} so far; windows not yet taken are forgotten."""
        self._child.say("programs")
        line = self._child.expect("programs")
        times: dict[str, Any] = json.loads(line.partition(" ")[2])
        return {name: (spent, runs) for name, (spent, runs) in times.items()}

    def pss_bytes(self) -> int:
        """Return the proportional set size of the process and its descendants, in bytes."""
        return pss_bytes(self.pid)

    def close(self) -> None:
        """End it."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def cpu_share(windows: list[Seen]) -> float:
    """Return the CPU of the observing process over these windows, as a share of one core.

    Raises:
        BenchmarkError: fewer than two windows.
    """
    if len(windows) < 2:
        raise BenchmarkError("fewer than two windows came: measure for longer")
    first, last = windows[0], windows[-1]
    return (last.cpu_s - first.cpu_s) / (last.at - first.at)


def cpu_per_window(windows: list[Seen]) -> list[float]:
    """Return the CPU seconds of the observing process from each window to the next."""
    return [b.cpu_s - a.cpu_s for a, b in itertools.pairwise(windows)]
