"""An application server, or a worker, which needs Redis and PostgreSQL; it breaks on request.

Run as a program, under the name that its service shall have, with `varying.py` beside it. Lines
on standard input: `query S` makes PostgreSQL take S seconds longer for each query, `hold N` keeps
N connections of the pool for itself, `deaf 1` stops accepting, `deaf 0` goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

from varying import _lines, _postgres_hello, _postgres_ready, _until

SLOWER_S = 0.0  # a new version has another number here
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\n" + b"a" * 500
FAILED = b"HTTP/1.1 500 Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Pool:
    """Connections that requests take turns with; one that broke is opened anew by who needs it."""

    def __init__(self, port: int, size: int, hello: Callable[[socket.socket], None]) -> None:
        self._port, self._hello = port, hello
        self.idle: queue.LifoQueue[socket.socket | None] = queue.LifoQueue()
        for _ in range(size):
            self.idle.put(None)

    @contextlib.contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """Wait for a connection and lend it; one that failed is closed."""
        peer = self.idle.get(timeout=20)
        try:
            if peer is None:
                peer = socket.create_connection(("127.0.0.1", self._port), timeout=10)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._hello(peer)
            yield peer
        except BaseException:
            if peer is not None:
                peer.close()
            self.idle.put(None)
            raise
        self.idle.put(peer)

    def hold(self, number: int) -> None:
        """Take so many connections away from everybody else, until the number is 0."""
        self._held = [self.idle.get(timeout=20) for _ in range(number)]

    def release(self) -> None:
        """Give back what was held."""
        for peer in self._held:
            self.idle.put(peer)


def _query(peer: socket.socket, text: bytes) -> None:
    peer.sendall(b"Q" + struct.pack("!i", 5 + len(text)) + text + b"\0")
    _postgres_ready(peer)


def _command(peer: socket.socket, *lines: bytes) -> None:
    for line in lines:
        peer.sendall(line + b"\r\n")
        _until(peer, b"\r\n")


class App:
    """Answers HTTP, one connection a request."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._postgres = Pool(given.postgres, given.pool, _postgres_hello)
        self._redis = Pool(given.redis, 8, lambda peer: None)
        self.deaf = False

    def serve(self) -> None:
        """Accept for ever, unless deaf."""
        listener = socket.create_server(("127.0.0.1", self._given.port), backlog=8)
        while True:
            while self.deaf:
                time.sleep(0.05)
            peer, _ = listener.accept()
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            _until(peer, b"\r\n\r\n")
            try:
                with self._redis.connection() as redis:
                    _command(redis, b"INCR visits", b"RPUSH jobs job")
                with self._postgres.connection() as postgres:
                    _query(postgres, b"SELECT price(1)")
                time.sleep(0.004 + SLOWER_S)
            except (OSError, queue.Empty):
                peer.sendall(FAILED)
                return
            peer.sendall(ANSWER)

    def do(self, word: str, number: float) -> None:
        """Break something, or mend it."""
        if word == "query":
            with self._postgres.connection() as postgres:
                _query(postgres, b"UPDATE pace SET delay = %g" % number)
        elif word == "hold" and number:
            self._postgres.hold(int(number))
        elif word == "hold":
            self._postgres.release()
        elif word == "deaf":
            self.deaf = bool(number)


def _work(given: argparse.Namespace) -> None:
    """Take jobs from Redis, and note each in PostgreSQL."""
    redis = Pool(given.redis, 1, lambda peer: None)
    postgres = Pool(given.postgres, 1, _postgres_hello)
    while True:
        try:
            with redis.connection() as peer:
                peer.sendall(b"BLPOP jobs 5\r\n")
                if _lines(peer, lambda data: 1 if data.startswith(b"*-1") else 5)[:3] == b"*-1":
                    continue
            with postgres.connection() as peer:
                _query(peer, b"INSERT INTO done VALUES (now())")
        except OSError:
            time.sleep(0.2)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="where to answer; none for a worker")
    parser.add_argument("--redis", type=int, required=True)
    parser.add_argument("--postgres", type=int, required=True)
    parser.add_argument("--pool", type=int, default=6, help="connections to PostgreSQL")
    given = parser.parse_args()
    if given.port is None:
        threading.Thread(target=_work, args=(given,), daemon=True).start()
        sys.stdin.read()
    else:
        app = App(given)
        threading.Thread(target=app.serve, daemon=True).start()
        for line in sys.stdin:
            word, number = line.split()
            app.do(word, float(number))
    os._exit(0)


if __name__ == "__main__":
    _main()
