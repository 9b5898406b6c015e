"""Names of peers that are not processes of this host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from probes.endpoints import Where, address_text
from probes.identity.service import Service


class Namer(Protocol):
    """Knows some addresses. It never waits, and answers from what it has."""

    @property
    def generation(self) -> int:
        """A number that grows when an address may have another name than before."""

    def service(self, where: Where) -> Service | None:
        """Return who is at an address; None if it is not known here.

        Args:
            where: the network namespace of whoever speaks with the peer; the peer's address; the
                port at which it was called, 0 for one that called us.
        """


class Peers:
    """Asks one namer after the other; who is known to none is called by the address."""

    def __init__(self, namers: Sequence[Namer] = ()) -> None:
        """Start.

        Args:
            namers: the surest first.
        """
        self._namers = tuple(namers)

    @property
    def generation(self) -> int:
        """A number that grows when an address may have another name than before."""
        return sum(namer.generation for namer in self._namers)

    def service(self, where: Where) -> Service:
        """Return the service at an address, as `Namer.service`."""
        for namer in self._namers:
            found = namer.service(where)
            if found is not None:
                return found
        return Service(address_text(where.address), "address")
