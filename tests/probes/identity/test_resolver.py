"""Processes that come and go, and what they are called."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from probes.identity.containers import Container
from probes.identity.processes import is_same
from probes.identity.resolver import Services
from probes.identity.rules import Rule
from probes.identity.service import Facts, Service, program_name

ID = "0123456789abcdef" * 4
_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")


def _units(ticks: int) -> int:
    return ticks * _TICK_NS >> 20


class _Proc:
    """A procfs to be."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(
        self, tgid: int, cgroup: str, *, ticks: int = 100, line: tuple[str, ...] = ("a",)
    ) -> None:
        directory = self.root / str(tgid)
        directory.mkdir(exist_ok=True)
        fields = " ".join(["S", "1", *["0"] * 17, str(ticks), "0"])
        (directory / "stat").write_text(f"{tgid} (a) b) {fields}\n")
        (directory / "cgroup").write_text(f"0::{cgroup}\n")
        (directory / "cmdline").write_bytes(b"".join(each.encode() + b"\0" for each in line))

    def enter(self, tgid: int, *lines: str) -> None:
        (self.root / str(tgid) / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def end(self, tgid: int) -> None:
        for file in (self.root / str(tgid)).iterdir():
            file.unlink()
        (self.root / str(tgid)).rmdir()


class _Known:
    """Containers by hand."""

    def __init__(self) -> None:
        self.generation = 0
        self.all: dict[str, Container] = {}

    def add(self, container: Container) -> None:
        self.all[container.id] = container
        self.generation += 1

    def get(self, container: str, pod: str = "") -> Container | None:
        return self.all.get(container) or self.all.get(pod)

    def at(self, address: str) -> Container | None:
        return next((one for one in self.all.values() if address in one.addresses), None)


def _facts(
    tgid: int, command: str = "python3", *, ticks: int = 100, cgroup: int = 0, name: str = "",
    arguments: tuple[str, ...] = (),
) -> Facts:  # fmt: skip
    return Facts(tgid, _units(ticks), command, command, cgroup, name, arguments)


def test_a_program_is_called_as_it_was_started() -> None:
    def called(command: str, executable: str) -> str:
        return program_name(Facts(1, 0, command, executable))

    assert called("redis-server", "redis-check-rdb") == "redis-server"
    assert called("prometheus-aler", "prometheus-alertmanager") == "prometheus-alertmanager"
    assert called("kworker/0:1", "") == "kernel"


def test_the_surest_name_counts(tmp_path: Path) -> None:
    proc, containers = _Proc(tmp_path), _Known()
    services = Services(proc=tmp_path, containers=containers)
    proc.start(1, "/system.slice/web.service", line=("python3", "app.py"))
    proc.start(2, "/user.slice/user-1000.slice/session-1.scope", line=("python3", "app.py"))
    proc.start(3, "/user.slice/user-1000.slice/session-1.scope", line=("python3",))
    proc.start(4, f"/system.slice/docker-{ID}.scope", line=("python3", "app.py"))
    proc.start(5, "/lxc.payload.box/init.scope")
    proc.start(6, "/lxc.payload.box/system.slice/web.service")
    assert services.service(_facts(1)) == Service("web", "unit")
    assert services.service(_facts(2)) == Service("app.py", "script")
    assert services.service(_facts(3)) == Service("python3", "program")
    assert services.service(_facts(4)) == Service(ID[:12], "container id")
    assert services.service(_facts(5)) == Service("box", "machine")
    assert services.service(_facts(6)) == Service("web", "unit", "box")
    assert services.unresolved == {ID}
    labels = {"com.docker.compose.service": "db", "com.docker.compose.project": "shop"}
    containers.add(Container(ID, "shop-db-1", "pg:15", labels))
    assert services.service(_facts(4)) == Service("shop/db", "compose", "shop", "pg:15")
    assert services.unresolved == set()
    containers.add(Container(ID, "renamed", "pg:16"))
    assert services.service(_facts(4)) == Service("renamed", "container", "", "pg:16")


def test_a_pod_is_known_before_its_containers(tmp_path: Path) -> None:
    proc, containers = _Proc(tmp_path), _Known()
    services = Services(proc=tmp_path, containers=containers)
    uid = "01234567-89ab-cdef-0123-456789abcdef"
    slice_ = f"/kubepods.slice/kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    proc.start(1, f"{slice_}/cri-containerd-{ID}.scope")
    proc.start(2, slice_)
    assert services.service(_facts(1)) == Service(ID[:12], "container id")
    assert services.service(_facts(2)) == Service("python3", "program")
    web = Service("shop/web", "kubernetes", "shop", "web:1")
    containers.add(Container(uid, "web", service=web))
    assert services.service(_facts(1)) == services.service(_facts(2)) == web
    proc.end(1)
    db = Service("shop/db", "kubernetes", "shop")
    containers.add(Container(ID, "db", service=db))
    assert services.service(_facts(1)) == db


def test_a_container_is_renamed_though_its_process_is_gone(tmp_path: Path) -> None:
    proc, containers = _Proc(tmp_path), _Known()
    services = Services(proc=tmp_path, containers=containers)
    containers.add(Container(ID, "web"))
    proc.start(4, f"/docker/{ID}")
    proc.start(5, "/system.slice/job.service")
    assert services.service(_facts(4)).name == "web"
    assert services.service(_facts(5)).name == "job"
    proc.end(4)
    proc.end(5)
    containers.add(Container(ID, "api"))
    assert services.service(_facts(4)).name == "api"
    assert services.service(_facts(5)).name == "job"


@pytest.mark.parametrize(
    ("pod", "name"),
    [
        ("web-7c9d8b6f5-x2x9k", "web"),
        ("fluentd-x2x9k", "fluentd"),
        ("db-0", "db-0"),
        ("my-api", "my-api"),
    ],
)
def test_a_pod_is_its_workload(tmp_path: Path, pod: str, name: str) -> None:
    containers = _Known()
    labels = {"io.kubernetes.pod.name": pod, "io.kubernetes.pod.namespace": "shop"}
    containers.add(Container(ID, "k8s_x", "img", labels))
    _Proc(tmp_path).start(4, f"/docker/{ID}")
    found = Services(proc=tmp_path, containers=containers).service(_facts(4))
    assert found == Service(f"shop/{name}", "kubernetes", "shop", "img")


def test_a_process_keeps_its_name_after_its_end(tmp_path: Path) -> None:
    proc, services = _Proc(tmp_path), Services(proc=tmp_path)
    proc.start(7, "/system.slice/web.service")
    assert services.service(_facts(7, cgroup=55)).name == "web"
    proc.end(7)
    assert services.service(_facts(7, cgroup=55)).name == "web"


def test_a_process_that_is_gone_is_named_by_what_the_kernel_said(tmp_path: Path) -> None:
    services = Services(proc=tmp_path)
    assert services.service(_facts(8, "curl")) == Service("curl", "program")
    script = _facts(9, arguments=("python3", "/srv/job.py"))
    assert services.service(script) == Service("job.py", "script")
    in_unit = _facts(10, name="batch.service", arguments=("python3", "/srv/job.py"))
    assert services.service(in_unit) == Service("batch", "unit")
    in_container = _facts(11, name=f"docker-{ID}.scope")
    assert services.service(in_container) == Service(ID[:12], "container id")


def test_a_process_that_has_ended_and_still_stands_there_is_gone(tmp_path: Path) -> None:
    _Proc(tmp_path).start(9, "/", line=())
    job = _facts(9, name="batch.service", arguments=("python3", "/srv/job.py"))
    assert Services(proc=tmp_path).service(job) == Service("batch", "unit")


def test_a_process_that_is_gone_is_named_by_its_cgroup_mates(tmp_path: Path) -> None:
    proc, services = _Proc(tmp_path), Services(proc=tmp_path)
    proc.start(7, "/system.slice/web.service/worker")
    services.service(_facts(7, cgroup=55))
    assert services.service(_facts(9, cgroup=55, name="worker")) == Service("web", "unit")
    assert services.service(_facts(9, "wget", cgroup=56, name="worker")).name == "wget"


def test_who_shares_the_root_of_one_hierarchy_is_no_mate(tmp_path: Path) -> None:
    # with v1, everybody is in the root of the unified one
    proc, services = _Proc(tmp_path), Services(proc=tmp_path)
    proc.start(7, "/")
    proc.enter(7, "1:name=systemd:/system.slice/web.service", "0::/")
    assert services.service(_facts(7, cgroup=1)).name == "web"
    assert services.service(_facts(8, "curl", cgroup=1)) == Service("curl", "program")


def test_a_process_id_used_again_is_another_process(tmp_path: Path) -> None:
    proc, services = _Proc(tmp_path), Services(proc=tmp_path)
    proc.start(7, "/system.slice/web.service", ticks=100)
    assert services.service(_facts(7, ticks=100)).name == "web"
    proc.start(7, "/system.slice/batch.service", ticks=150)
    assert services.service(_facts(7, ticks=150)).name == "batch"
    # who had the id in between is gone: what stands there is not his
    assert services.service(_facts(7, "curl", ticks=120)) == Service("curl", "program")


def test_a_process_that_executes_another_program_has_both_names(tmp_path: Path) -> None:
    proc, services = _Proc(tmp_path), Services(proc=tmp_path)
    proc.start(7, "/", line=("python3", "a.py"))
    first, second = (_facts(7, arguments=("python3", each)) for each in ("a.py", "b.py"))
    assert services.service(first) == Service("a.py", "script")
    proc.start(7, "/", line=("python3", "b.py"))
    assert services.service(second) == Service("b.py", "script")
    assert services.service(first) == Service("a.py", "script")
    # it may have done so before we look
    assert Services(proc=tmp_path).service(first) == Service("a.py", "script")
    # and has more arguments than the kernel side keeps
    proc.start(7, "/", line=("python3", "-X", "dev", "c.py"))
    cut = _facts(7, arguments=("python3", "-X"))
    assert Services(proc=tmp_path).service(cut) == Service("c.py", "script")


def test_what_contradicts_the_kernel_is_another_process(tmp_path: Path) -> None:
    # of the same id, started in the same 10 ms
    _Proc(tmp_path).start(7, "/system.slice/web.service", line=("python3", "app.py"))
    other = _facts(7, name="batch.service", arguments=("python3", "job.py"))
    assert Services(proc=tmp_path).service(other) == Service("batch", "unit")
    same = _facts(7, name="web.service", arguments=("python3", "app.py"))
    assert Services(proc=tmp_path).service(same) == Service("web", "unit")


def test_a_long_cgroup_s_name_is_known_by_its_beginning(tmp_path: Path) -> None:
    pod = f"kubepods-besteffort-pod{'0a1b2c3d-1111-2222-3333-444455556666'}:cri-containerd:{ID}"
    _Proc(tmp_path).start(7, f"/system.slice/containerd.service/{pod}")
    found = Services(proc=tmp_path).service(_facts(7, name=pod[:95]))
    assert found == Service(ID[:12], "container id")


def test_starts_are_compared_over_two_clocks() -> None:
    second = 10**9 // _TICK_NS
    assert is_same(_units(50 * second), 50 * second, 0)
    assert not is_same(_units(50 * second), 51 * second, 0)
    assert is_same(_units(50 * second), 51 * second, 2 * 10**9)  # it slept before that
    assert not is_same(_units(51 * second), 50 * second, 2 * 10**9)


def test_processes_of_another_namespace_are_not_looked_up(tmp_path: Path) -> None:
    _Proc(tmp_path).start(7, "/system.slice/web.service")
    services = Services(proc=tmp_path, readable=False)
    assert services.service(_facts(7)) == Service("python3", "program")
    assert services.by_tgid(7) is None


def test_rules_come_first(tmp_path: Path) -> None:
    _Proc(tmp_path).start(7, "/system.slice/web.service", line=("python3", "-m", "billing.api"))
    rules = (
        Rule("no", executable="ruby*"),
        Rule("no", command="*billing*", port=81),
        Rule("billing", command="*billing*", cgroup="/system.slice/*"),
        Rule("web2", port=8080),
    )
    services = Services(proc=tmp_path, rules=rules)
    assert services.service(_facts(7)) == Service("billing", "rule")
    assert services.service(_facts(8, "a"), 8080) == Service("web2", "rule")
    assert services.service(_facts(8, "a"), 8081) == Service("a", "program")


def test_a_rule_by_label_finds_a_container_that_is_known_later(tmp_path: Path) -> None:
    proc, containers = _Proc(tmp_path), _Known()
    rules = (Rule("billing", labels={"team": "money"}), Rule("batch", command="*job.py"))
    services = Services(proc=tmp_path, rules=rules, containers=containers)
    proc.start(4, f"/docker/{ID}", line=("python3", "app.py"))
    proc.start(5, f"/docker/{ID}", line=("python3", "job.py"))
    assert services.service(_facts(4)) == Service(ID[:12], "container id")
    assert services.service(_facts(5)) == Service("batch", "rule")
    proc.end(4)
    containers.add(Container(ID, "web", "img", {"team": "money"}))
    assert services.service(_facts(4)) == Service("billing", "rule", version="img")
    assert services.service(_facts(5)) == Service("billing", "rule", version="img")
    assert services.unresolved == set()


def test_this_process_by_the_real_procfs() -> None:
    found = Services().by_tgid(os.getpid())
    assert found is not None
    assert found.name in Path("/proc/self/cgroup").read_text() or found.resolution == "script"
    assert found.version.startswith(str(Path("/proc/self/exe").readlink()))
    year = time.strftime("%Y", time.gmtime(Path("/proc/self/exe").stat().st_mtime))
    assert f" of {year}-" in found.version


def test_docker_s_proxy_hands_on(tmp_path: Path) -> None:
    proc, containers = _Proc(tmp_path), _Known()
    services = Services(proc=tmp_path, containers=containers)
    line = ("docker-proxy", "-proto", "tcp", "-host-ip", "0.0.0.0", "-host-port", "8080",
            "-container-ip", "172.18.0.2", "-container-port", "80")  # fmt: skip
    proc.start(5, "/system.slice/docker.service", line=line)
    assert services.forwarded(_facts(5, "docker-proxy")) is None  # to whom is not known
    containers.add(Container(ID, "web", addresses=("172.18.0.2",)))
    assert services.forwarded(_facts(5, "docker-proxy")) == (Service("web", "container"), 80)
    assert services.forwarded(_facts(5, "nginx")) is None
