"""What the probes need of a process, and how they say what is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from probes.btf import KernelTypes
from probes.errors import ProbeError
from probes.observer import Observer
from tests.support.daemon import ROOT

pytestmark = pytest.mark.kernel
# root in name only: who the files belong to is not the question here
_TWO = ("setpriv", "--inh-caps=-all", "--bounding-set=-all,+bpf,+perfmon")
_NONE = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def _doctor(*prefix: str, directory: Path) -> tuple[int, dict[str, dict[str, str]]]:
    command = (sys.executable, "-m", "tailrace", "doctor", "-o", "json", "--state-dir")
    run = _run(*prefix, *command, directory / "state")
    assert run.stdout, run.stderr
    return run.returncode, {check["name"]: check for check in json.loads(run.stdout)["checks"]}


def test_two_capabilities_are_enough(tmp_path: Path) -> None:
    code, checks = _doctor(*_TWO, directory=tmp_path)
    assert checks["capabilities"]["detail"] == "CAP_BPF, CAP_PERFMON"
    assert code == 0, checks
    for name in ("programs", "self-check", "open connections"):
        assert checks[name]["state"] == "ok", checks[name]


def test_without_them_the_doctor_says_what_to_do(tmp_path: Path) -> None:
    code, checks = _doctor(*_NONE, directory=tmp_path)
    assert code == 3
    assert checks["capabilities"]["state"] == "fail"
    assert "CAP_BPF" in checks["capabilities"]["remedy"]


def test_run_without_them_fails_with_one_message(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "tailrace", "run", "--state-dir")
    run = _run(*_NONE, *command, tmp_path / "state")
    assert run.returncode == 1
    assert "CAP_BPF and CAP_PERFMON" in run.stderr
    assert "Traceback" not in run.stderr


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


def test_a_window_that_is_too_short() -> None:
    with pytest.raises(ValueError, match=r"at least 0\.1 s"):
        Observer(0.05)
