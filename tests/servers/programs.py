"""Servers of the distribution, run on loopback until they are no longer needed."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

PATH = "/usr/bin:/usr/local/bin:/usr/sbin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def ready(*words: str, url: str, log: Path, within_s: float = 300) -> Iterator[None]:
    """Run a program of the Prometheus family, once it says at `url` that it is ready."""
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + within_s
        while not _ready(url):
            alive = process.poll() is None and time.monotonic() < deadline
            assert alive, f"{words[0]} did not start: {log.read_text()}"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=10).status_code == 200
    except httpx.TransportError:
        return False
