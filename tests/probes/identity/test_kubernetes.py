"""Following an API server: what it lists, what it says then, and all that may go wrong with it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.endpoints import Where, mapped
from probes.identity.kubernetes import KubernetesNames, KubernetesSettings
from probes.identity.kubernetes_api import IN_CLUSTER, NODE_FILES, found_config
from probes.identity.kubernetes_watch import Pace
from tests.support.kubernetes import served, write_kubeconfig
from tests.support.kubernetes_cluster import Cluster
from tests.support.kubernetes_objects import Said, managed, owner, pod, service
from tests.support.traffic import free_port, wait_for

pytest.importorskip("kubernetes", reason="an extra")

_FAST = Pace(first_s=0.02, longest_s=0.2, calm_s=1.0)
ID = "0123456789abcdef" * 4


def _at(names: KubernetesNames, address: str, port: int = 0) -> str:
    found = names.service(Where(1, mapped(address), port))
    return found.name if found else ""


@contextlib.contextmanager
def _following(kubeconfig: Path, **more: Any) -> Iterator[KubernetesNames]:
    names = KubernetesNames(KubernetesSettings(str(kubeconfig)), pace=_FAST, **more)
    try:
        yield names
    finally:
        names.close()


def _until(names: KubernetesNames, address: str, wanted: str, port: int = 0) -> None:
    wait_for(
        lambda: _at(names, address, port) == wanted,
        within_s=20,
        what=f"{address} is {wanted!r}: {names.problems}, {names.counts}",
    )


def _web(name: str, address: str, **more: Any) -> Said:
    return pod(name, address, ownerReferences=owner("StatefulSet", name.rpartition("-")[0]), **more)


@pytest.mark.parametrize("tls", [False, True], ids=["HTTP", "HTTPS"])
def test_list_and_watch(tmp_path: Path, *, tls: bool) -> None:
    cluster = Cluster(token="secret")
    for number in range(600):  # six pages
        cluster.put(_web(f"web-{number}", f"10.1.{number // 250}.{number % 250 + 1}"))
    with served(tmp_path, cluster, tls=tls) as api, _following(api.kubeconfig) as names:
        assert names.first_problems(10) == []
        assert names.counts["Pod"] == 600
        assert cluster.asked.count(("Pod", "list", 200)) == 6
        assert _at(names, "10.1.2.100") == "shop/web"
        assert _at(names, "10.2.0.1") == ""
        before = names.generation
        cluster.put(_web("db-0", "10.3.0.1"))  # nobody has asked for it
        wait_for(lambda: names.counts["Pod"] == 601)
        assert names.generation == before
        cluster.put(_web("db-1", "10.2.0.1"))
        _until(names, "10.2.0.1", "shop/db")
        cluster.delete("Pod", "shop", "db-1")
        wait_for(lambda: names.counts["Pod"] == 601)
        assert names.generation > before
        assert _at(names, "10.2.0.1") == ""
        assert names.problems == []
        assert names.where == str(api.kubeconfig)


def test_containers_and_their_owners(tmp_path: Path) -> None:
    cluster = Cluster()
    by = owner("ReplicaSet", "web-abc")
    cluster.put(managed("ReplicaSet", "web-abc", by=("Deployment", "web")))
    with served(tmp_path, cluster) as api, _following(api.kubeconfig) as names:
        assert names.first_problems(10) == []
        assert names.get(ID) is None
        before = names.generation
        cluster.put(pod("web-abc-x", "10.1.0.1", ownerReferences=by, containers=(ID,)))
        wait_for(lambda: names.get(ID) is not None)
        assert names.generation > before
        found = names.get(ID)
        assert found is not None
        assert found.name == "shop/web"
        cluster.delete("Pod", "shop", "web-abc-x")
        wait_for(lambda: names.counts["Pod"] == 0)
        assert names.get(ID) == found  # its connections are still to be told


@pytest.mark.parametrize("as_status", [True, False], ids=["status", "event"])
def test_what_was_seen_is_too_old(tmp_path: Path, *, as_status: bool) -> None:
    cluster = Cluster()
    cluster.put(_web("web-0", "10.1.0.1"))
    cluster.put(_web("gone-0", "10.1.0.2"))
    with served(tmp_path, cluster) as api, _following(api.kubeconfig) as names:
        assert names.first_problems(10) == []
        _until(names, "10.1.0.2", "shop/gone")
        # nobody can list: what is known stays, though it may be old
        cluster.faults.gone_as_status = as_status
        cluster.faults.refused = {"pods": 500}
        cluster.hang_up()
        wait_for(lambda: any("the API server says 500" in text for text in names.problems))
        cluster.delete("Pod", "shop", "gone-0")
        cluster.put(_web("new-0", "10.1.0.3"))
        cluster.compact()
        assert _at(names, "10.1.0.2") == "shop/gone"
        cluster.faults.refused = {}
        _until(names, "10.1.0.3", "shop/new")
        _until(names, "10.1.0.2", "")
        assert _at(names, "10.1.0.1") == "shop/web"
        assert cluster.gone > 0
        wait_for(lambda: names.problems == [], what=str(names.problems))


def test_a_continued_list_that_is_too_old_begins_anew(tmp_path: Path) -> None:
    cluster = Cluster()
    for number in range(600):
        cluster.put(_web(f"web-{number}", f"10.1.{number // 250}.{number % 250 + 1}"))
    cluster.faults.delay_s = 0.1
    with served(tmp_path, cluster) as api, _following(api.kubeconfig) as names:
        wait_for(lambda: ("Pod", "list", 200) in cluster.asked)
        cluster.compact()
        wait_for(lambda: names.counts["Pod"] == 600 and names.problems == [], within_s=20)
    assert ("Pod", "list", 410) in cluster.asked


def test_a_stream_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    cluster = Cluster(seed=3)
    cluster.faults.hang_up = 0.3
    with served(tmp_path, cluster) as api, _following(api.kubeconfig) as names:
        assert names.first_problems(10) == []
        for number in range(60):
            cluster.put(_web(f"a{number}-0", f"10.1.0.{number + 1}"))
        for number in range(60):
            _until(names, f"10.1.0.{number + 1}", f"shop/a{number}")
        assert cluster.asked.count(("Pod", "list", 200)) == 1  # never from the beginning
        assert cluster.asked.count(("Pod", "watch", 200)) > 5


def test_bookmarks_keep_a_quiet_stream_young(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.bookmark_s = 0.1
    cluster.put(_web("web-0", "10.1.0.1"))
    with served(tmp_path, cluster) as api, _following(api.kubeconfig) as names:
        assert names.first_problems(10) == []
        for number in range(5):
            cluster.put(service(f"s{number}", f"10.96.0.{number + 1}"))
        time.sleep(0.5)  # pods are quiet, and hear how far all has come
        cluster.compact()
        cluster.hang_up()
        cluster.put(_web("web-1", "10.1.0.2"))
        _until(names, "10.1.0.2", "shop/web")
        assert cluster.asked.count(("Pod", "list", 200)) <= 2


def test_nonsense_is_counted_and_nothing_is_lost(tmp_path: Path) -> None:
    cluster = Cluster(seed=5)
    with served(tmp_path, cluster) as api, _following(api.kubeconfig) as names:
        assert names.first_problems(10) == []
        cluster.faults.garbage = 0.2
        for number in range(40):
            cluster.put(_web(f"a{number}-0", f"10.1.0.{number + 1}"))
        broken = _web("broken-0", "10.1.1.1")
        cluster.put(broken)
        _until(names, "10.1.1.1", "shop/broken")
        cluster.put({**broken, "status": {"podIP": "10.1.1.1.1.1"}})
        for number in range(40):
            _until(names, f"10.1.0.{number + 1}", f"shop/a{number}")
        _until(names, "10.1.1.1", "")
        said = " ".join(names.problems)
        assert "of pods not understood" in said
        cluster.faults.garbage = 0.0
        cluster.put(_web("last-0", "10.1.1.2"))
        _until(names, "10.1.1.2", "shop/last")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not accept the credentials"),
        (403, 'not allowed to list and watch replicasets in the API group "apps"'),
        (404, "the API server says 404"),
        (503, "the API server says 503"),
    ],
)
def test_who_is_refused_does_with_less(tmp_path: Path, status: int, said: str) -> None:
    cluster = Cluster()
    cluster.faults.refused = {"replicasets": status}
    labels = {"pod-template-hash": "abc"}
    cluster.put(pod("web-abc-x", "10.1.0.1", ownerReferences=owner("ReplicaSet", "web-abc"),
                    labels=labels))  # fmt: skip
    with served(tmp_path, cluster) as api, _following(api.kubeconfig) as names:
        (problem,) = names.first_problems(10)
        assert said in problem
        assert "kubernetes (replicasets): " in problem
        assert _at(names, "10.1.0.1") == "shop/web"
        cluster.faults.refused = {}
        wait_for(lambda: names.problems == [])


def test_another_token(tmp_path: Path) -> None:
    cluster = Cluster(token="first")
    with served(tmp_path, cluster) as api, _following(api.kubeconfig) as names:
        assert names.first_problems(10) == []
        cluster.token = "second"
        cluster.hang_up()
        wait_for(lambda: any("credentials" in text for text in names.problems))
        write_kubeconfig(api.kubeconfig, api.url, token="second")
        wait_for(lambda: names.problems == [], what=str(names.problems))
        cluster.put(_web("web-0", "10.1.0.1"))
        _until(names, "10.1.0.1", "shop/web")


def test_a_server_that_comes_late_goes_away_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    cluster = Cluster()
    cluster.put(_web("web-0", "10.1.0.1"))
    write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{port}")
    with _following(tmp_path / "kubeconfig") as names:
        (problem,) = names.first_problems(10)
        assert "cannot reach the API server" in problem
        assert "pods, services, endpointslices, replicasets, jobs" in problem
        with served(tmp_path, cluster, port=port):
            _until(names, "10.1.0.1", "shop/web")
        wait_for(lambda: len(names.problems) == 1)
        assert _at(names, "10.1.0.1") == "shop/web"
        cluster.delete("Pod", "shop", "web-0")
        cluster.put(_web("db-0", "10.1.0.2"))
        with served(tmp_path, cluster, port=port):
            _until(names, "10.1.0.2", "shop/db")
            _until(names, "10.1.0.1", "")


@pytest.mark.parametrize("fault", ["delay", "trickle", "silent"])
def test_a_slow_server_holds_nobody_up(tmp_path: Path, fault: str) -> None:
    cluster = Cluster()
    for number in range(300):
        cluster.put(_web(f"web-{number}", f"10.1.{number // 250}.{number % 250 + 1}"))
    cluster.faults.delay_s = 1.0 if fault == "delay" else 0.0
    cluster.faults.trickle = fault == "trickle"
    cluster.faults.silent = fault == "silent"
    with served(tmp_path, cluster) as api, _following(api.kubeconfig) as names:
        longest = 0.0
        end = time.monotonic() + 20
        while not names.listed and time.monotonic() < end:
            began = time.monotonic()
            assert _at(names, "10.1.0.1") in ("", "shop/web")
            assert names.get(ID) is None
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.01)
        assert names.listed
        assert longest < 0.9  # far below what the server takes
        assert _at(names, "10.1.0.1") == "shop/web"
        began = time.monotonic()
    assert time.monotonic() - began < 10  # a stream that says nothing does not keep it


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot use the configuration"),
        ("", "cannot use the configuration"),
        ("nothing: of\n\tthat kind", "cannot use the configuration"),
        ('{"current-context": "x", "contexts": []}', "cannot use the configuration"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with _following(path) as names:
        (problem,) = names.first_problems(10)
        assert said in problem
        assert str(path) in problem
        assert _at(names, "10.1.0.1") == ""


def test_not_an_api_server(tmp_path: Path) -> None:
    cluster = Cluster()
    with served(tmp_path, cluster) as api:
        cluster.page = lambda *_: ([3, [], {"metadata": {}}], "", 5)  # type: ignore[method-assign,assignment,return-value]
        with _following(api.kubeconfig) as names:
            names.first_problems(10)
            assert any("3 of pods not understood" in text for text in names.problems)


def test_where_the_configuration_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.identity.kubernetes_api.NODE_FILES", (tmp_path / "k3s.yaml",))
    assert all(path.is_absolute() for path in NODE_FILES)
    assert found_config("auto", {}, account=tmp_path) == ""
    (tmp_path / "k3s.yaml").write_text("x")
    assert found_config("auto", {}, account=tmp_path) == str(tmp_path / "k3s.yaml")
    assert found_config("auto", {"KUBECONFIG": "/k"}, account=tmp_path) == "/k"
    inside = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBECONFIG": "/k"}
    assert found_config("auto", inside, account=tmp_path) == "/k"
    (tmp_path / "token").write_text("x")
    assert found_config("auto", inside, account=tmp_path) == IN_CLUSTER
    assert found_config("off", inside, account=tmp_path) == ""
    assert found_config("/mine", inside, account=tmp_path) == "/mine"
    off = KubernetesNames(KubernetesSettings("off"))
    assert off.first_problems(0) == []
    assert off.counts["Pod"] == 0
    off.close()


def test_a_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes.config import incluster_config  # noqa: PLC0415

    cluster = Cluster(token="mounted")
    cluster.put(_web("web-0", "10.1.0.1"))
    with served(tmp_path, cluster, tls=True) as api:
        (tmp_path / "token").write_text("mounted")
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", api.url.rpartition(":")[2])
        names = KubernetesNames(KubernetesSettings("auto"), find=lambda _: IN_CLUSTER, pace=_FAST)
        try:
            assert names.first_problems(10) == []
            assert _at(names, "10.1.0.1") == "shop/web"
        finally:
            names.close()


def test_the_server_of_these_tests_speaks_as_the_official_client_expects(tmp_path: Path) -> None:
    from kubernetes import client, config, watch  # noqa: PLC0415

    cluster = Cluster(token="t")
    for number in range(5):
        cluster.put(_web(f"web-{number}", f"10.1.0.{number + 1}"))
    with served(tmp_path, cluster) as api:
        config.load_kube_config(str(api.kubeconfig))
        core = client.CoreV1Api()
        first = core.list_pod_for_all_namespaces(limit=3)
        assert len(first.items) == 3
        rest = core.list_pod_for_all_namespaces(limit=3, _continue=first.metadata._continue)
        assert [one.status.pod_ip for one in rest.items] == ["10.1.0.4", "10.1.0.5"]
        stream = watch.Watch()
        heard: list[tuple[str, str]] = []

        def listen() -> None:
            for event in stream.stream(
                core.list_pod_for_all_namespaces,
                resource_version=rest.metadata.resource_version,
                timeout_seconds=10,
            ):
                heard.append((event["type"], event["object"].metadata.name))
                if len(heard) == 3:
                    stream.stop()

        thread = threading.Thread(target=listen)
        thread.start()
        cluster.put(_web("db-0", "10.1.0.9"))
        cluster.put(_web("db-0", "10.1.0.8"))
        cluster.delete("Pod", "shop", "db-0")
        thread.join(15)
        assert heard == [("ADDED", "db-0"), ("MODIFIED", "db-0"), ("DELETED", "db-0")]
        cluster.faults.refused = {"pods": 403}
        with pytest.raises(client.exceptions.ApiException) as caught:
            core.list_pod_for_all_namespaces()
        assert caught.value.status == 403
