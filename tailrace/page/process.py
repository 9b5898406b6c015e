"""The page's process: the least it can do with, bounded in all it holds."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tailrace.page.app import application
from tailrace.page.beside import Request
from tailrace.page.keys import Keys
from tailrace.page.source import Source

CONNECTIONS: Final = 128
"""Connections at a time; what comes above is closed at once."""
REQUEST_S: Final = 15.0
"""A request must be there so long after its connection, or after the answer before it."""
HEADERS_BYTES: Final = 16_384
MEMORY_BYTES: Final = 2 << 30
NICE: Final = 10

_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION_3: Final = 0x20080522


def serve(request: Request) -> None:
    """Serve the page until nobody looks, the daemon is gone, or SIGTERM."""
    give_up_privileges()
    password = ""
    if request.password_file is not None:
        password = Path(request.password_file).read_text(encoding="utf-8").strip()
        if not password:
            sys.exit("the page's password_file is empty")
    state_dir = Path(request.state_dir)
    listening = socket.socket(fileno=request.socket)
    with Source(state_dir) as source:
        app = application(
            source,
            Keys.of(state_dir, password),
            listening=listening.getsockname()[0],
            hosts=request.hosts,
            password=bool(password),
        )
        config = uvicorn.Config(
            app,
            http=_Bounded,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=round(REQUEST_S),
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=HEADERS_BYTES,
        )
        _Server(config, idle_s=request.idle_s).run(sockets=[listening])


def give_up_privileges() -> None:
    """Keep what it takes to read the state directory's files, as their owner, and no more."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        # Short of memory, the page goes first
        Path("/proc/self/oom_score_adj").write_text("900")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot give up privileges")


class _Server(uvicorn.Server):
    """Ends when nobody looks, and when the daemon is gone."""

    def __init__(self, config: uvicorn.Config, *, idle_s: float) -> None:
        super().__init__(config)
        self._idle_s, self._busy = idle_s, time.monotonic()
        threading.Thread(target=self._outlive_nobody, name="daemon", daemon=True).start()

    def _outlive_nobody(self) -> None:
        os.read(sys.stdin.fileno(), 1)  # ends with the daemon
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        now = time.monotonic()
        if self.server_state.connections:
            self._busy = now
        return await super().on_tick(counter) or now - self._busy > self._idle_s


class _Bounded(H11Protocol):
    """A connection of a bounded number, whose requests come in a bounded time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        if len(self.connections) >= CONNECTIONS:
            transport.abort()
            return
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expected()
        if self in self.connections:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport is None:
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._expected()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._expect()

    def _expect(self) -> None:
        self._expected()
        self._deadline = self.loop.call_later(REQUEST_S, self._late)

    def _expected(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
