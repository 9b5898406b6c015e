"""Names of peers that are not processes of this host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from probes.endpoints import Where
from probes.identity.elsewhere import Asker, Elsewhere
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
    """Asks one namer after the other; who is known to none is named by DNS or by the network.

    Attributes:
        elsewhere: names those.
    """

    def __init__(self, namers: Sequence[Namer] = (), elsewhere: Elsewhere | None = None) -> None:
        """Start.

        Args:
            namers: the surest first.
            elsewhere: names whom none of them knows; None: by the network alone.
        """
        self._namers = tuple(namers)
        self.elsewhere = Elsewhere() if elsewhere is None else elsewhere

    @property
    def generation(self) -> int:
        """A number that grows when an address may have another name than before."""
        return sum(namer.generation for namer in self._namers) + self.elsewhere.generation

    def service(self, where: Where, asker: Asker) -> Service:
        """Return the service at an address, as `Namer.service`.

        Args:
            where: as there.
            asker: who speaks with the peer.
        """
        return self.known(where) or self.elsewhere.service(where, asker)

    def known(self, where: Where) -> Service | None:
        """Return the service that a namer knows at an address; None if none does."""
        for namer in self._namers:
            found = namer.service(where)
            if found is not None:
                return found
        return None
