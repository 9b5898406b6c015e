"""A server that may think before it answers, and a client that may dawdle before it reads.

Run as a program: serve ADDRESS PORT SIZE, or call ADDRESS PORT SIZE CONNECTIONS. It goes on until
its standard input ends; each line there is how long it takes from now on, seconds.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

_QUESTION = b"q" * 100
_pauses = [0.0]


def _receive(peer: socket.socket, size: int) -> bool:
    while size > 0:
        data = peer.recv(min(size, 1 << 16))
        if not data:
            return False
        size -= len(data)
    return True


def _answer(peer: socket.socket, size: int) -> None:
    while _receive(peer, len(_QUESTION)):
        time.sleep(_pauses[-1])
        peer.sendall(b"a" * size)


def _serve(address: str, port: int, size: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=_answer, args=(peer, size), daemon=True).start()


def _call(address: str, port: int, size: int) -> None:
    with socket.create_connection((address, port), timeout=30) as peer:
        while True:
            peer.sendall(_QUESTION)
            time.sleep(_pauses[-1])
            _receive(peer, size)
            time.sleep(0.02)


def _main() -> None:
    role, address, port, size, *number = sys.argv[1:]
    target = _serve if role == "serve" else _call
    for _ in range(int(number[0]) if number else 1):
        arguments = (address, int(port), int(size))
        threading.Thread(target=target, args=arguments, daemon=True).start()
    for line in sys.stdin:
        _pauses[-1] = float(line)
    os._exit(0)


if __name__ == "__main__":
    _main()
