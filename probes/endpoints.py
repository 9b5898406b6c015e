"""Which service answered where: one that is down has no socket to take its name from."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Final, NamedTuple

_MOST: Final = 20_000


def mapped(address: str) -> bytes:
    """Return an address as the probes store it: 16 bytes, IPv4 as ::ffff:a.b.c.d."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return bytes(10) + b"\xff\xff" + socket.inet_pton(socket.AF_INET, address)


def address_text(address: bytes) -> str:
    """Return an address of the probes (16 bytes) in its usual notation."""
    parsed = ipaddress.IPv6Address(address)
    return str(parsed.ipv4_mapped or parsed)


def endpoint_text(address: bytes, port: int) -> str:
    """Return an address and a port: "10.96.0.10:80", "[fd96::10]:80"."""
    text = address_text(address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


class Where(NamedTuple):
    """Where a client asked: a network namespace, an address of 16 bytes, a port."""

    netns: int
    address: bytes
    port: int


class Answerer(NamedTuple):
    """Who answered, and at which port of its own: both may be translated on the way."""

    service: str
    port: int


class Endpoints:
    """Remembers who answered; who has not for the longest time is forgotten first."""

    def __init__(self) -> None:
        self._known: dict[Where, Answerer] = {}

    def learn(self, where: Where, who: Answerer) -> None:
        """Take note of who answers."""
        self._known.pop(where, None)
        self._known[where] = who
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    def find(self, where: Where) -> Answerer | None:
        """Return who answered there last; None if nobody ever did."""
        return self._known.get(where)

    def __iter__(self) -> Iterator[tuple[Where, Answerer]]:
        return iter(self._known.items())
