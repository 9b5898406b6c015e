"""A small HTTP server on loopback, in threads, that can be told to fail in many ways."""

from __future__ import annotations

import http.server
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    arrived: float  # epoch seconds


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What to answer, after how long; `hang_up` closes the connection without an answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang_up: bool = False


class LocalServer:
    """Answers with `next_answers` while there are any, then with what `answer` returns."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.next_answers: deque[Answer] = deque()
        self.port = 0
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._server: http.server.ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request; called by one thread at a time."""
        raise NotImplementedError

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> Self:
        """Listen, on the same port as before."""
        self._closing.clear()
        self._server = _Server(("127.0.0.1", self.port), _handler(self._handle))
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def down(self) -> None:
        """Stop listening: connections are refused."""
        self._closing.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.up()

    def __exit__(self, *_: object) -> None:
        self.down()

    def wait_for(self, condition: Callable[[], Any], *, timeout_s: float = 10.0) -> None:
        """Wait until a condition on this server holds, and fail when it does not in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with self._lock:
                if condition():
                    return
            time.sleep(0.01)
        raise AssertionError(f"not within {timeout_s} s; {len(self.requests)} requests arrived")

    def _handle(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            answer = self.next_answers.popleft() if self.next_answers else self.answer(request)
        if answer.delay_s:
            self._closing.wait(answer.delay_s)
        return answer


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # joined on close: nothing outlives the test
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a client went away."""


def _handler(handle: Callable[[Request], Answer]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 20

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            request = Request(
                method=self.command,
                path=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
                arrived=time.time(),
            )
            answer = handle(request)
            if answer.hang_up:
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST  # noqa: N815 - the base class looks for this name

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
