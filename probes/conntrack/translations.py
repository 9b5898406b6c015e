"""What translations mean for names: who is behind an address."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.conntrack.entries import Entries, Hop
from probes.conntrack.wire import UDP, Entry, Side, mirror, side
from probes.endpoints import Where

_MOST: Final = 20_000
_MOST_BEHIND: Final = 16
_RECENT_S: Final = 300.0
_LOCALHOST6: Final = bytes(15) + b"\x01"
_PREFIX4: Final = bytes(10) + b"\xff\xff\x7f"
_VIEW: Final = struct.Struct("=16sIHH")  # layout.VIEW
_ASKED: Final = struct.Struct("=16s16sIHH")  # layout.ASKED


class Behind(NamedTuple):
    """Who is behind an address: the real addresses and ports, and whether all are on this host."""

    servers: tuple[Where, ...]
    here: bool


NOBODY: Final = Behind((), here=False)

_Key = tuple[int, Where]  # a transport, and who asked for what


class Translations:
    """Kept by one thread, asked by another, which never waits for long.

    Attributes:
        generation: grows when an answer that was given would be another now.
    """

    def __init__(self) -> None:
        """Start without any."""
        self.generation = 0
        self._lock = threading.Lock()
        self._hosts: dict[bytes, set[int]] = {}
        self._servers: dict[_Key, dict[tuple[bytes, int], float]] = {}
        self._clients: dict[_Key, dict[bytes, float]] = {}
        self._asked: set[tuple[bool, _Key]] = set()
        self._views: dict[bytes, bytes] = {}
        self._gone: set[bytes] = set()

    def servers(self, where: Where, transport: int) -> Behind:
        """Return where those who ask `where` have got to of late; NOBODY if it is not translated.

        Args:
            where: the network namespace of the client, the address and port that it asks.
            transport: layout.TCP or UDP.
        """
        with self._lock:
            self._was_asked(client=False, key=(transport, where))
            found = self._servers.get((transport, where))
            if not found or len(found) > _MOST_BEHIND:
                return NOBODY
            newest = max(found.values())
            recent = [at for at, seen in found.items() if seen >= newest - _RECENT_S]
            here = [bool(self._hosts.get(address)) for address, _ in recent]
        if any(here) != all(here):
            return NOBODY
        return Behind(tuple(Where(where.netns, *at) for at in recent), here=all(here))

    def client(self, where: Where, transport: int) -> bytes | None:
        """Return the address of the only client elsewhere that was ever seen behind one.

        Args:
            where: the network namespace of the server, the address that asked it, and its own
                port.
            transport: layout.TCP or UDP.
        """
        with self._lock:
            self._was_asked(client=True, key=(transport, where))
            found = self._clients.get((transport, where), {})
            return next(iter(found)) if len(found) == 1 else None

    def _was_asked(self, *, client: bool, key: _Key) -> None:
        if len(self._asked) > _MOST:
            self._asked.clear()
        self._asked.add((client, key))

    def set_hosts(self, hosts: dict[bytes, set[int]]) -> set[bytes]:
        """Take note of which namespaces have which address; return those that have changed."""
        with self._lock:
            before, self._hosts = self._hosts, hosts
        return {
            address
            for address in before.keys() | hosts.keys()
            if before.get(address) != hosts.get(address)
        }

    def learn(self, entries: Entries, hops: Iterable[Hop]) -> None:
        """Take note of entries that are new, or of a flow whose ends have moved."""
        now = time.monotonic()
        with self._lock:
            for hop in hops:
                chain = entries.chain(hop)
                if chain:
                    self._learn(chain, now)
                else:
                    self.forget(hop.entry)

    def forget(self, entry: Entry) -> None:
        """An entry has ended: its flow is no more, and its ports may be another's."""
        if entry.reply[-1] != UDP:
            return
        seen = side(mirror(entry.reply))
        for netns in self._hosts.get(seen.destination, ()):
            view = _view(seen, netns)
            self._views.pop(view, None)
            self._gone.add(view)

    def _learn(self, chain: list[Hop], now: float) -> None:
        asked, seen = side(chain[0].entry.orig), side(mirror(chain[-1].entry.reply))
        clients = self._netns_of(asked.source, chain[0].netns)
        servers = self._netns_of(seen.destination, chain[-1].netns)
        # what was thought of the flow while only a part of its way was known
        between = [side(hop.entry.orig) for hop in chain[1:]]
        for netns in clients:
            key = (asked.protocol, Where(netns, asked.destination, asked.destination_port))
            wrong = [(each.destination, each.destination_port) for each in between]
            at = (seen.destination, seen.destination_port)
            self._note(self._servers, key, at, wrong, now, client=False)
        for netns in servers:
            if not clients:
                key = (seen.protocol, Where(netns, seen.source, seen.destination_port))
                wrong_clients = [each.source for each in between]
                self._note(self._clients, key, asked.source, wrong_clients, now, client=True)
            if seen.protocol == UDP:
                view = _view(seen, netns)
                self._gone.discard(view)
                self._views[view] = _asked(asked, clients)

    def _note(
        self,
        table: dict[_Key, dict[Any, float]],
        key: _Key,
        who: Any,
        wrong: Iterable[Any],
        now: float,
        *,
        client: bool,
    ) -> None:
        found = table.pop(key, None)
        if found is None:
            found = {}
            if len(table) >= _MOST:
                del table[next(iter(table))]
        table[key] = found  # last used, last forgotten
        before = set(found)
        for each in wrong:
            if each != who:
                found.pop(each, None)
        if who in found or len(found) <= _MOST_BEHIND:
            found[who] = now
        if found.keys() != before and (client, key) in self._asked:
            self.generation += 1

    def _netns_of(self, address: bytes, near: int) -> tuple[int, ...]:
        """The namespaces that have an address; if one that the flow went through does, that."""
        if address == _LOCALHOST6 or address.startswith(_PREFIX4):
            return (near,)
        found = self._hosts.get(address, set())
        return (near,) if near in found else tuple(found)

    def take(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return what the kernel side has not been told: VIEW[n], ASKED[n], and VIEW[m] gone."""
        views, asked = b"".join(self._views), b"".join(self._views.values())
        gone = b"".join(self._gone)
        self._views.clear()
        self._gone.clear()
        return (
            np.frombuffer(views, layout.VIEW),
            np.frombuffer(asked, layout.ASKED),
            np.frombuffer(gone, layout.VIEW),
        )


def _view(seen: Side, netns: int) -> bytes:
    return _VIEW.pack(seen.source, netns, seen.source_port, seen.destination_port)


def _asked(asked: Side, clients: tuple[int, ...]) -> bytes:
    return _ASKED.pack(
        asked.source,
        asked.destination,
        clients[0] if len(clients) == 1 else 0,
        asked.source_port,
        asked.destination_port,
    )
