"""What a container runtime says of a container, and the service that follows from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from probes.identity.service import Service

POD_UID: Final = "io.kubernetes.pod.uid"
_POD_NAME: Final = "io.kubernetes.pod.name"
_POD_NAMESPACE: Final = "io.kubernetes.pod.namespace"
_COMPOSE_SERVICE: Final = "com.docker.compose.service"
_COMPOSE_PROJECT: Final = "com.docker.compose.project"
_PODMAN_SERVICE: Final = "io.podman.compose.service"
_PODMAN_PROJECT: Final = "io.podman.compose.project"
_SWARM_SERVICE: Final = "com.docker.swarm.service.name"
_SWARM_STACK: Final = "com.docker.stack.namespace"

_REPLICA: Final = re.compile(r"-(?:[bcdf0-9]{6,10}-)?[bcdfghjklmnpqrstvwxz2456789]{5}$")
"""What a ReplicaSet, and a Deployment above it, put behind their name: hash and random letters,
of the alphabet of k8s.io/apimachinery/pkg/util/rand."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container.

    Attributes:
        id: 64 hexadecimal digits.
        name: as its runtime lists it.
        image: the reference it was made from, with what tells this image from later ones.
        labels: as its runtime has them.
        addresses: in all of its networks, in their usual notation.
        service: which it belongs to, if whoever knows it knows that too.
    """

    id: str
    name: str
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    service: Service | None = None


class Containers(Protocol):
    """Who knows containers. It answers at once, from what it has been told so far."""

    @property
    def generation(self) -> int:
        """A number that grows when an answer may have changed."""

    def get(self, container: str, pod: str = "") -> Container | None:
        """Return a container; None if it is not known (yet).

        Args:
            container: its id; "" if only the pod is known.
            pod: uid of the Kubernetes pod that it is in; "" if it is in none that is known.
        """

    def at(self, address: str) -> Container | None:
        """Return the container that has an address now; None if it is not known (yet)."""


class AllContainers:
    """Several who know containers, as one: the first who knows answers."""

    def __init__(self, sources: Sequence[Containers]) -> None:
        """Ask these, in order."""
        self._sources = tuple(sources)

    @property
    def generation(self) -> int:
        """A number that grows when an answer may have changed."""
        return sum(source.generation for source in self._sources)

    def get(self, container: str, pod: str = "") -> Container | None:
        """Return a container, as `Containers.get`; None if nobody knows it (yet)."""
        return next((found for each in self._sources if (found := each.get(container, pod))), None)

    def at(self, address: str) -> Container | None:
        """Return the container that has an address now; None if nobody knows it (yet)."""
        return next((found for each in self._sources if (found := each.at(address))), None)


def service_of(container: Container) -> Service:
    """Return the service that a container belongs to.

    A Kubernetes pod is its workload, by the pod's name; a Compose or Swarm container is its
    service, under the project's name, for two projects may each have a `db`; any other is named
    by its own name.
    """
    if container.service is not None:
        return container.service
    labels = container.labels
    if pod := labels.get(_POD_NAME):
        namespace = labels.get(_POD_NAMESPACE, "")
        name = _REPLICA.sub("", pod)
        return Service(_within(namespace, name), "kubernetes", namespace, container.image)
    for service, project in (
        (_COMPOSE_SERVICE, _COMPOSE_PROJECT),
        (_PODMAN_SERVICE, _PODMAN_PROJECT),
        (_SWARM_SERVICE, _SWARM_STACK),
    ):
        name = labels.get(service, "")
        if name:
            namespace = labels.get(project, "")
            # Swarm's own names begin with the stack's
            name = name.removeprefix(f"{namespace}_") if service == _SWARM_SERVICE else name
            return Service(_within(namespace, name), "compose", namespace, container.image)
    return Service(container.name, "container", version=container.image)


def _within(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name
