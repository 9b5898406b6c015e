"""What the probes need of a process, and how they say what is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from probes import programs
from probes.btf import KernelTypes
from probes.errors import ProbeError
from probes.observer import Observer
from tests.support.daemon import ROOT

pytestmark = pytest.mark.kernel
_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
_TWO = "-all,+bpf,+perfmon"


def _doctor(*prefix: str, directory: Path) -> tuple[int, dict[str, dict[str, str]]]:
    directory.chmod(0o777)
    run = subprocess.run(
        [*prefix, sys.executable, "-m", "tailrace", "doctor", "-o", "json",
         "--state-dir", directory / "state"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stdout, run.stderr
    found = json.loads(run.stdout)
    return run.returncode, {check["name"]: check for check in found["checks"]}


@pytest.fixture
def public(tmp_path: Path) -> Path:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    return tmp_path


def test_two_capabilities_are_enough(public: Path) -> None:
    caps = (f"--inh-caps={_TWO}", f"--ambient-caps={_TWO}", f"--bounding-set={_TWO}")
    code, checks = _doctor(*_NOBODY, *caps, directory=public)
    assert code == 0, checks
    for name in ("programs", "tracepoints", "self-check", "open connections"):
        assert checks[name]["state"] == "ok", checks[name]


def test_without_them_the_doctor_says_what_to_do(public: Path) -> None:
    code, checks = _doctor(*_NOBODY, directory=public)
    assert code == 3
    assert checks["capabilities"]["state"] == "fail"
    assert "CAP_BPF" in checks["capabilities"]["remedy"]


def test_run_without_them_fails_with_one_message(public: Path) -> None:
    public.chmod(0o777)
    run = subprocess.run(
        [*_NOBODY, sys.executable, "-m", "tailrace", "run", "--state-dir", public / "state"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert "CAP_BPF and CAP_PERFMON" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_missing_tracepoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = {**programs.HOOKS, "on_receive": "sock_recv_nothing"}
    monkeypatch.setattr(programs, "HOOKS", hooks)
    with pytest.raises(ProbeError, match="no tracepoint sock_recv_nothing"):
        Observer()


def test_a_missing_field_is_named() -> None:
    with KernelTypes() as types:
        assert types.offset("sock", "__sk_common.skc_family") == 16
        with pytest.raises(ProbeError, match="struct tcp_sock has no field nothing"):
            types.offset("tcp_sock", "nothing")
        with pytest.raises(ProbeError, match="no struct nothing_at_all"):
            types.offset("nothing_at_all", "x")


def test_a_kernel_without_type_information(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("probes.btf.VMLINUX", tmp_path / "vmlinux")
    with pytest.raises(ProbeError, match="CONFIG_DEBUG_INFO_BTF"):
        KernelTypes()


def test_an_unrelated_bcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bcc.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    with pytest.raises(ProbeError, match="unrelated package"):
        programs.import_bcc()
    sys.modules.pop("bcc")


def test_a_window_that_is_too_short() -> None:
    with pytest.raises(ValueError, match=r"at least 0\.1 s"):
        Observer(0.05)
