"""From connection records to service pairs."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.matching import hash_rows
from probes.services import ServiceNames
from probes.window import Pair

_GROUP: Final = np.dtype(
    [
        ("tgid", "u4"),
        ("netns", "u4"),
        ("executable", "S32"),
        ("cgroup", "u8"),
        ("address", "V16"),
        ("peer_executable", "S32"),
        ("peer_cgroup", "u8"),
        ("peer_tgid", "u4"),
        ("port", "u2"),
        ("role", "u1"),
        ("self", "u1"),
    ]
)
IGNORED: Final = -1
"""Pair index of connections that nobody should see: Tailrace's own."""


def address_text(address: bytes) -> str:
    """Return an address of the probes (16 bytes) in its usual notation."""
    parsed = ipaddress.IPv6Address(address)
    return str(parsed.ipv4_mapped or parsed)


class PairNames:
    """Assigns every connection to a service pair; remembers which service answers where.

    Attributes:
        pairs: every pair ever assigned, by index.
        folded: connections whose pair was folded into "other" because there are too many.
    """

    def __init__(self, services: ServiceNames, *, own_tgid: int, most_pairs: int = 10_000) -> None:
        """Start without pairs.

        Args:
            services: names processes.
            own_tgid: our own process; its connections are ignored.
            most_pairs: beyond it, further clients of a server are folded into one, "other".
        """
        self._services = services
        self._own = own_tgid
        self._most = most_pairs
        self._index: dict[Pair, int] = {}
        self._endpoints: dict[tuple[int, bytes, int], str] = {}
        self._listeners: dict[tuple[int, bytes, int], tuple[int, str, int]] = {}
        self.pairs: list[Pair] = []
        self.folded = 0

    def set_listeners(self, at: NDArray[Any], who: NDArray[Any]) -> None:
        """Take note of who listens where: ENDPOINT[n], LISTENER[n]."""
        self._listeners = {
            (int(a["netns"]), bytes(a["address"]), int(a["port"])): (
                int(w["owner"]["tgid"]),
                _text(w["owner"]["executable"]),
                int(w["owner"]["cgroup"]),
            )
            for a, w in zip(at, who, strict=True)
        }

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
        group["tgid"] = rows["owner"]["tgid"]
        group["executable"] = rows["owner"]["executable"]
        group["cgroup"] = rows["owner"]["cgroup"]
        group["netns"] = rows["netns"]
        group["address"] = rows["remote_address"]
        group["port"] = np.where(client, rows["remote_port"], rows["local_port"])
        group["self"] = client & (rows["local_address"] == rows["remote_address"])
        group["peer_tgid"] = np.where(matched, peers["owner"]["tgid"], 0)
        group["peer_executable"] = np.where(matched, peers["owner"]["executable"], b"")
        group["peer_cgroup"] = np.where(matched, peers["owner"]["cgroup"], 0)
        _, first, inverse = np.unique(hash_rows(group), return_index=True, return_inverse=True)
        found = np.array(
            [self._pair_of(group[i], matched=bool(matched[i])) for i in first], np.int32
        )
        return found[inverse]

    def _pair_of(self, group: Any, *, matched: bool) -> int:
        tgid, peer = int(group["tgid"]), int(group["peer_tgid"])
        if tgid == self._own or (matched and peer == self._own):
            return IGNORED
        own = self._services.name(tgid, _text(group["executable"]), int(group["cgroup"]))
        other = (
            self._services.name(peer, _text(group["peer_executable"]), int(group["peer_cgroup"]))
            if matched
            else ""
        )
        address, port = bytes(group["address"]), int(group["port"])
        if group["role"] == layout.SERVER:
            return self._number(Pair(other or address_text(address), own, port))
        where = (int(group["netns"]), address, port)
        if matched:
            self._endpoints[where] = other
        return self._number(
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
            listener = self._listeners.get(where) or self._listeners.get((netns, bytes(16), port))
            if listener:
                return self._services.name(*listener)
        return text

    def _number(self, pair: Pair) -> int:
        index = self._index.get(pair)
        if index is None:
            if len(self.pairs) >= self._most:
                self.folded += 1
                pair = pair._replace(client="other")
                index = self._index.get(pair)
            if index is None:
                index = self._index[pair] = len(self.pairs)
                self.pairs.append(pair)
        return index


def _text(name: Any) -> str:
    return bytes(name).decode(errors="replace")
