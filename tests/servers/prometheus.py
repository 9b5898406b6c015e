"""Debian's Prometheus itself, on loopback: it scrapes once a second and evaluates our rules."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.servers.programs import PATH, free_port, ready

PROGRAM = shutil.which("prometheus", path=PATH)
PROMTOOL = shutil.which("promtool", path=PATH)

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: ["{rules}"]
scrape_configs:
  - job_name: tailrace
    static_configs:
      - targets: ["{target}"]
"""


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, query: str) -> list[dict[str, Any]]:
        """Return the vector that a query gives now."""
        answer = self._get("query", query=query)
        found = answer["result"]
        assert isinstance(found, list)
        return found

    def value(self, query: str) -> float | None:
        """Return the one number that a query gives; None for no data."""
        found = self.query(query)
        return float(found[0]["value"][1]) if found else None

    def label_values(self, label: str, selector: str) -> list[str]:
        """Return what Grafana's `label_values(selector, label)` gives."""
        found = self._get(f"label/{label}/values", **{"match[]": selector})
        assert isinstance(found, list)
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules as they were evaluated last."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """Return what is scraped, and how that goes."""
        found = self._get("targets")["activeTargets"]
        assert isinstance(found, list)
        return found

    def wait_for(self, condition: Callable[[], Any], *, what: str, within_s: float = 300) -> None:
        """Wait until a condition on it holds."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.targets()}"
            time.sleep(0.2)

    def _get(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]


@contextmanager
def running(directory: Path, *, target: str, rules: Path) -> Iterator[Prometheus]:
    """Run one that scrapes `target`; its files are in `directory`."""
    assert PROGRAM is not None, "install prometheus"
    directory.mkdir(exist_ok=True)
    (directory / "prometheus.yml").write_text(CONFIG.format(target=target, rules=rules))
    url = f"http://127.0.0.1:{free_port()}"
    words = (
        PROGRAM,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
    )
    with ready(*words, url=url, log=directory / "log"):
        yield Prometheus(url)


def promtool(*words: str, stdin: bytes = b"") -> str:
    """Run promtool; return what it says, on either stream."""
    assert PROMTOOL is not None, "install prometheus"
    done = subprocess.run([PROMTOOL, *words], input=stdin, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said
