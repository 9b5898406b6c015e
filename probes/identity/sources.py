"""Who knows containers on this host."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from probes.identity.bundles import BundleContainers
from probes.identity.containers import AllContainers, Container
from probes.identity.docker import SOCKETS, DockerContainers
from probes.identity.kubernetes import KubernetesNames, KubernetesSettings
from probes.identity.rules import Rule

_SOON_S: Final = 10.0
_RECENT_S: Final = 600.0
_MOST: Final = 20_000


@dataclass(frozen=True, slots=True)
class NamingSettings:
    """How services are named.

    Attributes:
        rules: the user's own names, which count before any other.
        container_sockets: of engines that speak Docker's API; none is asked if it is empty.
        dns_names: whether peers elsewhere are named by the DNS answers that clients were given.
        reverse_dns: whether the names of other addresses are asked for.
        most_pairs: so many pairs have rows of their own.
        kubernetes: where the cluster is that this host is a node of.
    """

    rules: Sequence[Rule] = ()
    container_sockets: Sequence[Path] = SOCKETS
    dns_names: bool = True
    reverse_dns: bool = False
    most_pairs: int = 10_000
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)


class HostContainers(AllContainers):
    """The cluster and the engines of this host, and what runtimes leave on disk. `close` it.

    Attributes:
        kubernetes: the cluster, which names addresses too.
    """

    def __init__(self, naming: NamingSettings) -> None:
        """Begin to follow them.

        Args:
            naming: where they are, or may come to be.
        """
        self._unknown: dict[str, float] = {}  # id: when it was first asked for
        self.kubernetes = KubernetesNames(naming.kubernetes)
        self._engines = [DockerContainers(socket) for socket in naming.container_sockets]
        super().__init__([self.kubernetes, *self._engines, BundleContainers()])

    def get(self, container: str, pod: str = "") -> Container | None:
        """Return a container, as `Containers.get`; None if nobody knows it (yet)."""
        found = super().get(container, pod)
        if not container:
            return found
        if found is not None:
            self._unknown.pop(container, None)
        elif container not in self._unknown:
            self._unknown[container] = time.monotonic()
            if len(self._unknown) > _MOST:
                del self._unknown[next(iter(self._unknown))]
        return found

    @property
    def problems(self) -> list[str]:
        """What keeps containers from being named; of engines that are there, or have been."""
        found = self.kubernetes.problems + [
            f"{engine.socket}: {engine.problem}"
            for engine in self._engines
            if engine.problem and (engine.met or engine.socket.exists())
        ]
        now = time.monotonic()
        patient = [
            each for each, since in self._unknown.items() if _SOON_S < now - since < _RECENT_S
        ]
        if patient:  # an engine that hangs says nothing of itself
            found.append(f"some containers are known to no engine, such as {patient[0][:12]}")
        return found

    def close(self) -> None:
        """Stop following them."""
        self.kubernetes.close()
        for engine in self._engines:
            engine.close()
