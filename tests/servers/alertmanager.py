"""Debian's Alertmanager itself, on loopback, without gossip; it tells a server of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.servers.base import Answer, LocalServer, Request
from tests.servers.programs import PATH, free_port, ready

PROGRAM = shutil.which("prometheus-alertmanager", path=PATH)

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


@contextmanager
def running(directory: Path, hook_url: str) -> Iterator[Alertmanager]:
    """Run one; its files are in `directory`."""
    assert PROGRAM is not None, "install prometheus-alertmanager"
    (directory / "config.yml").write_text(CONFIG.format(url=hook_url))
    url = f"http://127.0.0.1:{free_port()}"
    words = (
        PROGRAM,
        f"--config.file={directory / 'config.yml'}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    )
    with ready(*words, url=url, log=directory / "log"):
        yield Alertmanager(url)
