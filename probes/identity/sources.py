"""Who knows containers on this host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from probes.identity.bundles import BundleContainers
from probes.identity.containers import AllContainers
from probes.identity.docker import SOCKETS, DockerContainers
from probes.identity.kubernetes import KubernetesNames, KubernetesSettings
from probes.identity.rules import Rule


@dataclass(frozen=True, slots=True)
class NamingSettings:
    """How services are named.

    Attributes:
        rules: the user's own names, which count before any other.
        container_sockets: of engines that speak Docker's API; none is asked if it is empty.
        kubernetes: where the cluster is that this host is a node of.
    """

    rules: Sequence[Rule] = ()
    container_sockets: Sequence[Path] = SOCKETS
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
        self.kubernetes = KubernetesNames(naming.kubernetes)
        self._engines = [DockerContainers(socket) for socket in naming.container_sockets]
        super().__init__([self.kubernetes, *self._engines, BundleContainers()])

    @property
    def problems(self) -> list[str]:
        """What keeps containers from being named; of engines that are there."""
        return self.kubernetes.problems + [
            f"{engine.socket}: {engine.problem}"
            for engine in self._engines
            if engine.problem and engine.socket.exists()
        ]

    def close(self) -> None:
        """Stop following them."""
        self.kubernetes.close()
        for engine in self._engines:
            engine.close()
