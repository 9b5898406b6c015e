"""`tailrace doctor`: what is wrong here, and what to do."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from alerts.store import Store
from probes import kprobes
from probes.hooks import EVENTS
from tailrace import doctor, state
from tailrace.cli import main
from tailrace.condition import Condition
from tailrace.pairs import PairTable, publish
from tests.support.kubernetes import served
from tests.support.kubernetes_cluster import Cluster
from tests.support.kubernetes_objects import pod

pytestmark = pytest.mark.usefixtures("alone")


def test_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "BTF", tmp_path / "missing")
    assert main(["doctor", "-o", "json"]) == 3
    public = json.loads(capsys.readouterr().out)
    assert public["schema"] == "tailrace.doctor/1"
    assert public["ok"] is False
    checks = {check["name"]: check for check in public["checks"]}
    assert checks["btf"]["state"] == "fail"
    assert "CONFIG_DEBUG_INFO_BTF" in checks["btf"]["remedy"]
    assert checks["python"]["state"] == "ok"
    assert checks["configuration"]["state"] == "warn"
    assert main(["doctor"]) == 3
    said, _, table = capsys.readouterr().out.partition("\n\n")
    lines = said.splitlines() + table.splitlines()[2:]
    assert len(lines) == len(checks)
    assert all(line.split()[0] in ("ok", "warn", "fail") for line in lines)


@pytest.mark.kernel
def test_doctor_says_which_hook_sees_which_event(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--state-dir", str(tmp_path))
    assert main(["doctor", "-o", "json", *where]) == 0
    public = json.loads(capsys.readouterr().out)
    hooks = {hook["event"]: hook for hook in public["hooks"]}
    assert list(hooks) == [event.name for event in EVENTS]
    for event in EVENTS:
        hook = hooks[event.name]
        assert hook["required"] == event.required
        assert hook["family"] in {way.family for way in event.ways} | {""}
        if hook["family"]:
            assert hook["instructions"] > 0
        else:
            assert hook["hook"] == "unavailable"
            assert hook["reasons"]

    assert main(["doctor", *where]) == 0
    heading, _, *table = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    assert heading.split()[:4] == ["event", "family", "hook", "instructions"]
    for line, (name, hook) in zip(table, hooks.items(), strict=True):
        assert name in line
        assert (hook["family"] or "none") in line
        assert f"{hook['instructions']:,}" in line


@pytest.mark.kernel
def test_doctor_tries_the_hooks_that_are_configured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[probes]\nhooks = "kprobe"\n')
    code = main(["doctor", "-o", "json", "--config", str(file), "--state-dir", str(tmp_path)])
    public = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in public["checks"]}
    if kprobes.DEVICE.exists():
        families = {hook["family"] for hook in public["hooks"] if hook["required"]}
        assert families == {"kprobe", "iterator"}
    else:
        assert code == 3
        sent = checks["event: sent"]
        assert sent["state"] == "fail"
        assert "this kernel has no kprobes" in sent["detail"]
        assert 'set hooks = "auto"' in sent["remedy"]


def test_doctor_and_report_tell_how_a_daemon_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Store.open(tmp_path).close()
    monkeypatch.setattr("tailrace.doctor._probes", lambda _hooks: iter(()))
    where = ("--state-dir", str(tmp_path))

    def told(condition: Condition) -> tuple[dict[str, str], str]:
        publish(
            tmp_path / state.PAIRS,
            PairTable(),
            now=time.time(),
            window_s=1.0,
            condition=condition,
        )
        main(["doctor", "-o", "json", *where])
        checks = {c["name"]: c for c in json.loads(capsys.readouterr().out)["checks"]}
        assert main(["report", *where]) == 0
        return checks["daemon"], capsys.readouterr().err

    check, report = told(Condition(user=0.0025, kernel=0.0006, budget=0.005))
    assert check["state"] == "ok"
    assert check["detail"] == (
        "running, 0 pairs, at 0.31 % of a core (0.25 % the daemon, 0.06 % its programs), "
        "budget 0.5 %; everything is measured; lost since its start: nothing"
    )
    assert len(report.splitlines()) == 1
    check, report = told(
        Condition(level=2, user=0.006, budget=0.005, reason="it needs CAP_SYS_ADMIN",
                  lost={"latencies": 3, "groups": 1})
    )  # fmt: skip
    assert check["state"] == "warn"
    assert "one request in 16 is timed; counts stay exact" in check["detail"]
    assert "3 latency samples that found no room, 1 connections put under" in check["detail"]
    assert check["detail"].endswith("; it needs CAP_SYS_ADMIN")
    assert "raise [probes] overhead_budget" in check["remedy"]
    assert "the daemon is at 0.6 % of a core" in report
    assert "the daemon lost since its start: 3 latency samples" in report
    check, _ = told(Condition(folded=12, lost={"answers": 2, "malformed": 1}))
    assert check["state"] == "warn"
    assert check["detail"].endswith("12 pairs that do least are put under `other`")
    assert "2 DNS answers not read for their names, 1 DNS answers that make no" in check["detail"]
    assert "raise [probes] max_pairs" in check["remedy"]
    assert main(["pairs", *where]) == 0
    assert "12 pairs that do least are put under `other`" in capsys.readouterr().err
    check, _ = told(Condition(naming=("docker.sock: it has ended the connection",)))
    assert check["state"] == "warn"
    assert check["detail"].endswith("; docker.sock: it has ended the connection")
    assert "container's id" in check["remedy"]


def test_doctor_finds_a_wrong_configuration_and_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text("[probes]\nwindow = 0\n")
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / "tailrace.db").write_bytes(b"no database" * 100)
    assert main(["doctor", "-o", "json", "--config", str(tmp_path / "c.toml")]) == 3
    checks = {c["name"]: c for c in json.loads(capsys.readouterr().out)["checks"]}
    assert "c.toml:2: key `window` in [probes]" in checks["configuration"]["detail"]
    assert checks["state directory"]["state"] == "fail"


def test_doctor_says_how_peers_elsewhere_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[probes]\nreverse_dns = true\n")
    assert doctor._elsewhere(file).detail == (
        "by the DNS answers of clients here; reverse lookup is on"
    )
    monkeypatch.setattr("probes.doctor.reads_calls", lambda: False)
    assert doctor._elsewhere(file).state == "warn"
    file.write_text("[probes]\ndns_names = false\n")
    assert doctor._elsewhere(file).detail == "by network: [probes] dns_names is off"


def test_doctor_says_why_containers_have_no_names(tmp_path: Path) -> None:
    file, path = tmp_path / "c.toml", tmp_path / "engine.sock"
    file.write_text(f'[probes]\ncontainer_sockets = ["{path}"]\n')

    def check() -> dict[str, str]:
        found = doctor._containers(file)
        return {"state": found.state, "detail": found.detail, "remedy": found.remedy}

    assert check() == {"state": "ok", "detail": "no engine listens here", "remedy": ""}
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        engine.listen()
        threading.Thread(target=_talk_nonsense, args=(engine,), daemon=True).start()
        said = check()
    assert said["state"] == "warn"
    assert str(path) in said["detail"]
    assert "tailrace[docker]" in said["remedy"]


def _talk_nonsense(engine: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            end = engine.accept()[0]
            end.recv(1000)
            end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope")
            end.close()


def test_capabilities(tmp_path: Path) -> None:
    for mask, wanted in (
        (1 << 21, "ok"),
        (1 << 38 | 1 << 39, "ok"),
        (1 << 39, "fail"),
        (0, "fail"),
    ):
        status = tmp_path / "status"
        status.write_text(f"Name:\tx\nCapEff:\t{mask:016x}\n")
        check = doctor._capabilities(status)
        assert check.state == wanted
        assert bool(check.remedy) == (wanted == "fail")


def test_doctor_says_how_kubernetes_is_followed(tmp_path: Path) -> None:
    pytest.importorskip("kubernetes", reason="an extra")
    file = tmp_path / "c.toml"
    cluster = Cluster()
    cluster.put(pod("web-0", "10.1.0.1"))
    with served(tmp_path, cluster) as api:
        file.write_text(f'[probes]\nkubernetes = "{api.kubeconfig}"\n')
        found = doctor._kubernetes(file)
        assert (found.state, found.remedy) == ("ok", "")
        assert found.detail == f"1 pods and 0 Services, by {api.kubeconfig}"
        cluster.faults.refused = {"endpointslices": 403}
        found = doctor._kubernetes(file)
        assert found.state == "warn"
        assert "not allowed to list and watch endpointslices" in found.detail
        assert "list and watch on pods, services, endpointslices.discovery.k8s.io" in found.remedy
        cluster.faults.refused = {}
        cluster.token = "changed"
        found = doctor._kubernetes(file)
        assert "does not accept the credentials" in found.detail
        assert "correct the kubeconfig" in found.remedy
    found = doctor._kubernetes(file)
    assert "cannot reach the API server" in found.detail
    assert "let this host reach" in found.remedy
    file.write_text('[probes]\nkubernetes = "off"\n')
    assert doctor._kubernetes(file).detail == "switched off"


def test_doctor_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.toml"
    (tmp_path / "kubeconfig").write_text("{}")
    file.write_text(f'[probes]\nkubernetes = "{tmp_path}/kubeconfig"\n')
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    found = doctor._kubernetes(file)
    assert found.state == "warn"
    assert "tailrace[kubernetes]" in found.remedy
