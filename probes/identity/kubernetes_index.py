"""From Kubernetes' objects to names. It holds what is known, and asks nobody.

A workload is called `<namespace>/<name>`, as a Compose service is `<project>/<service>`: two
namespaces may each have a `web`. What is no workload has one part more, which no workload's name
has: `<namespace>/svc/<name>` is a Service whose pods are not all of one workload, `node/<name>` a
node.

The name follows OpenTelemetry's conventions (semantic conventions, "Kubernetes attributes"): an
annotation, the label of the instance, the label of the name, the top owner, the pod. One thing is
stricter: a label names a workload only while no other of its namespace carries the same. All parts
of a Helm release share their instance, and a web server and its database are two services. Jobs
do not count for that: they come and go with each upgrade.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final, NamedTuple, TypeVar

from probes.endpoints import Where
from probes.identity.containers import POD_UID, Container
from probes.identity.kubernetes_objects import Key, Managed, Owner, Pod, Slice, VirtualService
from probes.identity.service import Service

_NAMING: Final = ("app.kubernetes.io/instance", "app.kubernetes.io/name")
_HASHES: Final = ("pod-template-hash", "rollouts-pod-template-hash")
_RUNS: Final = ("Job", "CronJob")
_NOBODY: Final = Owner("", "")
_MINUTE: Final = re.compile(r"-(?:2[6-9]|3\d)\d{6}$")
"""What a CronJob puts behind its name for each Job: minutes since 1970, of 2019 to 2046."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Running(NamedTuple):
    """A pod that runs, and is to run on.

    Attributes:
        uid: as its cgroups have it.
        service: which it belongs to.
        revision: the hash of its workload's template; "" if it has none.
        created: RFC 3339, in UTC.
    """

    uid: str
    service: Service
    revision: str
    created: str


class _Held(NamedTuple):
    """By whom a pod is held directly, and the hash in a ReplicaSet's name."""

    owner: Owner
    hash: str


class Index:
    """All objects that name something, and the ways to them."""

    def __init__(self) -> None:
        self._pods: dict[Key, Pod] = {}
        self._services: dict[Key, VirtualService] = {}
        self._slices: dict[Key, Slice] = {}
        self._managed: dict[str, dict[Key, Owner | None]] = {"ReplicaSet": {}, "Job": {}}
        self._by_uid: dict[str, Pod] = {}
        self._by_container: dict[bytes, tuple[Pod, str]] = {}
        self._at: dict[bytes, dict[Key, Pod]] = {}
        self._nodes: dict[bytes, Counter[str]] = {}
        self._host_ports: dict[tuple[bytes, int], dict[Key, Pod]] = {}
        self._virtual: dict[bytes, dict[Key, VirtualService]] = {}
        self._node_ports: dict[int, dict[Key, VirtualService]] = {}
        self._behind: dict[Key, dict[Key, Slice]] = {}
        self._alike: dict[tuple[str, str, str], Counter[_Held]] = {}
        self._last: dict[str, Service] = {}

    def count(self, kind: str) -> int:
        """Return how many are known of "Pod", "Service", "EndpointSlice", "ReplicaSet", "Job"."""
        return len(self._of(kind))

    def keys(self, kind: str) -> set[Key]:
        """Return what is known of a kind, as `count`."""
        return set(self._of(kind))

    def _of(self, kind: str) -> Mapping[Key, Any]:
        known: dict[str, Mapping[Key, Any]] = {
            "Pod": self._pods,
            "Service": self._services,
            "EndpointSlice": self._slices,
            **self._managed,
        }
        return known[kind]

    def put(self, kind: str, one: Pod | VirtualService | Slice | Managed) -> bool:
        """Take an object in its newest form; return whether that says anything new."""
        match one:
            case Pod():
                if self._pods.get(one.key) == one:
                    return False
                self.drop("Pod", one.key)
                self._pods[one.key] = one
                self._link_pod(one)
            case VirtualService():
                before = self._services.get(one.key)
                if before == one:
                    return False
                last = before and before.uid == one.uid and self._last.get(one.uid)
                self.drop("Service", one.key)
                self._services[one.key] = one
                self._link_service(one)
                if last:
                    self._last[one.uid] = last
            case Slice():
                if self._slices.get(one.key) == one:
                    return False
                self.drop("EndpointSlice", one.key)
                self._slices[one.key] = one
                self._behind.setdefault(one.service, {})[one.key] = one
            case Managed():
                known = self._managed[kind]
                if one.key in known and known[one.key] == one.owner:
                    return False
                known[one.key] = one.owner
        return True

    def drop(self, kind: str, key: Key) -> bool:
        """Forget an object; return whether it was known."""
        if key not in self._of(kind):
            return False
        if kind == "Pod":
            self._unlink_pod(self._pods.pop(key))
        elif kind == "Service":
            self._unlink_service(self._services.pop(key))
        elif kind == "EndpointSlice":
            _unlink(self._behind, self._slices.pop(key).service, key)
        else:
            del self._managed[kind][key]
        return True

    def _link_pod(self, pod: Pod) -> None:
        self._by_uid[pod.uid] = pod
        if pod.mirror:
            self._by_uid[pod.mirror] = pod
        for container, name in pod.containers:
            self._by_container[container] = pod, name
        for label in _naming_labels(pod):
            self._alike.setdefault(label, Counter())[_held(pod)] += 1
        for address in pod.node_addresses if pod.node else ():
            self._nodes.setdefault(address, Counter())[pod.node] += 1
        if not pod.ended:
            for address in () if pod.on_host_network else pod.addresses:
                self._at.setdefault(address, {})[pod.key] = pod
            for place in _host_places(pod):
                self._host_ports.setdefault(place, {})[pod.key] = pod

    def _unlink_pod(self, pod: Pod) -> None:
        for uid in (pod.uid, pod.mirror):
            if self._by_uid.get(uid) is pod:
                del self._by_uid[uid]
        for container, _ in pod.containers:
            if self._by_container.get(container, (None,))[0] is pod:
                del self._by_container[container]
        for label in _naming_labels(pod):
            _count_down(self._alike, label, _held(pod))
        for address in pod.node_addresses if pod.node else ():
            _count_down(self._nodes, address, pod.node)
        for address in pod.addresses:
            _unlink(self._at, address, pod.key)
        for place in _host_places(pod):
            _unlink(self._host_ports, place, pod.key)

    def _link_service(self, service: VirtualService) -> None:
        for address in service.addresses:
            self._virtual.setdefault(address, {})[service.key] = service
        for _, port in service.ports:
            if port:
                self._node_ports.setdefault(port, {})[service.key] = service

    def _unlink_service(self, service: VirtualService) -> None:
        for address in service.addresses:
            _unlink(self._virtual, address, service.key)
        for _, port in service.ports:
            _unlink(self._node_ports, port, service.key)
        self._last.pop(service.uid, None)

    def container(self, container: str, uid: str = "") -> Container | None:
        """Return a container, with the service it belongs to; None if it is no pod's.

        Args:
            container: its id, 64 hexadecimal digits.
            uid: of the pod that its cgroup is said to be of: that is known before its id is.
        """
        pod, name = self._by_container.get(_digits(container), (self._by_uid.get(uid), ""))
        if pod is None:
            return None
        service = self.pod_service(pod)
        labels = {
            **dict(pod.labels),
            "io.kubernetes.pod.namespace": pod.key.namespace,
            "io.kubernetes.pod.name": pod.key.name,
            POD_UID: pod.mirror or pod.uid,
            "io.kubernetes.container.name": name,
        }
        return Container(container, service.name, pod.images, labels, service=service)

    def service(self, where: Where) -> Service | None:
        """Return who is at an address, as `probes.identity.peers.Namer`."""
        if pods := self._at.get(where.address):
            # one that was told to end may still hold an address that the next one has
            return self.pod_service(max(pods.values(), key=_freshness))
        services = self._virtual.get(where.address, {})
        nodes = self._nodes.get(where.address)
        if nodes is None:
            return self._one_of(services, where.port, strict=False) if where.port else None
        if where.port:
            on_port = self._host_ports.get((where.address, where.port), {})
            if len(on_port) == 1:
                return self.pod_service(next(iter(on_port.values())))
            services = self._node_ports.get(where.port) or services
            if found := self._one_of(services, where.port, strict=True):
                return found
        return Service(f"node/{next(iter(nodes))}", "kubernetes node") if len(nodes) == 1 else None

    def running(self, key: Key) -> Running | None:
        """Return what is known of a pod that runs; None if it does not, or only for a while."""
        pod = self._pods.get(key)
        if pod is None or pod.ended or pod.leaving or not (pod.addresses or pod.containers):
            return None
        held = _held(pod)
        if self._workload(key.namespace, held).kind in _RUNS:
            return None
        return Running(pod.mirror or pod.uid, self.pod_service(pod), held.hash, pod.created)

    def pod_service(self, pod: Pod) -> Service:
        """Return the service that a pod belongs to."""
        namespace = pod.key.namespace
        name = pod.given or self._by_label(pod) or self._by_owner(pod)
        return Service(f"{namespace}/{name}", "kubernetes", namespace, pod.images)

    def _by_label(self, pod: Pod) -> str:
        own = self._workload(pod.key.namespace, _held(pod))
        for label in _naming_labels(pod):
            alike = {self._workload(pod.key.namespace, held) for held in self._alike[label]}
            lasting = {each for each in alike if each.kind not in _RUNS}
            if (lasting or alike) == {own}:
                return label[2]
        return ""

    def _by_owner(self, pod: Pod) -> str:
        found = self._workload(pod.key.namespace, _held(pod)).name
        # the kubelet puts its node's name behind a static pod's
        return found or pod.key.name.removesuffix(f"-{pod.node}" if pod.mirror else "")

    def _workload(self, namespace: str, held: _Held) -> Owner:
        """Return the top owner; where whatever is between cannot be read, by its name."""
        kind, name = held.owner
        known = self._managed.get(kind, {})
        key = Key(namespace, name)
        if key in known:
            return known[key] or held.owner
        if kind == "ReplicaSet" and held.hash:
            return Owner("Deployment", name.removesuffix(f"-{held.hash}"))
        if kind == "Job" and _MINUTE.search(name):
            return Owner("CronJob", _MINUTE.sub("", name))
        return held.owner

    def _one_of(
        self, services: Mapping[Key, VirtualService], port: int, *, strict: bool
    ) -> Service | None:
        """Return the one of these Services that a port leads to; None unless it is only one."""
        fitting = [one for one in services.values() if any(port in each for each in one.ports)]
        if not fitting and not strict:
            fitting = list(services.values())
        return self._virtual_service(fitting[0]) if len(fitting) == 1 else None

    def _virtual_service(self, service: VirtualService) -> Service:
        namespace, name = service.key
        own = Service(f"{namespace}/svc/{name}", "kubernetes service", namespace)
        endpoints = [
            each for part in self._behind.get(service.key, {}).values() for each in part.endpoints
        ]
        behind: dict[str, Service] = {}
        for each in [one for one in endpoints if one.ready] or endpoints:
            pods = self._at.get(each.address)
            pod = self._by_uid.get(each.pod) or (next(iter(pods.values())) if pods else None)
            if pod is not None:
                found = self.pod_service(pod)
                behind[found.name] = found
            elif not each.pod:
                return own  # not a pod's
        if not behind:
            # while all of it is down it is still what it was
            return self._last.get(service.uid, own)
        if len(behind) > 1:
            return own
        self._last[service.uid] = found = next(iter(behind.values()))
        return found


def _freshness(pod: Pod) -> tuple[bool, str, Key]:
    return not pod.leaving, pod.created, pod.key


def _held(pod: Pod) -> _Held:
    if pod.owner is None or pod.owner.kind == "Node":  # a static pod's
        return _Held(_NOBODY, "")
    return _Held(pod.owner, pod.label(*_HASHES))


def _naming_labels(pod: Pod) -> Iterator[tuple[str, str, str]]:
    for label in _NAMING:
        if value := pod.label(label):
            yield pod.key.namespace, label, value


def _host_places(pod: Pod) -> Iterable[tuple[bytes, int]]:
    return [(address, port) for address in pod.node_addresses for port in pod.host_ports]


def _digits(container: str) -> bytes:
    try:
        return bytes.fromhex(container)
    except ValueError:
        return b""


def _unlink(of: MutableMapping[K, dict[Key, V]], at: K, key: Key) -> None:
    held = of.get(at, {})
    held.pop(key, None)
    if not held:
        of.pop(at, None)


def _count_down(of: MutableMapping[K, Counter[V]], at: K, what: V) -> None:
    counter = of[at]
    counter[what] -= 1
    if not counter[what]:
        del counter[what]
    if not counter:
        del of[at]
