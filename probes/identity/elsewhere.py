"""Names of peers elsewhere that nobody has named: few, whatever this host speaks with.

A name, once given, stays: what comes when there are many already is put together, and what has a
name of its own keeps it. So no pair changes its name because of others.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from probes.endpoints import Where, address_text, mapped
from probes.identity.answers import Answers
from probes.identity.reverse import ReverseNames
from probes.identity.service import Resolution, Service

MOST_NAMES: Final = 10
"""Names of their own under one domain; of others it is `*.example.com`."""
MOST_NAMES_PRIVATE: Final = 1_000
"""The same for private addresses: they are services of somebody here."""
MOST_NAMES_IN_ALL: Final = 2_000
MOST_DOMAINS: Final = 1_000
MOST_NETWORKS: Final = 256
MOST_ADDRESSES: Final = 1_000
EXTERNAL: Final = "external"

_NETWORK_BITS: Final = {4: 24, 6: 48}
_MOST_GROUPS: Final = 1 << 16
_MOST_MISSED: Final = 20_000
_RENAME_S: Final = 10.0
"""Names are changed at most so often: every group is named anew then."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Asker(NamedTuple):
    """Who speaks with a peer: the id of the group of connections, and the process."""

    group: int
    tgid: int


@functools.cache
def _suffixes() -> tuple[Callable[[str], str | None], Callable[[str], str | None]]:
    """Return what finds a public suffix, and what a registrable domain: 50 ms, once."""
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415

    return PublicSuffixList().publicsuffix, PublicSuffixList(only_icann=True).privatesuffix


def domain_of(name: str) -> str:
    """Return the domain that a name is put under when its domain has many.

    It is the registrable domain (api.stripe.com: stripe.com), or what its owner hands out to
    others, if the Public Suffix List knows that (bucket.s3.amazonaws.com: s3.amazonaws.com).
    "" for a name without any, as `localhost`.

    Args:
        name: in lower case, without a final dot.
    """
    suffix_of, registrable_of = _suffixes()
    name = name.removeprefix("*.")
    registrable, suffix = registrable_of(name) or "", suffix_of(name) or ""
    return suffix if registrable and len(suffix) > len(registrable) else registrable


class Elsewhere:
    """Names peers by DNS, else by their network.

    Attributes:
        generation: grows when an address may have another name than before.
        answers: what clients were told.
    """

    def __init__(self, answers: Answers | None = None, reverse: ReverseNames | None = None) -> None:
        """Start without names.

        Args:
            answers: what clients were told by DNS.
            reverse: who asks DNS for the names of addresses; None: nobody does.
        """
        self.generation = 0
        self.answers = Answers() if answers is None else answers
        self._reverse = reverse
        self._given: dict[int, Service] = {}  # by group
        self._names: dict[str, None] = {}
        self._names_of: dict[str, int] = {}  # domain: how many
        self._domains: dict[str, None] = {}
        self._networks: dict[str, None] = {}
        self._addresses: dict[str, None] = {}
        self._missed: set[bytes] = set()
        self._due = False
        self._renamed_s = -_RENAME_S

    def service(self, where: Where, asker: Asker) -> Service:
        """Return the service at an address.

        Public clients of a server here are all one, "external". A group of connections that was
        named by DNS keeps that name, whatever its address is called later.

        Args:
            where: the client's network namespace; the peer's address; the port that was called,
                0 if the peer is the client.
            asker: who speaks with the peer.
        """
        known = self._given.get(asker.group)
        if known is not None:
            return known
        parsed = ipaddress.IPv6Address(where.address)
        address = parsed.ipv4_mapped or parsed
        public = address.is_global and not address.is_multicast
        if public and not where.port:
            return Service(EXTERNAL, "external")
        found = self._by_name(where, asker, public=public)
        if found is None:
            self._miss(where.address)
            return self._by_network(address, public=public)
        self._given[asker.group] = found
        if len(self._given) > _MOST_GROUPS:
            del self._given[next(iter(self._given))]
        return found

    def hear(self, records: Any, now_s: float) -> None:
        """Take DNS answers, and what was found since the last call.

        Args:
            records: layout.ANSWER[n], in the order they came.
            now_s: of the monotonic clock.
        """
        found = list(self.answers.hear(records))
        if self._reverse is not None:
            found += self._reverse.found()
        if not self._missed.isdisjoint(found):
            self._missed.difference_update(found)
            self._due = True
        if self._due and now_s - self._renamed_s >= _RENAME_S:
            self._due, self._renamed_s = False, now_s
            self.generation += 1

    def close(self) -> None:
        """Stop asking."""
        if self._reverse is not None:
            self._reverse.close()

    def _by_name(self, where: Where, asker: Asker, *, public: bool) -> Service | None:
        names = self.answers.find(where.netns, where.address, asker.tgid)
        if names:
            domains = {domain_of(name) for name in names}
            shared = domains.pop() if len(names) > 1 and len(domains) == 1 else ""
            return self._folded(f"*.{shared}" if shared else names[0], "dns", public=public)
        name = self._reverse.find(where.address) if self._reverse is not None else ""
        return self._folded(name, "reverse dns", public=public) if name else None

    def _folded(self, name: str, how: Resolution, *, public: bool) -> Service:
        """Return the service of a name: the name itself, or the domain of many."""
        if name in self._names:
            return Service(name, how)
        domain = domain_of(name)
        number = self._names_of.get(domain, 0) if domain else 0
        most = MOST_NAMES if public else MOST_NAMES_PRIVATE
        whole = name.startswith("*.")
        if not whole and number < most and len(self._names) < MOST_NAMES_IN_ALL:
            self._names[name] = None
            self._names_of[domain] = number + 1
            return Service(name, how)
        if domain and (domain in self._domains or len(self._domains) < MOST_DOMAINS):
            self._domains[domain] = None
            return Service(f"*.{domain}", how)
        return Service(EXTERNAL, "external")

    def _by_network(self, address: _Address, *, public: bool) -> Service:
        text = str(address)
        if not public and _holds(self._addresses, text, MOST_ADDRESSES):
            return Service(text, "address")
        network = ipaddress.ip_network(f"{text}/{_NETWORK_BITS[address.version]}", strict=False)
        name = f"{EXTERNAL} {network}" if public else str(network)
        if _holds(self._networks, name, MOST_NETWORKS):
            return Service(name, "external")
        return Service(EXTERNAL, "external")

    def _miss(self, address: bytes) -> None:
        if len(self._missed) < _MOST_MISSED:
            self._missed.add(address)

    def to_memory(self) -> dict[str, Any]:
        """Return what `from_memory` takes, as JSON values."""
        return {
            "names": list(self._names),
            "domains": list(self._domains),
            "networks": list(self._networks),
            "addresses": list(self._addresses),
            "answers": [
                [netns, address_text(address), names]
                for netns, address, names in self.answers.used()
            ],
        }

    def from_memory(self, memory: Mapping[str, Any], *, same_boot: bool) -> None:
        """Take up the names that were given.

        Args:
            memory: of `to_memory`.
            same_boot: whether network namespaces and processes are those of then.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        for name in map(str, memory["names"]):
            if _holds(self._names, name, MOST_NAMES_IN_ALL):
                domain = domain_of(name)
                self._names_of[domain] = self._names_of.get(domain, 0) + 1
        for kept, names in (
            (self._domains, memory["domains"]),
            (self._networks, memory["networks"]),
            (self._addresses, memory["addresses"]),
        ):
            kept.update(dict.fromkeys(map(str, names)))
        if same_boot:
            self.answers.restore(
                (int(netns), mapped(str(address)), names)
                for netns, address, names in memory["answers"]
            )


def _holds(kept: dict[str, None], name: str, most: int) -> bool:
    """Return whether a name is kept, keeping it if there is room."""
    if name not in kept and len(kept) >= most:
        return False
    kept[name] = None
    return True
