"""The HTTP server of `/metrics`: reads nothing but the request's head, and waits for nobody."""

from __future__ import annotations

import gzip
import http.server
import ipaddress
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Any, Final

from tailrace.errors import TailraceError

PATH: Final = "/metrics"
SLOWEST_S: Final = 10.0
"""Who takes longer to ask or to read is hung up on."""
MOST_AT_ONCE: Final = 4
_HINT: Final = b"Tailrace. Metrics are at /metrics\n"

Answer = Callable[[str], tuple[bytes, str]]
"""From an Accept header to the body and its content type."""
Counted = Callable[[int], None]
"""Told the status of each answer."""


class Server:
    """Serves from a thread of its own, with a thread for each of a few requests at once.

    Args:
        host: address or name to listen on.
        port: 0 for any that is free.
        answer: makes the body.
        counted: told of each answer.

    Raises:
        TailraceError: it cannot listen there.
    """

    def __init__(self, host: str, port: int, *, answer: Answer, counted: Counted) -> None:
        free = threading.BoundedSemaphore(MOST_AT_ONCE)
        try:
            self._server = _http_server(host, port, _handler(answer, counted), free)
        except OSError as error:  # socket.gaierror is one
            raise TailraceError(
                f"cannot serve metrics: {error.strerror or error}",
                where=f"{host}:{port}",
                remedy="name another address in [metrics] listen, or stop what listens there",
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; an answer that is under way may be cut off."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def is_loopback(host: str) -> bool:
    """Return whether nobody beyond this host reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16
    free: threading.BoundedSemaphore

    def server_bind(self) -> None:
        """Bind, and ask no DNS for this host's own name, as the base class would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be had
            self.free.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a scraper went away."""


class _HttpServer6(_HttpServer):
    address_family = socket.AF_INET6


def _http_server(
    host: str,
    port: int,
    handler: type[http.server.BaseHTTPRequestHandler],
    free: threading.BoundedSemaphore,
) -> _HttpServer:
    kind = _HttpServer6 if ":" in host else _HttpServer
    server = kind((host, port), handler)
    server.free = free
    return server


def _handler(answer: Answer, counted: Counted) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = SLOWEST_S
        server_version, sys_version = "tailrace", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == PATH:
                body, content_type = answer(self.headers.get("accept", ""))
                self._reply(200, body, content_type)
            else:
                self._reply(200 if path == "/" else 404, _HINT, "text/plain; charset=utf-8")

        do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

        def _reply(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("content-type", content_type)
            # Not on this host, where packing costs as much as all the rest and saves nothing
            asks = "gzip" in self.headers.get("accept-encoding", "").lower()
            if asks and not is_loopback(self.client_address[0]):
                body = gzip.compress(body, 1, mtime=0)
                self.send_header("content-encoding", "gzip")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            counted(status)

        def send_error(self, code: int, *_: Any) -> None:
            """Answer what cannot be served, in a line."""
            self.send_response(code)
            self.send_header("content-type", "text/plain; charset=utf-8")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b"GET /metrics\n")
            counted(code)

        def log_message(self, *_: Any) -> None:
            """Say nothing: scrapes come all the time."""

    return Handler
