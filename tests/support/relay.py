"""A UNIX socket in front of another, which can be made to hang, to talk nonsense, or to go away."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path


class Relay:
    """Hands on what comes, until it is told otherwise."""

    def __init__(self, path: Path, behind: Path) -> None:
        """Args: where to listen; whom to hand on to."""
        self.path = path
        self._behind = behind
        self._open: list[socket.socket] = []
        self._hangs = threading.Event()
        self._nonsense = b""
        self._server: socket.socket | None = None
        self.start()

    def start(self) -> None:
        """Listen."""
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.path))
        self._server.listen(64)
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def hang(self) -> None:
        """From now on accept, take what is said, and say nothing, on connections old and new."""
        self._hangs.set()

    def babble(self, nonsense: bytes) -> None:
        """Answer everything with this, on new connections; close the old ones."""
        self._nonsense = nonsense
        self._cut()

    def behave(self) -> None:
        """Hand on again, on new connections; close the old ones."""
        self._hangs.clear()
        self._nonsense = b""
        self._cut()

    def stop(self) -> None:
        """Go away."""
        server, self._server = self._server, None
        if server is not None:
            self.path.unlink()
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        self._cut()

    def _cut(self) -> None:
        opened, self._open = self._open, []
        for end in opened:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                near = server.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far, contextlib.suppress(OSError):
            self._open.append(near)
            if not self._nonsense:
                far.connect(str(self._behind))
            ends = {near: far} if self._nonsense else {near: far, far: near}
            while True:
                for end in select.select(ends, (), ())[0]:
                    said = end.recv(65536)
                    if not said:
                        return
                    if self._nonsense:
                        end.sendall(self._nonsense)
                    elif not self._hangs.is_set():
                        ends[end].sendall(said)


@contextlib.contextmanager
def relay(path: Path, behind: Path) -> Iterator[Relay]:
    """Relay for the length of a `with`."""
    it = Relay(path, behind)
    try:
        yield it
    finally:
        it.stop()
