"""Connections put into a namespace's conntrack, many at a time."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys

from tests.support.nat import within

_FILL = """
from tests.support.ctnetlink import fill
import sys
fill(int(sys.argv[1]), int(sys.argv[2]), first=int(sys.argv[3]))
"""


def _attribute(kind: int, value: bytes) -> bytes:
    padding = b"\0" * (-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


def _tuple(kind: int, source: bytes, destination: bytes, ports: tuple[int, int]) -> bytes:
    addresses = _attribute(1, source) + _attribute(2, destination)
    protocol = _attribute(1, b"\x11") + _attribute(2, struct.pack("!H", ports[0]))
    protocol += _attribute(3, struct.pack("!H", ports[1]))
    return _attribute(kind | 0x8000, _attribute(0x8001, addresses) + _attribute(0x8002, protocol))


def message(number: int, *, translated: bool, new: bool = True) -> bytes:
    """Return the message that adds or deletes UDP connection `number`, of many that differ."""
    source = struct.pack("!I", 0x0A000000 + number)  # 10.0.0.0/8
    asked, real = bytes((192, 0, 2, 1)), bytes((198, 51, 100, 1))  # RFC 5737
    ports = 1024 + number % 60_000, 53
    body = struct.pack("=BBH", socket.AF_INET, 0, 0)
    body += _tuple(1, source, asked, ports)
    body += _tuple(2, asked, source, ports[::-1]) if new else b""
    if new:
        body += _attribute(7, struct.pack("!I", 600))
    if new and translated:
        body += _attribute(13 | 0x8000, _attribute(1, real) + _attribute(2, real))
    # NLM_F_REQUEST, and NLM_F_CREATE with NLM_F_EXCL for a new one
    kind, flags = (0x100, 0x601) if new else (0x102, 0x001)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, number, 0) + body


def fill(number: int, translated: int, *, first: int = 0) -> None:
    """Add so many UDP connections here, the first so many of them translated.

    Raises:
        OSError: the kernel's refusal.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as ctnetlink:
        ctnetlink.bind((0, 0))
        send(
            ctnetlink,
            [message(n, translated=n < first + translated) for n in range(first, first + number)],
        )


def send(ctnetlink: socket.socket, messages: list[bytes]) -> None:
    """Send them, 100 at a time, and hear of refusals.

    Raises:
        OSError: the kernel's refusal.
    """
    for at in range(0, len(messages), 100):
        ctnetlink.send(b"".join(messages[at : at + 100]))
        try:
            data = ctnetlink.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        (code,) = struct.unpack_from("=i", data, 16)
        if code:
            raise OSError(-code, os.strerror(-code))


def fill_in(namespace: str, number: int, translated: int, *, first: int = 0) -> None:
    """`fill` another namespace."""
    command = within(namespace, sys.executable, "-c", _FILL, number, translated, first)
    subprocess.run(command, check=True)
