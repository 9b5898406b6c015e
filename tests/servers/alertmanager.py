"""Debian's Alertmanager itself, on loopback, without gossip; it tells a server of ours."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.servers.base import Answer, LocalServer, Request

PROGRAM = shutil.which("prometheus-alertmanager", path="/usr/bin:/usr/local/bin:/usr/sbin")

CONFIG = """\
route:
  receiver: hook
  group_by: [alertname, service]
  group_wait: 100ms
  group_interval: 500ms
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs:
      - url: "{url}"
        send_resolved: true
"""


class HookServer(LocalServer):
    """What Alertmanager tells, body by body."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[dict[str, Any]] = []

    def answer(self, request: Request) -> Answer:
        self.bodies.append(json.loads(request.body))
        return Answer()


class Alertmanager:
    """A running Alertmanager."""

    def __init__(self, url: str) -> None:
        self.url = url

    def alerts(self) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v2/alerts").raise_for_status().json()
        assert isinstance(answer, list)
        return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(directory: Path, hook_url: str) -> Iterator[Alertmanager]:
    """Run one; its files are in `directory`."""
    assert PROGRAM is not None, "install prometheus-alertmanager"
    (directory / "config.yml").write_text(CONFIG.format(url=hook_url))
    url = f"http://127.0.0.1:{free_port()}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROGRAM,
                f"--config.file={directory / 'config.yml'}",
                f"--storage.path={directory / 'data'}",
                f"--web.listen-address={url.removeprefix('http://')}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(process, url, directory / "log")
        yield Alertmanager(url)
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"Alertmanager did not start: {log.read_text()}")
