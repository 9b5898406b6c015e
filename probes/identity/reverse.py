"""Names of addresses by reverse lookup, in a thread: only if the user wants it."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from probes.endpoints import address_text

_MOST: Final = 10_000
_MOST_WAITING: Final = 1_000
_AGAIN_S: Final = 3600.0
_SLOW_S: Final = 2.0
_PAUSE_S: Final = 30.0


def _ask(address: str) -> str:
    """Return the name that the system's resolver knows.

    Raises:
        OSError: it knows none.
    """
    return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]


class ReverseNames:
    """What the system's resolver says of addresses (PTR, /etc/hosts), kept for an hour.

    Attributes:
        dropped: addresses that were not asked for, as too many waited.
    """

    def __init__(self, ask: Callable[[str], str] = _ask, *, pause_s: float = _PAUSE_S) -> None:
        """Begin; `close` it.

        Args:
            ask: how; it may take as long as a resolver does.
            pause_s: how long a resolver that is slow is left alone.
        """
        self.dropped = 0
        self._ask, self._pause_s = ask, pause_s
        self._known: dict[bytes, tuple[str, float]] = {}  # name, until when (monotonic)
        self._waiting: queue.Queue[bytes] = queue.Queue(_MOST_WAITING)
        self._asked: set[bytes] = set()
        self._found: queue.SimpleQueue[tuple[bytes, str]] = queue.SimpleQueue()
        self._stop = threading.Event()
        # A daemon: a resolver may take its time, and nobody waits for it
        self._thread = threading.Thread(target=self._run, name="reverse dns", daemon=True)
        self._thread.start()

    def find(self, address: bytes) -> str:
        """Return the name of an address, "" if it has none or none is known yet.

        Args:
            address: 16 bytes.
        """
        name, until = self._known.get(address, ("", 0.0))
        if until < time.monotonic() and address not in self._asked:
            try:
                self._waiting.put_nowait(address)
                self._asked.add(address)
            except queue.Full:
                self.dropped += 1
        return name

    def found(self) -> list[bytes]:
        """Return the addresses that have got a name since the last call."""
        named = []
        while not self._found.empty():
            address, name = self._found.get()
            self._asked.discard(address)
            self._known.pop(address, None)
            self._known[address] = name, time.monotonic() + _AGAIN_S
            if len(self._known) > _MOST:
                del self._known[next(iter(self._known))]
            if name:
                named.append(address)
        return named

    def close(self) -> None:
        """Ask no more."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                address = self._waiting.get(timeout=0.5)
            except queue.Empty:
                continue
            began = time.monotonic()
            try:
                name = self._ask(address_text(address)).rstrip(".").lower()
            except (OSError, UnicodeError):
                name = ""
            self._found.put((address, name))
            if time.monotonic() - began > _SLOW_S:
                self._stop.wait(self._pause_s)
