"""Objects of Kubernetes as its API server says them: pods, their controllers, Services."""

from __future__ import annotations

import uuid
from typing import Any

Said = dict[str, Any]


def owner(kind: str, name: str) -> list[Said]:
    """Return the ownerReferences of what a controller manages."""
    return [{"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": True}]


def meta(name: str, namespace: str = "shop", **more: Any) -> Said:
    """Return an object's metadata."""
    return {
        "name": name,
        "namespace": namespace,
        "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{namespace}/{name}/{more}")),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **more,
    }


def pod(
    name: str,
    *addresses: str,
    namespace: str = "shop",
    node: str = "node-1",
    phase: str = "Running",
    host_network: bool = False,
    host_ip: str = "192.0.2.1",
    ports: tuple[Said, ...] = (),
    image: str = "registry.example/app:1",
    containers: tuple[str, ...] = (),
    **metadata: Any,
) -> Said:
    """Return a Pod; `containers` are ids, the first is the application's."""
    names = ["app", *(f"side-{n}" for n in range(1, len(containers)))]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, namespace, **metadata),
        "spec": {
            "nodeName": node,
            "hostNetwork": host_network,
            "containers": [
                {"name": each, "image": image, "ports": list(ports) if each == "app" else []}
                for each in names
            ],
        },
        "status": {
            "phase": phase,
            "hostIP": host_ip,
            "hostIPs": [{"ip": host_ip}],
            **({"podIP": addresses[0]} if addresses else {}),
            "podIPs": [{"ip": address} for address in addresses],
            "containerStatuses": [
                {
                    "name": each,
                    "containerID": f"containerd://{container}",
                    "imageID": f"registry.example/app@sha256:{'ab' * 32}",
                }
                for each, container in zip(names, containers, strict=False)
            ],
        },
    }


def managed(kind: str, name: str, *, by: tuple[str, str] | None, namespace: str = "shop") -> Said:
    """Return a ReplicaSet or a Job."""
    more = {"ownerReferences": owner(*by)} if by else {}
    return {"kind": kind, "metadata": meta(name, namespace, **more), "spec": {"replicas": 1}}


def service(
    name: str,
    *addresses: str,
    namespace: str = "shop",
    ports: tuple[Said, ...] = ({"port": 80},),
    external: tuple[str, ...] = (),
    balancer: tuple[str, ...] = (),
) -> Said:
    """Return a Service."""
    return {
        "kind": "Service",
        "metadata": meta(name, namespace),
        "spec": {
            "clusterIP": addresses[0] if addresses else "None",
            "clusterIPs": list(addresses) or ["None"],
            "externalIPs": list(external),
            "ports": list(ports),
        },
        "status": {"loadBalancer": {"ingress": [{"ip": each} for each in balancer]}},
    }


def endpoints(name: str, of: str, *ends: tuple[str, Said | None, bool]) -> Said:
    """Return an EndpointSlice of a Service: (address, pod, ready)..."""
    return {
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": meta(name, labels={"kubernetes.io/service-name": of}),
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": ready},
                **({"targetRef": _reference(one)} if one else {}),
            }
            for address, one, ready in ends
        ],
    }


def _reference(one: Said) -> Said:
    about = one["metadata"]
    return {
        "kind": "Pod",
        "uid": about["uid"],
        "name": about["name"],
        "namespace": about["namespace"],
    }
