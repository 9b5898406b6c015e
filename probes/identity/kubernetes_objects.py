"""What is kept of Kubernetes' objects: a tenth to a quarter of what the API server sends.

Each function takes an object as the API server sends it (JSON values) and raises UnreadableError
if it is not what the API's reference says; whoever asked skips such an object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from sys import intern
from typing import Any, Final, NamedTuple

from probes.endpoints import mapped

_ANNOTATION: Final = "resource.opentelemetry.io/service.name"
_MIRROR: Final = "kubernetes.io/config.hash"
"""Annotation of a static pod: the uid under which the kubelet runs it."""

_ID: Final = re.compile("[0-9a-f]{64}")
_SERVICE_NAME: Final = "kubernetes.io/service-name"
_ENDED: Final = ("Succeeded", "Failed")
_STATUSES: Final = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


class UnreadableError(ValueError):
    """An object is not what the API's reference says."""


class Owner(NamedTuple):
    """Who manages an object, of the same namespace."""

    kind: str
    name: str


class Key(NamedTuple):
    """What an object is called; of its kind, nothing else in the cluster is called so."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod.

    Attributes:
        key: its namespace and name.
        uid: of this pod and no later one of its name.
        created: RFC 3339, in UTC.
        node: where it runs; "" while it has no place.
        ended: whether its containers are through, and its addresses free for others.
        leaving: whether it was told to end.
        on_host_network: whether its addresses are its node's.
        addresses: its own, 16 bytes each as `probes.endpoints.mapped` writes them.
        node_addresses: its node's.
        host_ports: ports of its node that lead to it.
        owner: who manages it; None if nobody does.
        given: the name that an annotation gives it, "".
        labels: names and values; pods with equal ones share them.
        images: references of its containers' images, each with the beginning of its digest.
        containers: ids of its containers, 32 bytes each, and their names in the pod.
        mirror: the uid under which a static pod's cgroups run, with dashes; "" for any other pod.
    """

    key: Key
    uid: str
    created: str = ""
    node: str = ""
    ended: bool = False
    leaving: bool = False
    on_host_network: bool = False
    addresses: tuple[bytes, ...] = ()
    node_addresses: tuple[bytes, ...] = ()
    host_ports: tuple[int, ...] = ()
    owner: Owner | None = None
    given: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    images: str = ""
    containers: tuple[tuple[bytes, str], ...] = ()
    mirror: str = ""

    def label(self, *names: str) -> str:
        """Return the value of the first of these labels that it has; "" if it has none."""
        labels = dict(self.labels)
        return next((value for name in names if (value := labels.get(name))), "")


class ServicePort(NamedTuple):
    """A port of a Service, and the port of every node that leads to it; 0 if none does."""

    port: int
    node_port: int


@dataclass(frozen=True, slots=True)
class VirtualService:
    """A Service: addresses behind which pods stand.

    Attributes:
        key: its namespace and name.
        uid: of this one and no later one of its name.
        addresses: in the cluster, external and of load balancers, 16 bytes each.
        ports: where it can be called.
    """

    key: Key
    uid: str
    addresses: tuple[bytes, ...] = ()
    ports: tuple[ServicePort, ...] = ()


class Endpoint(NamedTuple):
    """Who stands behind a Service: the uid of a pod, or "" and an address of anybody's."""

    ready: bool
    pod: str
    address: bytes


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of those who stand behind a Service."""

    key: Key
    service: Key
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Managed:
    """A ReplicaSet or a Job, and who manages it."""

    key: Key
    owner: Owner | None = None


def pod_of(said: Mapping[str, Any]) -> Pod:
    """Return what is kept of a Pod (v1)."""
    meta, spec, status = _map(said, "metadata"), _map(said, "spec"), _map(said, "status")
    annotations, labels = _map(meta, "annotations"), _map(meta, "labels")
    on_host = _flag(spec, "hostNetwork")
    statuses = [one for key in _STATUSES for one in _maps(status, key)]
    mirror = _text(annotations, _MIRROR)
    return Pod(
        key=_key(meta),
        uid=_needed(meta, "uid"),
        created=_text(meta, "creationTimestamp"),
        node=intern(_text(spec, "nodeName")),
        ended=_text(status, "phase") in _ENDED,
        leaving=bool(_text(meta, "deletionTimestamp")),
        on_host_network=on_host,
        addresses=_addresses(status, "podIP", "podIPs"),
        node_addresses=_addresses(status, "hostIP", "hostIPs"),
        host_ports=tuple(_host_ports(spec, on_host=on_host)),
        owner=_owner(meta),
        given=intern(_text(annotations, _ANNOTATION)),
        labels=_shared(tuple((intern(name), intern(_text(labels, name))) for name in labels)),
        images=intern(_images(spec, statuses)),
        containers=tuple(_containers(statuses)),
        mirror=_dashed(mirror) if len(mirror) == 32 else "",
    )


def service_of(said: Mapping[str, Any]) -> VirtualService:
    """Return what is kept of a Service (v1)."""
    meta, spec = _map(said, "metadata"), _map(said, "spec")
    balancer = _map(_map(said, "status"), "loadBalancer")
    found = [
        *_texts(spec, "clusterIPs"),
        _text(spec, "clusterIP"),
        *_texts(spec, "externalIPs"),
        _text(spec, "loadBalancerIP"),
        *(_text(each, "ip") for each in _maps(balancer, "ingress")),
    ]
    # "None" is that of a headless Service
    addresses = dict.fromkeys(_address(text) for text in found if text and text != "None")
    ports = (
        ServicePort(_port(each, "port"), _port(each, "nodePort")) for each in _maps(spec, "ports")
    )
    return VirtualService(
        key=_key(meta), uid=_needed(meta, "uid"), addresses=tuple(addresses), ports=tuple(ports)
    )


def slice_of(said: Mapping[str, Any]) -> Slice:
    """Return what is kept of an EndpointSlice (discovery.k8s.io/v1)."""
    meta = _map(said, "metadata")
    key = _key(meta)
    service = intern(_text(_map(meta, "labels"), _SERVICE_NAME))
    named = _text(said, "addressType") != "FQDN"
    return Slice(
        key=key,
        service=Key(key.namespace, service),
        endpoints=tuple(_endpoints(said)) if named else (),
    )


def managed_of(said: Mapping[str, Any]) -> Managed:
    """Return what is kept of a ReplicaSet (apps/v1) or a Job (batch/v1): metadata is enough."""
    meta = _map(said, "metadata")
    return Managed(_key(meta), _owner(meta))


def key_of(said: Mapping[str, Any]) -> Key:
    """Return what any object is called."""
    return _key(_map(said, "metadata"))


def _endpoints(said: Mapping[str, Any]) -> Iterator[Endpoint]:
    for each in _maps(said, "endpoints"):
        target = _map(each, "targetRef")
        pod = _text(target, "uid") if _text(target, "kind") == "Pod" else ""
        ready = _map(each, "conditions").get("ready")
        addresses = _texts(each, "addresses")
        # all addresses of one endpoint lead to the same (API reference); unknown counts as ready
        if addresses:
            yield Endpoint(ready is not False, pod, _address(addresses[0]))


def _host_ports(spec: Mapping[str, Any], *, on_host: bool) -> Iterator[int]:
    for container in _maps(spec, "containers"):
        for port in _maps(container, "ports"):
            if found := _port(port, "hostPort") or (_port(port, "containerPort") if on_host else 0):
                yield found


def _images(spec: Mapping[str, Any], statuses: list[Mapping[str, Any]]) -> str:
    """Return the references; one may be moved to another image, which its digest tells apart."""
    digests = {
        _text(one, "name"): _text(one, "imageID").rpartition("@")[2]
        for one in statuses
        if "sha256:" in _text(one, "imageID")
    }
    images = []
    for container in _maps(spec, "containers"):
        image, digest = _text(container, "image"), digests.get(_text(container, "name"), "")
        images.append(image if "@" in image or not digest else f"{image}@{digest[:19]}")
    return ", ".join(images)


def _containers(statuses: list[Mapping[str, Any]]) -> Iterator[tuple[bytes, str]]:
    for one in statuses:
        # runtime://id
        found = _text(one, "containerID").rpartition("/")[2]
        if _ID.fullmatch(found):  # of Windows' runtimes, and of runtimes to come, nothing is known
            yield bytes.fromhex(found), intern(_text(one, "name"))


@lru_cache(maxsize=4096)
def _shared(labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return equal labels as the same object: all pods of a ReplicaSet have them."""
    return labels


def _owner(meta: Mapping[str, Any]) -> Owner | None:
    for each in _maps(meta, "ownerReferences"):
        if each.get("controller") is True:
            return Owner(intern(_needed(each, "kind")), intern(_needed(each, "name")))
    return None


def _addresses(status: Mapping[str, Any], one: str, all_of_them: str) -> tuple[bytes, ...]:
    found = [_text(status, one), *(_text(each, "ip") for each in _maps(status, all_of_them))]
    return tuple(dict.fromkeys(_address(text) for text in found if text))


def _address(text: str) -> bytes:
    try:
        return mapped(text)
    except (OSError, UnicodeError) as error:
        raise UnreadableError(f"{text!r} is no address") from error


def _dashed(uid: str) -> str:
    return "-".join((uid[:8], uid[8:12], uid[12:16], uid[16:20], uid[20:]))


def _key(meta: Mapping[str, Any]) -> Key:
    return Key(intern(_needed(meta, "namespace")), _needed(meta, "name"))


def _map(said: Any, key: str) -> Mapping[str, Any]:
    found = said.get(key) if isinstance(said, dict) else None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UnreadableError(f"{key} is no object")
    return found


def _maps(said: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = said.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UnreadableError(f"{key} is no list of objects")
    return found


def _texts(said: Mapping[str, Any], key: str) -> list[str]:
    found = said.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise UnreadableError(f"{key} is no list of texts")
    return found


def _text(said: Mapping[str, Any], key: str) -> str:
    found = said.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise UnreadableError(f"{key} is no text")
    return found


def _needed(said: Mapping[str, Any], key: str) -> str:
    found = _text(said, key)
    if not found:
        raise UnreadableError(f"{key} is missing")
    return found


def _flag(said: Mapping[str, Any], key: str) -> bool:
    return said.get(key) is True


def _port(said: Mapping[str, Any], key: str) -> int:
    found = said.get(key)
    if found is None:
        return 0
    if not isinstance(found, int) or not 0 <= found <= 65535:
        raise UnreadableError(f"{key} is no port")
    return found
