"""Who knows containers on this host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probes.identity.bundles import BundleContainers
from probes.identity.containers import AllContainers
from probes.identity.docker import SOCKETS, DockerContainers
from probes.identity.rules import Rule


@dataclass(frozen=True, slots=True)
class NamingSettings:
    """How services are named.

    Attributes:
        rules: the user's own names, which count before any other.
        container_sockets: of engines that speak Docker's API; none is asked if it is empty.
        dns_names: whether peers elsewhere are named by the DNS answers that clients were given.
        reverse_dns: whether the names of other addresses are asked for.
        most_pairs: so many pairs have rows of their own.
    """

    rules: Sequence[Rule] = ()
    container_sockets: Sequence[Path] = SOCKETS
    dns_names: bool = True
    reverse_dns: bool = False
    most_pairs: int = 10_000


class HostContainers(AllContainers):
    """The engines of this host, and what runtimes leave on its disk. `close` it."""

    def __init__(self, sockets: Sequence[Path] = SOCKETS) -> None:
        """Begin to follow the engines.

        Args:
            sockets: where they listen, or may come to.
        """
        self._engines = [DockerContainers(socket) for socket in sockets]
        super().__init__([*self._engines, BundleContainers()])

    @property
    def problems(self) -> list[str]:
        """What keeps containers from being named; of engines that are there."""
        return [
            f"{engine.socket}: {engine.problem}"
            for engine in self._engines
            if engine.problem and engine.socket.exists()
        ]

    def close(self) -> None:
        """Stop following them."""
        for engine in self._engines:
            engine.close()
