"""`tailrace run` as a process of its own, with a receiver of its alerts."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.webhook import SECRET, WebhookServer
from tests.support.traffic import wait_for

ROOT = Path(__file__).parents[2]


def tailrace(*words: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tailrace", *map(str, words)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
        **kwargs,
    )


EVERYTHING = '\n[[alerts.routes]]\nseverity = "info"\nreceivers = ["hook"]\n'
"""A route that tells `webhook_receiver` of what is no warning, too."""


def configure(directory: Path, *receivers: str, extra: str = "") -> Path:
    """Write a configuration with these receivers (TOML tables) and return its path."""
    (directory / "secret").write_text(SECRET)
    path = directory / "tailrace.toml"
    path.write_text(extra + "".join(f"\n[[alerts.receivers]]\n{text}\n" for text in receivers))
    return path


def webhook_receiver(server: WebhookServer) -> str:
    """Return the receiver's table."""
    return f'name = "hook"\ntype = "webhook"\nurl = "{server.url}"\nsecret_file = "secret"'


def epoch(text: str) -> float:
    """Return an RFC 3339 time in epoch seconds."""
    return dt.datetime.fromisoformat(text).timestamp()


class Daemon:
    """A running `tailrace run`."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        self.started = time.time()

    def said(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        """Kill it, as kill -9 does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def daemon(directory: Path, *words: object) -> Iterator[Daemon]:
    """Run the daemon with `directory`/tailrace.toml and `directory`/state; stop it by SIGTERM."""
    log = directory / f"daemon-{time.monotonic_ns()}.log"
    command = ["run", "--config", directory / "tailrace.toml", "--state-dir", directory / "state"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tailrace", *map(str, (*command, *words))],
            cwd=ROOT,
            stderr=out,
            stdout=out,
            text=True,
        )
    try:
        # the current pairs appear with the first window
        pairs = directory / "state" / "pairs.json"
        began = time.time()
        wait_for(
            lambda: (
                process.poll() is not None or (pairs.exists() and pairs.stat().st_mtime >= began)
            ),
            within_s=30,
            what="the first window",
        )
        assert process.poll() is None, log.read_text()
        yield Daemon(process, log)
    finally:
        process.terminate()
        code = process.wait(timeout=30)
    assert code in (0, -9), log.read_text()
