"""From groups of connections to service pairs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.endpoints import Answerer, Endpoints, Where
from probes.identity.peers import Peers
from probes.identity.resolver import Services
from probes.identity.service import Facts, Service, facts
from probes.window import Pair

IGNORED: Final = -1
"""Pair index of what nobody should see: Tailrace's own, and other ends that are counted at once."""

_MOST_ASKED: Final = 8

UNKNOWN: Final = "unknown"
OTHER: Final = "other"


class Met(NamedTuple):
    """A group, and what else is known of its process.

    Attributes:
        group: layout.GROUP.
        details: layout.DETAILS.
    """

    group: Any
    details: Any

    @property
    def tgid(self) -> int:
        """The process's id."""
        return int(self.group["key"]["tgid"])

    def facts(self) -> Facts:
        """Return what is known of the process."""
        return facts(self.group["owner"], self.details)


class PairNames:
    """Assigns every group to a service pair; remembers which service answers where.

    Attributes:
        pairs: by index; places of forgotten pairs are used again.
        services: by name, what is known of it.
        endpoints: who answered where.
        asked: by pair, the addresses and ports that its clients asked for, the newest last.
        folded: groups whose pair was folded into "other" because there are too many.
    """

    def __init__(
        self,
        services: Services,
        *,
        own_tgid: int,
        most_pairs: int = 10_000,
        peers: Peers | None = None,
        netns: Collection[int] = (),
    ) -> None:
        """Start without pairs.

        Args:
            services: names processes.
            own_tgid: our own process; its connections are ignored.
            most_pairs: while so many are known, further clients of a server are folded into one,
                "other".
            peers: names who is elsewhere; None: by address.
            netns: the network namespaces that are looked at; all if there is none.
        """
        self._services = services
        self._peers = peers or Peers()
        self._netns = netns
        self._own = own_tgid
        self._most = most_pairs
        self._index: dict[Pair, int] = {}
        self._listeners: dict[tuple[int, bytes, int], Any] = {}
        self._told = (b"", b"")
        self._free: list[int] = []
        self._met: list[int] = []
        self.pairs: list[Pair] = []
        self.services: dict[str, Service] = {}
        self.endpoints = Endpoints()
        self.asked: dict[Pair, dict[tuple[bytes, int], None]] = {}
        self.folded = 0

    @property
    def generation(self) -> int:
        """A number that grows when groups may be named otherwise than before."""
        return self._services.generation + self._peers.generation

    @property
    def crowded(self) -> bool:
        """Whether it is time to forget pairs."""
        return len(self._index) >= 0.9 * self._most

    def forget(self, indices: NDArray[np.int64]) -> None:
        """Give the places of these pairs to others."""
        for index in indices.tolist():
            if self._index.pop(self.pairs[index], None) is not None:
                self.asked.pop(self.pairs[index], None)
                self._free.append(index)

    def set_listeners(self, at: NDArray[Any], who: NDArray[Any]) -> None:
        """Take note of who listens where: ENDPOINT[n], LISTENER[n]."""
        told = (at.tobytes(), who.tobytes())
        if told == self._told:  # as nearly always, and there may be thousands
            return
        self._told = told
        # copied: the arrays are the next reading's
        at, who = at.copy(), who.copy()
        self._listeners = {
            (int(a["netns"]), bytes(a["address"]), int(a["port"])): w["owner"]
            for a, w in zip(at, who, strict=True)
        }

    def number(self, pair: Pair) -> int:
        """Return the index of a pair, meeting it if it is new."""
        index = self._index.get(pair)
        if index is None and len(self._index) >= self._most:
            self.folded += 1
            pair = pair._replace(client=OTHER)
            index = self._index.get(pair)
        if index is None:
            index = self._index[pair] = self._place(pair)
            self._met.append(index)
        return index

    def met(self) -> list[int]:
        """Return the indices that were given to pairs since the last call."""
        met, self._met = self._met, []
        return met

    def client_pair(self, met: Met, other: Met | None) -> int:
        """Return the pair of a client's group, IGNORED for our own.

        Args:
            met: the client's group.
            other: the server's end, where it is known.
        """
        key = met.group["key"]
        if self._own in (met.tgid, -1 if other is None else other.tgid) or self._is_outside(key):
            return IGNORED
        transport = layout.TRANSPORTS.get(int(key["transport"]), OTHER)
        own = self._name_of(met.facts())
        port = int(key["port"])
        if transport == "unix":
            server = self._unix_server(met.group) if other is None else self._name_of(other.facts())
            return self.number(Pair(own, server, 0, transport))
        where = Where(int(key["netns"]), bytes(key["remote"]), port)
        if self._services.forwarded(met.facts()):
            return IGNORED  # the same requests once more
        if other is None:
            who = self._answerer(where, local=bool(key["self"]))
        else:
            port = int(other.group["key"]["port"])
            if behind := self._services.forwarded(other.facts()):
                who = Answerer(self._known(behind[0]), behind[1])
            else:
                who = Answerer(self._name_of(other.facts(), port), port)
            self.endpoints.learn(where, who)
        index = self.number(Pair(own, who.service, who.port, transport))
        self._note_asked(self.pairs[index], where)
        return index

    def _note_asked(self, pair: Pair, where: Where) -> None:
        asked = self.asked.setdefault(pair, {})
        asked.pop((where.address, where.port), None)
        asked[where.address, where.port] = None
        if len(asked) > _MOST_ASKED:
            del asked[next(iter(asked))]

    def server_pair(self, met: Met) -> int:
        """Return the pair of a server's group whose client is elsewhere, IGNORED for our own."""
        key = met.group["key"]
        if met.tgid == self._own or self._is_outside(key):
            return IGNORED
        transport = layout.TRANSPORTS.get(int(key["transport"]), OTHER)
        client = self._name_at(Where(int(key["netns"]), bytes(key["remote"]), 0))
        port = int(key["port"])
        return self.number(Pair(client, self._name_of(met.facts(), port), port, transport))

    def _is_outside(self, key: Any) -> bool:
        return bool(self._netns) and int(key["netns"]) not in self._netns

    def listener(self, at: Any) -> Any | None:
        """Return the OWNER of who listens at an ENDPOINT; None if nobody does any more."""
        return self._listeners.get((int(at["netns"]), bytes(at["address"]), int(at["port"])))

    def listener_pair(self, owner: Any, port: int) -> int:
        """Return the pair of all clients of a listener, for what happens before one is known."""
        if int(owner["tgid"]) == self._own:
            return IGNORED
        return self.number(Pair("any", self._name_of(facts(owner), port), port, "tcp"))

    def overflow_pair(self) -> int:
        """Return the pair of all that found no room in the kernel's maps."""
        return self.number(Pair(OTHER, OTHER, 0, "tcp"))

    def _answerer(self, where: Where, *, local: bool) -> Answerer:
        """Name a server whose own end is not seen: refused, filtered, or not on this host."""
        known = self.endpoints.find(where)
        if known and not self._has_moved(where, known.service):
            return known
        netns, _, port = where
        if local:
            listener = self._listeners.get(where)
            if listener is None:
                listener = self._listeners.get((netns, bytes(16), port))
            if listener is not None:
                return Answerer(self._name_of(facts(listener), port), port)
        return Answerer(self._name_at(where), port)

    def _has_moved(self, where: Where, name: str) -> bool:
        """Whether an address is somebody else's now: those of pods are used again."""
        if self._services.is_ruled(name):
            return False
        now = self._peers.service(where)
        return now.resolution == "kubernetes" and now.name != name

    def _unix_server(self, group: Any) -> str:
        """Name who listens on a UNIX socket by his process, which the client's socket knows."""
        tgid = int.from_bytes(bytes(group["key"]["remote"])[:8], "little")
        service = self._services.by_tgid(tgid) if tgid else None
        if service is None:
            path = bytes(group["path"]).decode(errors="replace")
            service = Service(path, "path") if path else Service(UNKNOWN, "unknown")
        return self._known(service)

    def _name_of(self, who: Facts, port: int = 0) -> str:
        if not who.tgid:  # a child of a listener that nobody saw
            return self._known(Service(UNKNOWN, "unknown"))
        return self._known(self._services.service(who, port))

    def _name_at(self, where: Where) -> str:
        """Name a peer that is not on this host."""
        return self._known(self._peers.service(where))

    def _known(self, service: Service) -> str:
        self.services[service.name] = service
        if len(self.services) > 4 * self._most:
            used = {name for pair in self._index for name in (pair.client, pair.server)}
            self.services = {name: one for name, one in self.services.items() if name in used}
        return service.name

    def _place(self, pair: Pair) -> int:
        if self._free:
            index = self._free.pop()
            self.pairs[index] = pair
            return index
        self.pairs.append(pair)
        return len(self.pairs) - 1
