"""Names: of cgroups, of programs, of processes that come and go."""

from pathlib import Path

import pytest

from probes.services import ServiceNames, program_name, service_of_cgroup

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/system.slice/nginx.service", "nginx"),
        ("/system.slice/system-postgresql.slice/postgresql@15-main.service", "postgresql@15-main"),
        (f"/system.slice/docker-{ID}.scope", ID[:12]),
        (f"/docker/{ID}", ID[:12]),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", ID[:12]),
        (f"/machine.slice/libpod-{ID}.scope/container", ID[:12]),
        (f"/system.slice/containerd.service/kubepods-besteffort-pod1:cri-containerd:{ID}", ID[:12]),
        (f"/docker/{ID}/system.slice/cron.service", "cron"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", "web"),
        ("/user.slice/user-1000.slice/session-2.scope", None),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", None),
        ("/", None),
        (f"/build/{ID[:40]}", None),
    ],
)
def test_a_cgroup_names_a_service(path: str, service: str | None) -> None:
    assert service_of_cgroup(path) == service


def test_a_program_is_called_as_it_was_started() -> None:
    assert program_name("redis-server", "redis-check-rdb") == "redis-server"
    assert program_name("prometheus-aler", "prometheus-alertmanager") == "prometheus-alertmanager"
    assert program_name("a-script-with-a", "python3.11") == "a-script-with-a"
    assert program_name("kworker/0:1", "") == "kernel"


class _Proc:
    """A procfs to be, and a clock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 0.0
        self.names = ServiceNames(proc=root, clock=lambda: self.now)

    def start(self, tgid: int, cgroup: str, *, at: int = 100) -> None:
        directory = self.root / str(tgid)
        directory.mkdir(exist_ok=True)
        fields = " ".join(["S", "1", *["0"] * 17, str(at), "0"])
        (directory / "stat").write_text(f"{tgid} (a) b) {fields}\n")
        (directory / "cgroup").write_text(f"0::{cgroup}\n")

    def end(self, tgid: int) -> None:
        for file in (self.root / str(tgid)).iterdir():
            file.unlink()
        (self.root / str(tgid)).rmdir()


def test_a_process_keeps_its_name_after_its_end(tmp_path: Path) -> None:
    proc = _Proc(tmp_path)
    proc.start(7, "/system.slice/web.service")
    assert proc.names.name(7, "gunicorn", 55) == "web"
    proc.end(7)
    proc.now += 1000
    assert proc.names.name(7, "gunicorn", 55) == "web"


def test_a_short_process_is_named_by_its_cgroup_mates(tmp_path: Path) -> None:
    proc = _Proc(tmp_path)
    assert proc.names.name(8, "curl", 55) == "curl"
    proc.start(7, "/system.slice/web.service")
    proc.names.name(7, "gunicorn", 55)
    assert proc.names.name(9, "curl", 55) == "web"
    assert proc.names.name(9, "wget", 56) == "wget"


def test_a_process_id_used_again_is_another_process(tmp_path: Path) -> None:
    proc = _Proc(tmp_path)
    proc.start(7, "/system.slice/web.service")
    assert proc.names.name(7, "python3", 55) == "web"
    proc.start(7, "/system.slice/batch.service", at=200)
    proc.now += 60
    assert proc.names.name(7, "python3", 56) == "batch"


def test_processes_of_another_namespace_are_not_looked_up(tmp_path: Path) -> None:
    _Proc(tmp_path).start(7, "/system.slice/web.service")
    names = ServiceNames(proc=tmp_path, readable=False)
    assert names.name(7, "python3", 55) == "python3"
