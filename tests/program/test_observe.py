"""Loading the probes while something else is done, on this host's real kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from probes.errors import ProbeError
from probes.programs import Programs
from tailrace.observe import Loading
from tests.support.loading import open_files

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).parents[2]


def _loaded() -> None:
    """Wait until nothing is being loaded."""
    for thread in threading.enumerate():
        if thread.name == "loading":
            thread.join(120)
            assert not thread.is_alive()


def test_what_is_loaded_is_watched_with() -> None:
    before = len(open_files())
    with (
        Loading("auto") as loading,
        loading.observer(0.2, overhead_budget=0.5) as observer,
    ):
        window = next(observer.windows())
        assert window.nominal == 0.2
        condition = observer.cost
        assert condition.budget == 0.5
        assert "events are seen by" in observer.hooks_in_use
    assert len(open_files()) == before


@pytest.mark.parametrize("early", [True, False])
def test_what_is_not_taken_is_let_go_of(monkeypatch: pytest.MonkeyPatch, *, early: bool) -> None:
    closed: list[Programs] = []
    close = Programs.close
    monkeypatch.setattr(Programs, "close", lambda self: (closed.append(self), close(self)))
    before = len(open_files())
    with Loading("auto"):
        if not early:
            _loaded()
            assert len(open_files()) > before
    _loaded()
    assert len(closed) == 1
    assert len(open_files()) == before


def test_a_refusal_is_raised_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.programs.effective_capabilities", lambda: 0)
    with Loading("auto") as loading, pytest.raises(ProbeError, match="CAP_BPF and CAP_PERFMON"):
        loading.observer(1.0, overhead_budget=None)


def test_ctrl_c_while_the_programs_are_compiled(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tailrace", "run", "--state-dir", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # the programs are compiled for long after it
        assert "no baselines yet" in first
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert "Traceback" not in err
    assert process.returncode == 130
    assert time.monotonic() - began < 20
