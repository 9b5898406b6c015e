"""After any changes, disconnections and compactions: what is named is what the server has."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from probes.endpoints import Where, mapped
from probes.identity.kubernetes import KubernetesNames, KubernetesSettings
from probes.identity.kubernetes_watch import Pace
from tests.support.kubernetes import served
from tests.support.kubernetes_cluster import Cluster, Faults
from tests.support.kubernetes_objects import Said, endpoints, managed, owner, pod, service
from tests.support.traffic import wait_for

pytest.importorskip("kubernetes", reason="an extra")

_LABELS = ("app.kubernetes.io/instance", "app.kubernetes.io/name")
_ADDRESSES = [f"10.1.0.{n}" for n in range(1, 7)] + ["fd00::1", "fd00::2"]
_VIRTUAL = ["10.96.0.1", "10.96.0.2"]
_NODE = "192.0.2.1"
_PORTS = (0, 80, 8080)
_IDS = [f"{n:064x}" for n in range(6)]
_CHANGES = ("pod", "pod", "pod", "end", "delete", "delete", "replicas", "job", "service", "slice")
_DISTURBANCES = ("none", "behind", "too far behind", "hang up", "refuse", "garbage", "unsteady")


def _change(cluster: Cluster, what: str, chance: random.Random) -> None:
    pods = cluster.all("Pod")
    at = chance.randrange(2)
    if what == "pod":
        cluster.put(_pod(f"web-{chance.randrange(5)}", chance))
    elif what == "end" and pods:
        one = chance.choice(pods)
        cluster.put({**one, "status": {**one["status"], "phase": "Succeeded"}})
    elif what == "delete":
        kind = chance.choice(("Pod", "Pod", "Service", "EndpointSlice", "ReplicaSet", "Job"))
        if known := cluster.all(kind):
            meta = chance.choice(known)["metadata"]
            cluster.delete(kind, meta["namespace"], meta["name"])
    elif what in ("replicas", "job"):
        kind, above = {"replicas": ("ReplicaSet", "Deployment"), "job": ("Job", "CronJob")}[what]
        by = (above, f"top-{chance.randrange(2)}") if chance.random() < 0.7 else None
        cluster.put(managed(kind, f"{kind.lower()}-{at}", by=by))
    elif what == "service":
        cluster.put(service(f"front-{at}", _VIRTUAL[at]))
    elif what == "slice":
        behind = chance.sample(pods, chance.randint(0, min(2, len(pods))))
        ends = [(chance.choice(_ADDRESSES[:6]), one, chance.random() < 0.8) for one in behind]
        cluster.put(endpoints(f"front-{at}-x", f"front-{at}", *ends))


@contextlib.contextmanager
def _disturbed(cluster: Cluster, how: str, chance: random.Random) -> Iterator[None]:
    """Have the server misbehave while it changes."""
    behind = how in ("behind", "too far behind")
    cluster.faults = Faults(
        silent=behind,
        gone_as_status=chance.random() < 0.5,
        refused={chance.choice(("pods", "services", "replicasets")): 503}
        if how == "refuse"
        else {},
        garbage=0.3 if how == "garbage" else 0.0,
        hang_up=0.3 if how == "unsteady" else 0.0,
    )
    if how == "hang up":
        cluster.hang_up()
    yield
    if how == "too far behind":
        cluster.compact()
    if behind and cluster.faults.gone_as_status:
        cluster.hang_up()
    cluster.faults.silent = False


def _pod(name: str, chance: random.Random) -> Said:
    more: dict[str, Any] = {}
    if chance.random() < 0.7:
        kind = chance.choice(("ReplicaSet", "Job", "StatefulSet"))
        more["ownerReferences"] = owner(kind, f"{kind.lower()}-{chance.randrange(2)}")
    labels = {label: f"l{chance.randrange(2)}" for label in _LABELS if chance.random() < 0.4}
    if chance.random() < 0.1:
        more["annotations"] = {"resource.opentelemetry.io/service.name": "given"}
    on_host = chance.random() < 0.2
    return pod(
        name,
        *([_NODE] if on_host else chance.sample(_ADDRESSES, chance.randint(0, 2))),
        host_network=on_host,
        ports=({"containerPort": 8080, "hostPort": 8080},) if on_host else (),
        containers=(_IDS[int(name[-1])],) if chance.random() < 0.5 else (),
        labels=labels,
        creationTimestamp=f"2026-01-01T00:00:{chance.randrange(60):02}Z",
        **more,
    )


class _Oracle:
    """The names, computed plainly from all objects of the server."""

    def __init__(self, cluster: Cluster) -> None:
        self.pods = cluster.all("Pod")
        self.services, self.slices = cluster.all("Service"), cluster.all("EndpointSlice")
        self.above = {
            (kind, one["metadata"]["name"]): one["metadata"].get("ownerReferences")
            for kind in ("ReplicaSet", "Job")
            for one in cluster.all(kind)
        }

    def workload(self, one: Said) -> tuple[str, str]:
        references = one["metadata"].get("ownerReferences")
        if not references:
            return "", ""
        direct = references[0]["kind"], references[0]["name"]
        if higher := self.above.get(direct):
            return higher[0]["kind"], higher[0]["name"]
        return direct

    def name(self, one: Said) -> str:
        meta = one["metadata"]
        if given := meta.get("annotations", {}).get("resource.opentelemetry.io/service.name"):
            return f"shop/{given}"
        for label in _LABELS:
            value = meta["labels"].get(label)
            alike = {
                self.workload(each)
                for each in self.pods
                if value and each["metadata"]["labels"].get(label) == value
            }
            lasting = {each for each in alike if each[0] not in ("Job", "CronJob")}
            if (lasting or alike) == {self.workload(one)}:
                return f"shop/{value}"
        return f"shop/{self.workload(one)[1] or meta['name']}"

    def holding(self, address: str) -> list[Said]:
        return [
            one
            for one in self.pods
            if one["status"]["phase"] == "Running"
            and not one["spec"]["hostNetwork"]
            and {"ip": address} in one["status"]["podIPs"]
        ]

    def at(self, address: str, port: int) -> set[str]:
        """Return the names that are right; several where that is for whoever answers to say."""
        if holding := self.holding(address):
            newest = max(
                holding,
                key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"]),
            )
            return {self.name(newest)}
        if address == _NODE and any(one["spec"]["nodeName"] for one in self.pods):
            on_port = [
                one
                for one in self.pods
                if one["spec"]["hostNetwork"]
                and one["status"]["phase"] == "Running"
                and port == 8080
            ]
            return {self.name(on_port[0]) if len(on_port) == 1 else "node/node-1"}
        for one in self.services if port else ():
            if address in one["spec"]["clusterIPs"]:
                return self.behind(one["metadata"]["name"])
        return {""}

    def behind(self, name: str) -> set[str]:
        ends = [
            end
            for part in self.slices
            if part["metadata"]["labels"]["kubernetes.io/service-name"] == name
            for end in part["endpoints"]
        ]
        ready = [end for end in ends if end["conditions"]["ready"]] or ends
        found = set()
        for end in ready:
            uid = end["targetRef"]["uid"]
            behind = [one for one in self.pods if one["metadata"]["uid"] == uid]
            behind = behind or self.holding(end["addresses"][0])
            if len(behind) > 1:
                return {""} | {self.name(one) for one in behind} | {f"shop/svc/{name}"}
            found |= {self.name(one) for one in behind}
        if not found:  # whatever it was before
            return {"*"}
        return found if len(found) == 1 else {f"shop/svc/{name}"}

    def container(self, container: str) -> set[str]:
        having = [
            one
            for one in self.pods
            for status in one["status"]["containerStatuses"]
            if status["containerID"].endswith(container)
        ]
        return {self.name(one) for one in having}


def _differences(names: KubernetesNames, cluster: Cluster) -> list[str]:
    oracle, wrong = _Oracle(cluster), []
    for address in [*_ADDRESSES, *_VIRTUAL, _NODE]:
        for port in _PORTS:
            found = names.service(Where(1, mapped(address), port))
            wanted = oracle.at(address, port)
            if "*" not in wanted and (found.name if found else "") not in wanted:
                wrong.append(f"{address}:{port} is {found}, not {wanted}")
    for container in _IDS:
        known, wanted = names.get(container), oracle.container(container)
        # one that is gone keeps its name
        if wanted and (known is None or known.name not in wanted):
            wrong.append(f"{container} is {known}, not {wanted}")
    return wrong


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # each try may take long
)
@given(
    seed=st.integers(0, 2**32),
    before=st.lists(st.sampled_from(_CHANGES), max_size=20),
    after=st.lists(
        st.tuples(st.sampled_from(_DISTURBANCES), st.lists(st.sampled_from(_CHANGES), max_size=12)),
        min_size=1,
        max_size=6,
    ),
)
def test_names_are_those_of_the_servers_own_objects(
    tmp_path: Path, seed: int, before: list[str], after: list[tuple[str, list[str]]]
) -> None:
    chance = random.Random(seed)
    cluster = Cluster(seed=seed)
    for what in before:
        _change(cluster, what, chance)
    pace = Pace(first_s=0.01, longest_s=0.05, calm_s=0.2)
    with served(tmp_path, cluster) as api:
        names = KubernetesNames(KubernetesSettings(str(api.kubeconfig)), pace=pace)
        try:
            for how, changes in after:
                if chance.random() < 0.7:
                    names.first_problems(10)
                with _disturbed(cluster, how, chance):
                    for what in changes:
                        _change(cluster, what, chance)
                        _differences(names, cluster)  # answers given meanwhile
            cluster.faults = Faults()
            generation, told = names.generation, _told(names)
            with contextlib.suppress(AssertionError):
                wait_for(lambda: not _differences(names, cluster))
            assert _differences(names, cluster) == [], names.problems
            assert names.generation > generation or told == _told(names)
        finally:
            names.close()


def _told(names: KubernetesNames) -> list[str]:
    found = [names.service(Where(1, mapped(each), 80)) for each in [*_ADDRESSES, *_VIRTUAL, _NODE]]
    return [one.name if one else "" for one in found]
