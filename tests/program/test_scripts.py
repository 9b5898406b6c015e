"""The scripts, as far as they can be tried without installing anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ["scripts/run", "scripts/tailrace", "scripts/test", "scripts/check", "scripts/bench",
           "scripts/kernels", ".ci/run"]  # fmt: skip


@pytest.mark.parametrize("name", [*SCRIPTS, "scripts/lib.sh"])
def test_syntax(name: str) -> None:
    ended = subprocess.run(["bash", "-n", ROOT / name], check=False, capture_output=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_they_run_and_are_strict(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111
    assert "set -euo pipefail" in (ROOT / name).read_text()


def test_dependencies_are_those_of_the_project() -> None:
    def asked(group: str) -> set[str]:
        script = str(ROOT / "scripts" / "dependencies.py")
        lines = subprocess.check_output([sys.executable, script, group], text=True).splitlines()
        return {line.partition(">")[0] for line in lines}

    assert {"click", "numpy", "pyarrow"} <= asked("run")
    assert asked("test") - asked("run") >= {"pytest", "ruff", "mypy", "hypothesis"}
    assert asked("kernels") - asked("test") == {"virtme-ng"}


def test_bench_without_a_name_lists_them() -> None:
    ended = subprocess.run(
        [ROOT / "scripts" / "bench"], check=False, capture_output=True, text=True, cwd="/"
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("bench: usage: scripts/bench NAME")
