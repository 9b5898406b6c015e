"""A service whose load and speed vary as real ones' do, which changes on request.

Run as a program, under the name that its service shall have; `python varying.py --help` says how.
Each line on its standard input is a new number for what its role has to change: the median time
that a server takes, the share of connections that it resets, or the rate of a client.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

Exchange = Callable[[socket.socket, random.Random], None]
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close(2) sends a reset


def _until(peer: socket.socket, ending: bytes) -> bytes:
    """Receive up to `ending`; fail when the peer closes before."""
    data = b""
    while not data.endswith(ending):
        part = peer.recv(65536)
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = peer.recv(size - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


# What clients say


def _http(peer: socket.socket, random_: random.Random) -> None:
    peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    data = b""
    while b"\r\n\r\n" not in data:
        part = peer.recv(65536)
        if not part:
            raise ConnectionError("closed")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split()[0])
    _exactly(peer, size - len(body))


def _redis(peer: socket.socket, random_: random.Random) -> None:
    key = b"key:%d" % random_.randrange(1000)
    if random_.random() < 0.2:
        peer.sendall(b"SET %s %s\r\n" % (key, b"v" * int(random_.lognormvariate(5, 1))))
        _until(peer, b"+OK\r\n")
    else:
        peer.sendall(b"GETRANGE %s 0 -1\r\n" % key)
        _bulk(peer)


def _bulk(peer: socket.socket) -> None:
    _lines(peer, lambda data: 1 if data.startswith(b"$-1") else 2)


def _lines(peer: socket.socket, wanted: Callable[[bytes], int]) -> bytes:
    """Receive an answer of Redis, whose first bytes say how many lines it has."""
    data = peer.recv(65536)
    while data and data.count(b"\r\n") < wanted(data):
        part = peer.recv(65536)
        data = data + part if part else b""
    if not data:
        raise ConnectionError("closed")
    return data


def _push(peer: socket.socket, random_: random.Random) -> None:
    peer.sendall(b"RPUSH jobs %s\r\n" % (b"j" * random_.randrange(50, 500)))
    _until(peer, b"\r\n")


def _work(peer: socket.socket, random_: random.Random) -> None:
    """Take a job, if there is one within 5 s, and work on it; now and then have a long pause."""
    peer.sendall(b"BLPOP jobs 5\r\n")
    if _lines(peer, lambda data: 1 if data.startswith(b"*-1") else 5).startswith(b"*-1"):
        return
    time.sleep(random_.lognormvariate(math.log(0.02), 0.7))
    if random_.random() < 0.01:
        time.sleep(random_.uniform(3, 15))


def _postgres_hello(peer: socket.socket) -> None:
    words = b"user\0postgres\0database\0postgres\0\0"
    peer.sendall(struct.pack("!ii", 8 + len(words), 196608) + words)
    _postgres_ready(peer)


def _postgres(peer: socket.socket, random_: random.Random) -> None:
    first = random_.randrange(90_000)
    count = int(random_.lognormvariate(math.log(300), 1))
    query = (
        "SELECT sum(abalance) FROM pgbench_accounts "
        f"WHERE aid BETWEEN {first} AND {first + count}\0"
    ).encode()
    peer.sendall(b"Q" + struct.pack("!i", 4 + len(query)) + query)
    _postgres_ready(peer)


def _postgres_ready(peer: socket.socket) -> None:
    kind = b""
    while kind != b"Z":
        kind = _exactly(peer, 1)
        (size,) = struct.unpack("!i", _exactly(peer, 4))
        body = _exactly(peer, size - 4)
        if kind == b"E":
            raise ConnectionError(body.decode(errors="replace"))


def _dns(peer: socket.socket, random_: random.Random) -> None:
    """Ask for one of some names; one in fifty does not exist."""
    name = random_.choice(("api", "db", "cache", "queue")) if random_.random() < 0.98 else "none"
    labels = b"".join(bytes([len(part)]) + part.encode() for part in (name, "soak", "test"))
    kind = random_.choice((1, 28))  # A, AAAA
    question = labels + b"\0" + struct.pack("!HH", kind, 1)
    number = random_.randrange(65536)
    peer.sendall(struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + question)
    peer.recv(4096)


EXCHANGES: dict[str, Exchange] = {
    "http": _http, "redis": _redis, "push": _push, "work": _work, "postgres": _postgres,
    "dns": _dns,
}  # fmt: skip


def _connect(arguments: argparse.Namespace) -> socket.socket:
    if arguments.where.startswith("/"):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(10)
        peer.connect(arguments.where)
        return peer
    host, port = arguments.where.rsplit(":", 1)
    if arguments.protocol == "dns":
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.settimeout(10)
        peer.connect((host, int(port)))
        return peer
    source = (arguments.source, 0) if arguments.source else None
    peer = socket.create_connection((host, int(port)), timeout=10, source_address=source)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if arguments.protocol == "postgres":
        _postgres_hello(peer)
    return peer


class _Pace:
    """The rate of a client over time: a wave, a random walk that returns, and jobs with pauses."""

    WALK_S = 300.0

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._given = arguments
        self.rate: float = arguments.rate
        self._random = random.Random(arguments.seed)
        self._walk, self._walked = 0.0, time.monotonic()

    def now(self) -> float:
        """Return requests per second for the client's threads together; 0 in a job's pause."""
        given, now = self._given, time.monotonic()
        if given.every and now % given.every >= given.lasts:
            return 0.0
        while self._walked < now - 1.0:
            self._walked += 1.0
            step = given.walk * math.sqrt(2.0 / self.WALK_S)
            self._walk += self._random.gauss(0.0, step) - self._walk / self.WALK_S
        log = self._walk
        if given.period:
            log += 0.5 * math.log(given.factor) * math.sin(2.0 * math.pi * now / given.period)
        return self.rate * math.exp(log)


def _call(arguments: argparse.Namespace, pace: _Pace, number: int) -> None:
    exchange = EXCHANGES[arguments.protocol]
    random_ = random.Random(arguments.seed * 1000 + number)
    peer: socket.socket | None = None
    due = time.monotonic()
    while True:
        rate = pace.now() / arguments.threads
        if rate <= 0.0:
            time.sleep(0.05)
            due = time.monotonic()
            continue
        due = max(due + random_.expovariate(rate), time.monotonic() - 0.5)
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            if peer is None:
                peer = _connect(arguments)
            exchange(peer, random_)
            if arguments.close:
                peer.close()
                peer = None
        except OSError:
            if peer is not None:
                peer.close()
            peer = None


class _Server:
    """Answers HTTP after a time that is log-normal about a median; resets a share, if asked to."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._given = arguments
        self.median_s: float = arguments.median
        self.resets = 0.0

    def serve(self) -> None:
        """Accept for ever."""
        where = self._given.where
        if where.startswith("/"):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(where)
            listener.listen(256)
        else:
            host, port = where.rsplit(":", 1)
            listener = socket.create_server((host, int(port)), backlog=256)
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        victim = self._given.victim
        with peer:
            try:
                mine = bool(victim) and peer.getpeername()[0] == victim
                while True:
                    _until(peer, b"\r\n\r\n")
                    if self.median_s > 0:
                        time.sleep(
                            random.lognormvariate(math.log(self.median_s), self._given.spread)
                        )
                    if mine and random.random() < self.resets:
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                        return
                    body = b"b" * int(random.lognormvariate(math.log(self._given.size), 0.5))
                    peer.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                    )
            except OSError:
                return


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    serve = roles.add_parser("serve")
    serve.add_argument("where", help="ADDRESS:PORT, or the path of a UNIX socket")
    serve.add_argument("--median", type=float, default=0.0, help="time to answer, seconds")
    serve.add_argument("--spread", type=float, default=0.4, help="of that time's logarithm")
    serve.add_argument("--size", type=float, default=1000.0, help="median size of an answer, bytes")
    serve.add_argument("--victim", default="", help="the client that is reset; standard input "
                       "is then the share of its requests")  # fmt: skip
    call = roles.add_parser("call")
    call.add_argument("protocol", choices=sorted(EXCHANGES))
    call.add_argument("where", help="ADDRESS:PORT, or the path of a UNIX socket")
    call.add_argument("--rate", type=float, required=True, help="requests per second")
    call.add_argument("--threads", type=int, default=1, help="connections that share the rate")
    call.add_argument("--close", action="store_true", help="a connection for each request")
    call.add_argument("--walk", type=float, default=0.0, help="spread of the rate's random walk")
    call.add_argument("--period", type=float, default=0.0, help="of the wave, seconds")
    call.add_argument("--factor", type=float, default=2.0, help="of the wave, highest to lowest")
    call.add_argument("--every", type=float, default=0.0, help="a job begins every so many seconds")
    call.add_argument("--lasts", type=float, default=1.0, help="length of a job, seconds")
    call.add_argument("--source", default="", help="address to connect from")
    call.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _main() -> None:
    arguments = _parse()
    change: Callable[[float], None]
    if arguments.role == "serve":
        server = _Server(arguments)
        threading.Thread(target=server.serve, daemon=True).start()
        name = "resets" if arguments.victim else "median_s"
        change = lambda number: setattr(server, name, number)  # noqa: E731
    else:
        pace = _Pace(arguments)
        for number in range(arguments.threads):
            threading.Thread(target=_call, args=(arguments, pace, number), daemon=True).start()
        change = lambda number: setattr(pace, "rate", number)  # noqa: E731
    for line in sys.stdin:
        change(float(line))
    os._exit(0)


if __name__ == "__main__":
    _main()
