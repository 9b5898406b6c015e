"""What happens to the workloads of a cluster, as its API server tells it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.identity.happenings import Happenings
from probes.identity.kubernetes import KubernetesNames, KubernetesSettings
from probes.identity.resolver import Services
from probes.identity.service_event import ServiceEvent
from tests.support.kubernetes import served
from tests.support.kubernetes_cluster import Cluster
from tests.support.kubernetes_objects import managed, owner, pod
from tests.support.traffic import wait_for

pytest.importorskip("kubernetes", reason="an extra")

_BEGAN = dt.datetime(2026, 1, 1, 1, tzinfo=dt.UTC)


class _Scene:
    """A cluster of which everything is followed, and a clock of its own."""

    def __init__(self, cluster: Cluster, names: KubernetesNames) -> None:
        self.cluster, self._names = cluster, names
        self._happenings = Happenings(
            Services(containers=names), own_tgid=1, readable=False, cluster=names
        )
        self._now = 0.0

    def put(self, number: int, at: float, template: str, image: str) -> None:
        """Have a pod of the Deployment web run from `at` seconds after the beginning."""
        created = _BEGAN + dt.timedelta(seconds=at)
        self.cluster.put(
            pod(
                f"web-{template}-{number}",
                f"10.1.0.{number}",
                image=f"registry.example/app:{image}",
                containers=(f"{number:064x}",),
                labels={"pod-template-hash": template},
                ownerReferences=owner("ReplicaSet", f"web-{template}"),
                creationTimestamp=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            )
        )

    def drop(self, number: int, template: str) -> None:
        self.cluster.delete("Pod", "shop", f"web-{template}-{number}")

    def until(self, at: float) -> list[ServiceEvent]:
        """Return what happens until so many seconds after the beginning."""
        pods = len(self.cluster.all("Pod"))
        wait_for(lambda: self._names.counts["Pod"] == pods, what="the pods are known")
        while self._now < at:
            self._now += 1.0
            self._happenings.update(_BEGAN.timestamp() + self._now)
        return self._happenings.events()

    def told(self, at: float) -> list[tuple[str, str, float, str]]:
        found = self.until(at)
        began = _BEGAN.timestamp()
        return [(each.kind, each.service, each.at - began, each.detail) for each in found]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[_Scene]:
    cluster = Cluster()
    for template in ("a", "b", "c"):
        cluster.put(managed("ReplicaSet", f"web-{template}", by=("Deployment", "web")))
    with served(tmp_path, cluster) as api:
        names = KubernetesNames(KubernetesSettings(str(api.kubeconfig)))
        try:
            assert names.first_problems(10) == []
            scene = _Scene(cluster, names)
            for number in (1, 2):
                scene.put(number, -600, "a", "1.2")
            assert scene.told(30) == []
            yield scene
        finally:
            names.close()


def test_another_image_is_one_deploy(scene: _Scene) -> None:
    scene.put(3, 40, "b", "1.3")
    (event,) = scene.told(50)
    kind, service, at, detail = event
    assert (kind, service, at) == ("deploy", "shop/web", 40)
    new, _, old = detail.partition(" in place of ")
    assert new.startswith("registry.example/app:1.3@sha256:")
    assert old.startswith("registry.example/app:1.2@sha256:")
    # the rest of it
    scene.drop(1, "a")
    assert scene.told(60) == []
    scene.put(4, 61, "b", "1.3")
    assert scene.told(70) == []
    scene.drop(2, "a")
    assert scene.told(500) == []


def test_the_same_image_rolled_out_anew_is_a_restart(scene: _Scene) -> None:
    scene.put(3, 40, "c", "1.2")
    expected = ("restart", "shop/web", 40, "rolled out anew, in the same version")
    assert scene.told(70) == [expected]
    scene.drop(1, "a")
    scene.drop(2, "a")
    scene.put(4, 75, "c", "1.2")
    assert scene.told(500) == []


def test_more_pods_and_fewer(scene: _Scene) -> None:
    scene.put(3, 40, "a", "1.2")
    assert scene.told(80) == [("scale_out", "shop/web", 40, "3 instances in place of 2")]
    scene.drop(1, "a")
    assert scene.told(120) == [("scale_in", "shop/web", 81, "2 instances in place of 3")]


def test_jobs_come_and_go(scene: _Scene) -> None:
    scene.cluster.put(managed("Job", "nightly-1", by=("CronJob", "nightly")))
    for number in range(5):
        run = pod(
            f"nightly-1-{number}", f"10.2.0.{number}", ownerReferences=owner("Job", "nightly-1")
        )
        scene.cluster.put(run)
        assert scene.told(60 + 40 * number) == []
        scene.cluster.delete("Pod", "shop", f"nightly-1-{number}")
        assert scene.told(80 + 40 * number) == []
