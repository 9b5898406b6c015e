"""From connection records to service pairs."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.matching import hash_rows
from probes.services import ServiceNames, program_name
from probes.window import Pair

_GROUP: Final = np.dtype(
    [
        ("netns", "u4"),
        ("owner", layout.OWNER),
        ("peer", layout.OWNER),
        ("address", "V16"),
        ("port", "u2"),
        ("role", "u1"),
        ("self", "u1"),
    ]
)
IGNORED: Final = -1
"""Pair index of connections that nobody should see: Tailrace's own."""

UNKNOWN: Final = "unknown"

_MOST_ENDPOINTS: Final = 20_000


def mapped(address: str) -> bytes:
    """Return an address as the probes store it: 16 bytes, IPv4 as ::ffff:a.b.c.d."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return bytes(10) + b"\xff\xff" + socket.inet_pton(socket.AF_INET, address)


def address_text(address: bytes) -> str:
    """Return an address of the probes (16 bytes) in its usual notation."""
    parsed = ipaddress.IPv6Address(address)
    return str(parsed.ipv4_mapped or parsed)


class PairNames:
    """Assigns every connection to a service pair; remembers which service answers where.

    Attributes:
        pairs: by index; places of forgotten pairs are used again.
        folded: connections whose pair was folded into "other" because there are too many.
    """

    def __init__(self, services: ServiceNames, *, own_tgid: int, most_pairs: int = 10_000) -> None:
        """Start without pairs.

        Args:
            services: names processes.
            own_tgid: our own process; its connections are ignored.
            most_pairs: while so many are known, further clients of a server are folded into one,
                "other".
        """
        self._services = services
        self._own = own_tgid
        self._most = most_pairs
        self._index: dict[Pair, int] = {}
        self._endpoints: dict[tuple[int, bytes, int], str] = {}
        self._listeners: dict[tuple[int, bytes, int], Any] = {}
        self._free: list[int] = []
        self.pairs: list[Pair] = []
        self.folded = 0

    @property
    def crowded(self) -> bool:
        """Whether it is time to forget pairs."""
        return len(self._index) >= 0.9 * self._most

    def forget(self, indices: NDArray[np.int64]) -> None:
        """Give the places of these pairs to others."""
        for index in indices.tolist():
            if self._index.pop(self.pairs[index], None) is not None:
                self._free.append(index)

    def set_listeners(self, at: NDArray[Any], who: NDArray[Any]) -> None:
        """Take note of who listens where: ENDPOINT[n], LISTENER[n]."""
        self._listeners = {
            (int(a["netns"]), bytes(a["address"]), int(a["port"])): w["owner"]
            for a, w in zip(at, who, strict=True)
        }

    def endpoints(self) -> list[tuple[int, str, int, str]]:
        """Return which service answered where: (network namespace, address, port, service)."""
        return [
            (netns, address_text(address), port, service)
            for (netns, address, port), service in self._endpoints.items()
        ]

    def learn_endpoint(self, netns: int, address: str, port: int, service: str) -> None:
        """Take note of a service that answers at an address, as seen from a namespace.

        Raises:
            OSError: it is not an address.
        """
        self._endpoints[netns, mapped(address), port] = service

    def number(self, pair: Pair) -> int:
        """Return the index of a pair, meeting it if it is new."""
        index = self._index.get(pair)
        if index is None and len(self._index) >= self._most:
            self.folded += 1
            pair = pair._replace(client="other")
            index = self._index.get(pair)
        if index is None:
            index = self._index[pair] = self._place(pair)
        return index

    def assign(self, rows: NDArray[Any], peers: NDArray[Any], matched: NDArray[np.bool_]) -> Any:
        """Return the pair index of each record, IGNORED for our own.

        Args:
            rows: CONNECTION[n].
            peers: CONNECTION[n], the other end's record where `matched`.
            matched: bool[n].

        Returns:
            int32[n].
        """
        group = np.zeros(len(rows), _GROUP)
        client = rows["role"] == layout.CLIENT
        group["role"] = rows["role"]
        group["owner"] = rows["owner"]
        group["netns"] = rows["netns"]
        group["address"] = rows["remote_address"]
        group["port"] = np.where(client, rows["remote_port"], rows["local_port"])
        group["self"] = client & (rows["local_address"] == rows["remote_address"])
        group["peer"][matched] = peers["owner"][matched]
        _, first, inverse = np.unique(hash_rows(group), return_index=True, return_inverse=True)
        found = np.array(
            [self._pair_of(group[i], matched=bool(matched[i])) for i in first], np.int32
        )
        return found[inverse]

    def _pair_of(self, group: Any, *, matched: bool) -> int:
        owner, peer = group["owner"], group["peer"]
        if owner["tgid"] == self._own or (matched and peer["tgid"] == self._own):
            return IGNORED
        own = self._service(owner)
        other = self._service(peer) if matched else ""
        address, port = bytes(group["address"]), int(group["port"])
        if group["role"] == layout.SERVER:
            return self.number(Pair(other or address_text(address), own, port))
        where = (int(group["netns"]), address, port)
        if matched:
            self._endpoints.pop(where, None)  # last used, last forgotten
            self._endpoints[where] = other
            if len(self._endpoints) > _MOST_ENDPOINTS:
                del self._endpoints[next(iter(self._endpoints))]
        return self.number(
            Pair(own, other or self._server_at(where, local=bool(group["self"])), port)
        )

    def _server_at(self, where: tuple[int, bytes, int], *, local: bool) -> str:
        """Name a server whose own end is not seen: refused, filtered, or not on this host."""
        known = self._endpoints.get(where)
        if known:
            return known
        netns, address, port = where
        text = address_text(address)
        if local or ipaddress.ip_address(text).is_loopback:
            listener = self._listeners.get(where)
            if listener is None:
                listener = self._listeners.get((netns, bytes(16), port))
            if listener is not None:
                return self._service(listener)
        return text

    def _service(self, owner: Any) -> str:
        if not owner["tgid"]:
            return UNKNOWN  # a child of a listener that nobody saw
        program = program_name(_text(owner["command"]), _text(owner["executable"]))
        return self._services.name(int(owner["tgid"]), program, int(owner["cgroup"]))

    def _place(self, pair: Pair) -> int:
        if self._free:
            index = self._free.pop()
            self.pairs[index] = pair
            return index
        self.pairs.append(pair)
        return len(self.pairs) - 1


def _text(name: Any) -> str:
    return bytes(name).decode(errors="replace")
