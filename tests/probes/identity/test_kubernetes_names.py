"""From Kubernetes' objects to names."""

from __future__ import annotations

from typing import Any

import pytest

from probes.endpoints import Where, mapped
from probes.identity.containers import service_of as service_of_container
from probes.identity.kubernetes_index import Index
from probes.identity.kubernetes_objects import (
    Key,
    UnreadableError,
    key_of,
    managed_of,
    pod_of,
    service_of,
    slice_of,
)
from probes.identity.service import Service
from tests.support.kubernetes_objects import Said, endpoints, managed, owner, pod, service

_INSTANCE, _NAME = "app.kubernetes.io/instance", "app.kubernetes.io/name"
_READ = {
    "Pod": pod_of,
    "Service": service_of,
    "EndpointSlice": slice_of,
    "ReplicaSet": managed_of,
    "Job": managed_of,
}
ID = "0123456789abcdef" * 4


def _index(*said: Said) -> Index:
    index = Index()
    for one in said:
        index.put(one["kind"], _READ[one["kind"]](one))
    return index


def _at(index: Index, address: str, port: int = 0) -> Service | None:
    return index.service(Where(7, mapped(address), port))


def _name(index: Index, address: str, port: int = 0) -> str:
    found = _at(index, address, port)
    return found.name if found else ""


def _of(
    name: str, address: str = "10.1.0.5", by: tuple[str, str] | None = None, **more: Any
) -> Said:
    if by:
        more["ownerReferences"] = owner(*by)
    return pod(name, address, **more)


def test_the_order_of_the_conventions() -> None:
    labels = {_INSTANCE: "prod", _NAME: "nginx", "pod-template-hash": "7d4f5"}
    annotations = {"resource.opentelemetry.io/service.name": "front"}
    by = ("ReplicaSet", "web-7d4f5")
    replicas = managed("ReplicaSet", "web-7d4f5", by=("Deployment", "web"))
    without = {key: value for key, value in labels.items() if key != _INSTANCE}
    neither = {"pod-template-hash": "7d4f5"}
    for wanted, more in (
        ("shop/front", {"labels": labels, "annotations": annotations}),
        ("shop/prod", {"labels": labels}),
        ("shop/nginx", {"labels": without}),
        ("shop/web", {"labels": neither}),
    ):
        index = _index(replicas, _of("web-7d4f5-x2x4z", by=by, **more))
        assert _at(index, "10.1.0.5") == Service(
            wanted, "kubernetes", "shop", "registry.example/app:1"
        )
    assert _name(_index(_of("alone")), "10.1.0.5") == "shop/alone"


@pytest.mark.parametrize(
    ("by", "between", "wanted"),
    [
        (("StatefulSet", "db"), None, "shop/db"),
        (("DaemonSet", "agent"), None, "shop/agent"),
        (("Job", "once"), managed("Job", "once", by=None), "shop/once"),
        (("Job", "b-29700000"), managed("Job", "b-29700000", by=("CronJob", "b")), "shop/b"),
        (("Job", "b-29700000"), None, "shop/b"),  # jobs cannot be read
        (("Job", "load-20240101"), None, "shop/load-20240101"),  # a day is no minute
        (("ReplicaSet", "rs"), managed("ReplicaSet", "rs", by=None), "shop/rs"),
        (("ReplicaSet", "c-1"), managed("ReplicaSet", "c-1", by=("Rollout", "c")), "shop/c"),
        (("ReplicaSet", "web-7d4f5"), None, "shop/web"),  # ReplicaSets cannot be read
        (("ReplicaSet", "web-other"), None, "shop/web-other"),
    ],
)
def test_the_top_owner(by: tuple[str, str], between: Said | None, wanted: str) -> None:
    one = _of("x", by=by, labels={"pod-template-hash": "7d4f5"})
    index = _index(*([between] if between else []), one)
    assert _name(index, "10.1.0.5") == wanted
    if between is not None:
        index.drop(between["kind"], key_of(between))
        assert _name(index, "10.1.0.5") in (wanted, "shop/c-1")


def test_a_static_pod_is_called_without_its_node() -> None:
    config = {"kubernetes.io/config.hash": "0123456789abcdef0123456789abcdef"}
    one = _of("etcd-node-1", by=("Node", "node-1"), annotations=config)
    index = _index(one)
    assert _name(index, "10.1.0.5") == "shop/etcd"
    found = index.container("", "01234567-89ab-cdef-0123-456789abcdef")
    assert found is not None
    assert found.name == "shop/etcd"


def test_two_namespaces_and_one_release_do_not_become_one_service() -> None:
    labels = {_INSTANCE: "prod"}
    web = _of("web-0", "10.1.0.1", ("StatefulSet", "web"), labels=labels)
    index = _index(web, _of("web-0", "10.1.0.2", ("StatefulSet", "web"), namespace="b"))
    assert _name(index, "10.1.0.1") == "shop/prod"
    assert _name(index, "10.1.0.2") == "b/web"
    # a hook of the release comes and goes
    index.put("Pod", pod_of(_of("hook-x", "10.1.0.3", ("Job", "hook"), labels=labels)))
    assert _name(index, "10.1.0.1") == "shop/prod"
    assert _name(index, "10.1.0.3") == "shop/hook"
    # a database is another service
    index.put("Pod", pod_of(_of("db-0", "10.1.0.4", ("StatefulSet", "db"), labels=labels)))
    assert _name(index, "10.1.0.1") == "shop/web"
    assert _name(index, "10.1.0.4") == "shop/db"
    index.drop("Pod", Key("shop", "db-0"))
    assert _name(index, "10.1.0.1") == "shop/prod"
    index.drop("Pod", Key("shop", "web-0"))
    assert _name(index, "10.1.0.3") == "shop/prod"


def test_both_families_and_what_runs() -> None:
    one = pod("web-0", "10.1.0.5", "fd00::5", containers=(ID, ID[::-1]))
    index = _index(one)
    assert _name(index, "fd00::5") == _name(index, "10.1.0.5") == "shop/web-0"
    found = index.container(ID)
    assert found is not None
    version = ", ".join(["registry.example/app:1@sha256:abababababab"] * 2)
    assert service_of_container(found) == Service("shop/web-0", "kubernetes", "shop", version)
    assert found.labels["io.kubernetes.container.name"] == "app"
    side = index.container(ID[::-1])
    assert side is not None
    assert side.labels["io.kubernetes.container.name"] == "side-1"
    # known by its pod, before the kubelet has said its id
    assert index.container("f" * 64, one["metadata"]["uid"]) is not None
    assert index.container("f" * 64) is None
    assert index.container("no digits") is None


def test_two_pods_that_claim_the_same_are_forgotten_whole() -> None:
    same = {"containers": (ID,), "annotations": {}, "labels": {_NAME: "x"}}
    index = _index(pod("a", "10.1.0.1", **same), pod("b", "10.1.0.1", **same))
    assert _name(index, "10.1.0.1") == "shop/x"
    for name in ("b", "a"):
        assert index.drop("Pod", Key("shop", name))
        assert not index.drop("Pod", Key("shop", name))
    assert index.container(ID) is None
    assert _at(index, "10.1.0.1") is None
    assert _at(index, "192.0.2.1") is None
    assert not any(
        held for name, held in vars(index).items() if name != "_managed" and not callable(held)
    )


def test_an_address_is_used_again() -> None:
    index = _index(_of("old", labels={"a": "b"}))
    index.put("Pod", pod_of(_of("old", phase="Succeeded")))
    assert _at(index, "10.1.0.5") is None
    index.put("Pod", pod_of(_of("old", deletionTimestamp="2026-01-01T00:00:09Z")))
    assert _name(index, "10.1.0.5") == "shop/old"
    index.put("Pod", pod_of(_of("new", creationTimestamp="2025-01-01T00:00:00Z")))
    assert _name(index, "10.1.0.5") == "shop/new"
    index.drop("Pod", Key("shop", "old"))
    assert _name(index, "10.1.0.5") == "shop/new"
    index.put("Pod", pod_of(pod("new", "10.1.0.6")))
    assert _at(index, "10.1.0.5") is None


def test_an_address_of_a_node() -> None:
    node = "192.0.2.1"
    host = {"host_network": True}
    index = _index(
        pod("proxy", node, ports=({"containerPort": 9000, "hostPort": 9000},), **host),
        pod("web", "10.1.0.5", ports=({"containerPort": 80, "hostPort": 8080},)),
        service("front", "10.96.0.9", ports=({"port": 80, "nodePort": 30080},), balancer=(node,)),
        endpoints("front-1", "front", ("10.1.0.5", None, True)),
    )
    assert _at(index, node) == Service("node/node-1", "kubernetes node")
    assert _name(index, node, 22) == "node/node-1"
    assert _name(index, node, 9000) == "shop/proxy"
    assert _name(index, node, 8080) == "shop/web"
    assert _name(index, node, 30080) == "shop/web"
    assert _name(index, node, 80) == "shop/web"
    index.put("Pod", pod_of(pod("two", node, ports=({"containerPort": 9000},), **host)))
    assert _name(index, node, 9000) == "node/node-1"
    assert _at(index, "192.0.2.2") is None


def test_a_service_is_its_pods_while_they_are_one_workload() -> None:
    by = ("StatefulSet", "db")
    first, second = _of("db-0", "10.1.0.1", by), _of("db-1", "10.1.0.2", by)
    other = _of("cache-0", "10.1.0.3", ("StatefulSet", "cache"))
    front = service(
        "front", "10.96.0.9", "fd96::9", external=("198.51.100.7",), balancer=("198.51.100.8",)
    )
    index = _index(first, second, other, front)
    for address in ("10.96.0.9", "fd96::9", "198.51.100.7", "198.51.100.8"):
        assert _at(index, address, 80) == Service("shop/svc/front", "kubernetes service", "shop")
    assert _at(index, "10.96.0.9") is None  # no client comes from there

    def behind(*ends: tuple[str, Said | None, bool]) -> str:
        index.put("EndpointSlice", slice_of(endpoints("front-1", "front", *ends)))
        return _name(index, "fd96::9", 80)

    both = ("10.1.0.1", first, True), ("10.1.0.2", second, True)
    assert behind(*both) == "shop/db"
    assert behind(*both, ("10.1.0.3", other, False)) == "shop/db"  # not ready
    assert behind(*both, ("10.1.0.3", other, True)) == "shop/svc/front"
    assert behind(("10.1.0.3", other, False)) == "shop/cache"
    assert behind() == "shop/cache"  # all of it is down, and still what it was
    assert behind(("203.0.113.4", None, True)) == "shop/svc/front"
    index.drop("Service", Key("shop", "front"))
    assert _at(index, "10.96.0.9", 80) is None
    headless = service("headless")
    index.put("Service", service_of(headless))
    assert _at(index, "10.1.0.1", 80) == _at(index, "10.1.0.1")


def test_one_balancers_address_for_two_services() -> None:
    shared = ("198.51.100.8",)
    index = _index(
        service("a", "10.96.0.1", ports=({"port": 80},), balancer=shared),
        service("b", "10.96.0.2", ports=({"port": 443},), balancer=shared),
    )
    assert _name(index, "198.51.100.8", 80) == "shop/svc/a"
    assert _name(index, "198.51.100.8", 443) == "shop/svc/b"
    assert _at(index, "198.51.100.8", 25) is None
    assert _name(index, "10.96.0.1", 25) == "shop/svc/a"


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Pod", {"metadata": {"name": "a"}}),
        ("Pod", {"metadata": {"name": "a", "namespace": "b"}}),
        ("Pod", {"metadata": 3}),
        ("Pod", {"status": {"podIP": "not an address"}}),
        ("Pod", {"status": {"podIPs": [3]}}),
        ("Pod", {"spec": {"containers": "x"}}),
        ("Pod", {"spec": {"containers": [{"ports": [{"hostPort": 70000}]}]}}),
        ("Pod", {"status": {"containerStatuses": [{"containerID": 3}]}}),
        ("Service", {"spec": {"clusterIPs": [None]}}),
        ("Service", {"spec": {"ports": [{"port": "http"}]}}),
        ("EndpointSlice", {"endpoints": {}}),
        ("EndpointSlice", {"endpoints": [{"addresses": ["::zz"]}]}),
        ("ReplicaSet", {"metadata": {"name": "a", "namespace": "b", "ownerReferences": [
            {"controller": True}]}}),
    ],
)  # fmt: skip
def test_what_is_no_such_object_is_refused(kind: str, change: Said) -> None:
    whole = {
        "Pod": pod("a", "10.1.0.5"),
        "Service": service("a", "10.96.0.1"),
        "EndpointSlice": endpoints("a", "b"),
        "ReplicaSet": managed("ReplicaSet", "a", by=None),
    }[kind]
    _READ[kind](whole)
    with pytest.raises(UnreadableError):
        _READ[kind]({**whole, **change})
