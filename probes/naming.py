"""From groups of connections to service pairs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from bpf import layout
from probes.conntrack.translations import Translations
from probes.endpoints import Answerer, Endpoints, Where, address_text
from probes.identity.elsewhere import Asker
from probes.identity.happenings import Happenings
from probes.identity.peers import Peers
from probes.identity.resolver import Services
from probes.identity.service import Facts, Service, facts
from probes.places import Places
from probes.window import ANY, OTHER, Pair

IGNORED: Final = -1
"""Pair index of what nobody should see: Tailrace's own, and other ends that are counted at once."""

_MOST_ASKED: Final = 8
_MOST_ASKED_PAIRS: Final = 20_000

UNKNOWN: Final = "unknown"


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
        places: the pairs, by number.
        peers: names who is elsewhere.
        services: by name, what is known of it.
        endpoints: who answered where.
        asked: by pair, the addresses and ports that its clients asked for, the newest last.
    """

    def __init__(
        self,
        services: Services,
        *,
        own_tgid: int,
        most_pairs: int = 10_000,
        peers: Peers | None = None,
        netns: Collection[int] = (),
        translations: Translations | None = None,
        happenings: Happenings | None = None,
    ) -> None:
        """Start without pairs.

        Args:
            services: names processes.
            own_tgid: our own process; its connections are ignored.
            most_pairs: so many have rows of their own; those that do least are put under "other".
            peers: names who is elsewhere; None: by the network alone.
            netns: the network namespaces that are looked at; all if there is none.
            translations: knows who is behind a translated address; None: nobody is looked for.
            happenings: is told which processes have traffic; None: nobody is.
        """
        self._services = services
        self.peers = peers or Peers()
        self._translations = translations or Translations()
        self._happenings = happenings
        self._netns = netns
        self._own = own_tgid
        self._most_services = max(16 * most_pairs, 160_000)
        self.places = Places(most_pairs)
        self._listeners: dict[tuple[int, bytes, int], Any] = {}
        self._told = (b"", b"")
        self.services: dict[str, Service] = {}
        self.endpoints = Endpoints()
        self.asked: dict[Pair, dict[tuple[bytes, int], None]] = {}

    @property
    def generation(self) -> int:
        """A number that grows when groups may be named otherwise than before."""
        return self._services.generation + self.peers.generation + self._translations.generation

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
        for (netns, _, port), owner in self._listeners.items() if self._happenings else ():
            if not self._netns or netns in self._netns:
                self._sight_listener(owner, port)

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
        own = self._name_of(met.facts(), serves=False)
        port = int(key["port"])
        if transport == "unix":
            server = self._unix_server(met.group) if other is None else self._name_of(other.facts())
            return self.places.number(Pair(own, server, 0, transport))
        where = Where(int(key["netns"]), bytes(key["remote"]), port)
        if self._services.forwarded(met.facts()):
            return IGNORED  # the same requests once more
        if other is None:
            who = self._answerer(where, met)
        else:
            port = int(other.group["key"]["port"])
            if behind := self._services.forwarded(other.facts()):
                who = Answerer(self._known(behind[0]), behind[1])
            else:
                who = Answerer(self._name_of(other.facts(), port), port)
            self.endpoints.learn(where, who)
        index = self.places.number(Pair(own, who.service, who.port, transport))
        self._note_asked(self.places.pairs[index], where)
        return index

    def _note_asked(self, pair: Pair, where: Where) -> None:
        asked = self.asked.setdefault(pair, {})
        asked.pop((where.address, where.port), None)
        asked[where.address, where.port] = None
        if len(asked) > _MOST_ASKED:
            del asked[next(iter(asked))]
        if len(self.asked) > _MOST_ASKED_PAIRS:  # the longest known go first
            del self.asked[next(iter(self.asked))]

    def server_pair(self, met: Met) -> int:
        """Return the pair of a server's group whose client is elsewhere, IGNORED for our own."""
        key = met.group["key"]
        if met.tgid == self._own or self._is_outside(key):
            return IGNORED
        transport = layout.TRANSPORTS.get(int(key["transport"]), OTHER)
        netns, seen, port = int(key["netns"]), bytes(key["remote"]), int(key["port"])
        real = self._translations.client(Where(netns, seen, port), int(key["transport"]))
        client = self._name_at(Where(netns, real or seen, 0), met)
        return self.places.number(Pair(client, self._name_of(met.facts(), port), port, transport))

    def _sight_listener(self, owner: Any, port: int) -> None:
        known = self._happenings
        if known and not known.has_met(int(owner["tgid"]), int(owner["started"]), port):
            known.sight(facts(owner), port, serves=True)

    def _is_outside(self, key: Any) -> bool:
        # keys of UNIX sockets name no namespace; the kernel side has looked at it
        named = layout.TRANSPORTS.get(int(key["transport"])) != "unix"
        return named and bool(self._netns) and int(key["netns"]) not in self._netns

    def listener(self, at: Any) -> Any | None:
        """Return the OWNER of who listens at an ENDPOINT; None if nobody does any more."""
        return self._listeners.get((int(at["netns"]), bytes(at["address"]), int(at["port"])))

    def listener_pair(self, owner: Any, port: int) -> int:
        """Return the pair of all clients of a listener, for what happens before one is known."""
        if int(owner["tgid"]) == self._own:
            return IGNORED
        return self.places.number(Pair(ANY, self._name_of(facts(owner), port), port, "tcp"))

    def overflow_pair(self) -> int:
        """Return the pair of all that found no room in the kernel's maps."""
        return self.places.number(Pair(OTHER, OTHER, 0, "tcp"))

    def _answerer(self, where: Where, met: Met) -> Answerer:
        """Name a server whose own end is not seen: refused, filtered, or not on this host."""
        known = self.endpoints.find(where)
        behind = self._translations.servers(where, int(met.group["key"]["transport"]))
        if not (behind.here and known):  # of one on this host, its own end told better
            real = {Answerer(self._name_at(at, met), at.port) for at in behind.servers}
            if len(real) == 1:
                self.endpoints.learn(where, *real)
                return real.pop()
        if known and not self._has_moved(where, known.service):
            return known
        netns, _, port = where
        if met.group["key"]["self"]:
            listener = self._listeners.get(where)
            if listener is None:
                listener = self._listeners.get((netns, bytes(16), port))
            if listener is not None:
                return Answerer(self._name_of(facts(listener), port), port)
            here = Service(address_text(where.address), "address")
            return Answerer(self._known(here), port)
        return Answerer(self._name_at(where, met), port)

    def _has_moved(self, where: Where, name: str) -> bool:
        """Whether an address is somebody else's now: those of pods are used again."""
        if self._services.is_ruled(name):
            return False
        now = self.peers.known(where)
        return now is not None and now.resolution == "kubernetes" and now.name != name

    def _unix_server(self, group: Any) -> str:
        """Name who listens on a UNIX socket by his process, which the client's socket knows."""
        tgid = int.from_bytes(bytes(group["key"]["remote"])[:8], "little")
        service = self._services.by_tgid(tgid) if tgid else None
        if service is None:
            path = bytes(group["path"]).decode(errors="replace")
            service = Service(path, "path") if path else Service(UNKNOWN, "unknown")
        return self._known(service)

    def _name_of(self, who: Facts, port: int = 0, *, serves: bool = True) -> str:
        if not who.tgid:  # a child of a listener that nobody saw
            return self._known(Service(UNKNOWN, "unknown"))
        if self._happenings is not None:
            self._happenings.sight(who, port, serves=serves)
        return self._known(self._services.service(who, port))

    def _name_at(self, where: Where, met: Met) -> str:
        """Name a peer that is not on this host."""
        return self._known(self.peers.service(where, Asker(int(met.group["id"]), met.tgid)))

    def _known(self, service: Service) -> str:
        self.services[service.name] = service
        if len(self.services) > self._most_services:
            used = {name for pair in self.places.pairs for name in (pair.client, pair.server)}
            self.services = {name: one for name, one in self.services.items() if name in used}
        return service.name
