"""The traffic whose truth is known: `peers.py server`, `peers.py client`; plain sockets only.

Started by tests.kernels.suite. Both talk to it in lines on standard input and output:

    server   prints {"early": port}; on a line opens the other ports and prints all of them
    client   is told the early port, connects to it, prints "open"; is told all the ports, makes
             the traffic, prints the Plan as it was carried out

A request is a header (length of the body, length of the answer, what to do afterwards) and a
body; an answer is so many bytes. So one server serves every scene, each on its own port.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass

HEADER = struct.Struct("!IIB")
ANSWER, RESET, END = 0, 1, 2
"""What the server does after its answer: nothing, reset the connection, close it."""
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Connections to one port that all do the same.

    Attributes:
        name: for the report.
        family: 4 or 6.
        connections: how many.
        requests: on each, in turns over all connections: 2nd request after all firsts.
        body: bytes of a request after its header.
        answer: bytes of an answer.
        pieces: in how many sends each side sends.
        way: how the client sends and receives: "send", "sendfile", "peek" (looks before it
            reads), "vector" (sendmsg and recvmsg), "file" (write and read).
        closing: who ends the connections and how: "client", "server" (in an orderly way),
            "client resets", "server resets".
        early: connected before the observer starts.
        refused: nobody listens there.
    """

    name: str
    family: int = 4
    connections: int = 1
    requests: int = 1
    body: int = 91
    answer: int = 300
    pieces: int = 1
    way: str = "send"
    closing: str = "client"
    early: bool = False
    refused: bool = False


SCENES = (
    Scene(name="open before", connections=3, requests=4, early=True),
    Scene(name="keep-alive", connections=20, requests=10, pieces=2),
    Scene(name="keep-alive, IPv6", family=6, connections=5, requests=10),
    Scene(name="one request each", connections=30, closing="server"),
    Scene(name="one request each, IPv6", family=6, connections=10),
    Scene(name="refused", connections=7, refused=True),
    Scene(name="refused, IPv6", family=6, connections=7, refused=True),
    Scene(name="reset by client", connections=5, closing="client resets"),
    Scene(name="reset by server", connections=3, closing="server resets"),
    Scene(name="sendfile", connections=2, requests=2, body=100_000, way="sendfile"),
    Scene(name="peeked at", connections=2, requests=3, way="peek"),
    Scene(name="sendmsg, recvmsg", connections=2, requests=3, way="vector"),
    Scene(name="write, read", connections=2, requests=3, way="file"),
)


def _exactly(receive: Callable[[int], bytes], length: int) -> bytes:
    parts, have = [], 0
    while have < length:
        part = receive(length - have)
        if not part:
            if have:
                raise EOFError(f"{have} bytes of {length}")
            return b""
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def _send_in_pieces(connection: socket.socket, data: bytes, pieces: int) -> None:
    size = -(-len(data) // pieces)
    for start in range(0, len(data), size):
        connection.sendall(data[start : start + size])


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _serve(connection: socket.socket, pieces: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        try:
            while head := _exactly(connection.recv, HEADER.size):
                body, answer, then = HEADER.unpack(head)
                _exactly(connection.recv, body)
                _send_in_pieces(connection, bytes(answer), pieces)
                if then == RESET:
                    # not before the client has read it all: a reset discards what is on its way
                    connection.recv(1)
                    _reset(connection)
                    return
                if then == END:
                    return
        except ConnectionResetError:
            pass


LOTS = 4
"""So many of these programs may run at a time, with a number below this each."""
_taken: set[int] = set()


def _listen(scene: Scene, lot: int) -> socket.socket:
    # one port per scene: IPv4 and IPv6 have numbers of their own, which may fall together; and of
    # two that run at a time, each has numbers that the other has not
    while True:
        server = socket.socket(socket.AF_INET if scene.family == 4 else socket.AF_INET6)
        server.bind((LOOPBACK[scene.family], 0))
        port = server.getsockname()[1]
        # half: a kernel that is asked for any port gives odd ones first
        if port not in _taken and port // 2 % LOTS == lot:
            break
        server.close()
    _taken.add(port)
    if scene.refused:
        return server  # bound, so that nobody else gets the port, and not listening
    server.listen(64)

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_serve, args=(connection, scene.pieces), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server


def serve(lot: int) -> None:
    ports = {}
    kept = []
    for early in (True, False):
        for scene in SCENES:
            if scene.early == early:
                server = _listen(scene, lot)
                ports[scene.name] = server.getsockname()[1]
                kept.append(server)
        print(json.dumps(ports), flush=True)
        if not sys.stdin.readline():
            return


def _connect(scene: Scene, port: int) -> socket.socket:
    connection = socket.create_connection((LOOPBACK[scene.family], port), timeout=_TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _ask(scene: Scene, connection: socket.socket, *, last: bool) -> tuple[int, int]:
    """Make one request; return the bytes sent and received."""
    then = ANSWER
    if last:
        then = {"server": END, "server resets": RESET}.get(scene.closing, ANSWER)
    head = HEADER.pack(scene.body, scene.answer, then)
    body = bytes(scene.body)
    receive: Callable[[int], bytes] = connection.recv
    if scene.way == "sendfile":
        with tempfile.TemporaryFile() as file:
            file.write(head + body)
            file.seek(0)
            # a time-out makes the socket non-blocking, and then sendfile stops in the middle
            connection.settimeout(None)
            assert connection.sendfile(file) == len(head + body)
    elif scene.way == "vector":
        assert connection.sendmsg([head, body]) == len(head + body)

        def receive(length: int) -> bytes:
            return connection.recvmsg(length)[0]

    elif scene.way == "file":
        connection.settimeout(None)
        assert os.write(connection.fileno(), head + body) == len(head + body)

        def receive(length: int) -> bytes:
            return os.read(connection.fileno(), length)

    else:
        _send_in_pieces(connection, head + body, scene.pieces)
    if scene.way == "peek":
        assert connection.recv(scene.answer, socket.MSG_PEEK)
    answer = _exactly(receive, scene.answer)
    assert len(answer) == scene.answer, f"{scene.name}: {len(answer)} bytes of {scene.answer}"
    return len(head + body), len(answer)


def _end(scene: Scene, connection: socket.socket) -> int:
    """End a connection as the scene wants it; return the bytes that took."""
    if scene.closing == "client resets":
        _reset(connection)
        return 0
    sent = 0
    if scene.closing.startswith("server"):
        if scene.closing == "server resets":
            sent = connection.send(b"!")
        try:
            assert connection.recv(1) == b"", scene.name
            assert scene.closing == "server", "no reset came"
        except ConnectionResetError:
            assert scene.closing == "server resets", scene.name
    connection.close()
    return sent


def _play(scene: Scene, port: int, connections: list[socket.socket]) -> dict[str, int]:
    sent = received = refused = 0
    for _ in range(scene.connections - len(connections)):
        try:
            connections.append(_connect(scene, port))
        except ConnectionRefusedError:
            refused += 1
    assert refused == (scene.connections if scene.refused else 0), scene.name
    for number in range(scene.requests):
        for connection in connections:
            out, in_ = _ask(scene, connection, last=number == scene.requests - 1)
            sent, received = sent + out, received + in_
    for connection in connections:
        sent += _end(scene, connection)
    return {"sent": sent, "received": received}


def ask(_: int) -> None:
    early = [scene for scene in SCENES if scene.early]
    ports = json.loads(sys.stdin.readline())
    opened = {
        scene.name: [_connect(scene, ports[scene.name]) for _ in range(scene.connections)]
        for scene in early
    }
    print("open", flush=True)
    ports = json.loads(sys.stdin.readline())
    done = {
        scene.name: _play(scene, ports[scene.name], opened.get(scene.name, [])) for scene in SCENES
    }
    print(json.dumps(done), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    {"server": serve, "client": ask}[sys.argv[1]](int(sys.argv[2]))
