"""`tailrace run` with an export, recorded traffic in the kernel's place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from probes.window import Window
from tailrace.cli import main
from tests.program.test_run_injected import play
from tests.program.windows import traffic
from tests.servers.otlp import OtlpServer
from tests.servers.programs import free_port

__all__ = ["play"]
ROOT = Path(__file__).parents[2]


def test_a_daemon_that_exports(
    tmp_path: Path,
    play: Callable[[Iterable[Window]], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tailrace.export.exporter.STOP_S", 120.0)  # a busy machine is slow
    port, directory = free_port(), tmp_path / "state"
    config = tmp_path / "tailrace.toml"
    scraped: list[str] = []
    checks: list[dict[str, str]] = []

    def windows() -> Iterator[Window]:
        yield from traffic(70)
        scraped.append(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        checks.append(json.loads((directory / "export.json").read_text()))

    play(windows())
    with OtlpServer() as otlp:
        config.write_text(
            f'[metrics]\nlisten = "127.0.0.1:{port}"\nnames = "opentelemetry"\n'
            f'[otlp]\nendpoint = "{otlp.base_url}"\ninterval = "1h"\n'
        )
        options = ["--config", str(config), "--state-dir", str(directory)]
        assert main(["run", *options]) == 0
        assert otlp.wrong == []
        assert "tcp.new_sockets" in otlp.points()
    said = capsys.readouterr().err
    assert f"metrics are at http://127.0.0.1:{port}/metrics" in said
    assert "OTLP" not in said
    assert "tailrace_windows_total 70.0\n" in scraped[0]
    assert 'tailrace_overhead_ratio{part="daemon"} 0.001\n' in scraped[0]
    assert 'tcp_new_sockets_total{source_workload_name="web"' in scraped[0]
    assert checks[0]["metrics"] == f"http://127.0.0.1:{port}/metrics"
    assert not (directory / "export.json").exists()


WITHOUT = """
import sys
sys.modules["opentelemetry.proto"] = None
from tailrace.errors import TailraceError
from tailrace.export.exporter import Exporter
from tailrace.export.settings import ExportSettings, OtlpSettings
settings = ExportSettings(otlp=OtlpSettings(endpoint="http://127.0.0.1:4318"))
try:
    Exporter(settings, store=None, warn=print, note=print)
except TailraceError as error:
    print(error)
"""


def test_what_is_not_installed_is_said() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("[otlp]: OTLP needs a package that is not installed")
    assert "pip install 'tailrace[otlp]'" in done.stdout
