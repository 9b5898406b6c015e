"""What Tailrace counts, against what nginx and wrk count of the same traffic."""

import sys
from pathlib import Path

import pytest

from tests.support.traffic import hear, nginx, python, say, wrk
from tests.support.watching import watching

pytestmark = pytest.mark.kernel

_CLIENT = """
import socket, sys
port, connections = int(sys.argv[1]), int(sys.argv[2])
request = b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
def read(c):
    data = c.recv(65536)
    while not data.endswith(b"hello\\n"):
        data += c.recv(65536)
    return len(data)
def ask(c):
    c.sendall(request)
    return read(c)
open_ = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
for c in open_: ask(c)
print("open", flush=True)
rounds = int(sys.stdin.readline())
total = sum(ask(c) for _ in range(rounds) for c in open_)
print(rounds * connections, rounds * connections * len(request), total, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("connections", [1, 200])
@pytest.mark.parametrize("close", [False, True], ids=["keepalive", "close"])
@pytest.mark.parametrize("path", ["/", "/file"])
def test_nginx_and_wrk_agree_with_us(
    tmp_path: Path, *, connections: int, close: bool, path: str
) -> None:
    with nginx(tmp_path) as server, watching(1.0) as watch:
        accepts_before, requests_before = server.status()
        url = f"http://127.0.0.1:{server.port}{path}"
        load = wrk(tmp_path, url, connections=connections, seconds=10, close=close)
        accepts, requests = server.status()
        watch.settle()
        pair = watch.pair(port=server.port)
        seen = {s: watch.total(pair, s) for s in ("connections", "requests", "bytes_received")}
        print(
            f"\n{connections=} {close=} {path} nginx={accepts - accepts_before - 1},"
            f"{requests - requests_before - 1} {load} {seen} lost={watch.lost}"
        )
        assert watch.lost == 0
        assert pair == ("wrk", "nginx", server.port, "tcp")
        assert seen["connections"] == accepts - accepts_before - 1
        truth = requests - requests_before - 1
        # nginx also counts those that wrk, at its end, sent and did not wait for: one for each
        # connection at the most, which a load of ten seconds keeps below 0.1 %
        assert abs(seen["requests"] - truth) <= truth * 0.001
        # wrk closes with unread data at its end, which it never counted either
        assert seen["bytes_received"] == load.bytes_read


@pytest.mark.parametrize("connections", [1, 200])
def test_connections_that_were_open_before(tmp_path: Path, connections: int) -> None:
    with nginx(tmp_path) as server, python(_CLIENT, server.port, connections) as client:
        assert hear(client) == "open"
        with watching() as watch:
            say(client, str(max(2000 // connections, 1)))
            requests, sent, received = map(int, hear(client).split())
            watch.settle()
            pair = watch.pair(port=server.port)
            assert pair == (Path(sys.executable).name, "nginx", server.port, "tcp")
            assert watch.total(pair, "requests") == requests
            assert watch.total(pair, "bytes_sent") == sent
            assert watch.total(pair, "bytes_received") == received
            assert watch.total(pair, "connections") == 0
            say(client)
