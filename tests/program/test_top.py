"""`tailrace top`: what is shown, what keys do, and the terminal afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.store import Store
from probes.window import Pair
from tailrace import pairs, state
from tailrace.cli import main
from tailrace.condition import Condition
from tailrace.top import table, terminal
from tailrace.top.view import View
from tests.alerts.examples import commit, finding
from tests.program.windows import Row, window

WEB, CRON, MAIL = Pair("web", "api", 8080), Pair("cron", "db", 5432), Pair("web", "smtp", 25)
ROWS: list[Row] = [
    (WEB, "requests", 200.0, float("nan")),
    (WEB, "request_latency", 0.002, 200.0),
    (WEB, "connect_errors", 0.0, 20.0),
    (CRON, "requests", 3.0, float("nan")),
    (CRON, "request_latency", 0.9, 3.0),
    (CRON, "retransmits", 0.02, 100.0),
    (MAIL, "connections", 0.5, float("nan")),
    (MAIL, "connect_errors", 0.25, 4.0),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the state directory of a daemon that sees three pairs, one of them in an incident."""
    seen = pairs.PairTable()
    seen.add(window(ROWS))
    now = time.time()
    # as if it had been written a little later, so that no wait of a test makes it old
    pairs.publish(tmp_path / state.PAIRS, seen, now=now + 600, window_s=1.0,
                  condition=Condition())  # fmt: skip
    with Store.open(tmp_path) as store:
        store.register_receivers(["team"])
        slow = finding(pair=WEB, onset=now - 60)
        over = dataclasses.replace(finding(pair=CRON, onset=now - 600), state="resolved",
                                   ended=now - 300)  # fmt: skip
        commit(store, [slow, over], now=now)
    return tmp_path


def servers(text: str) -> list[str]:
    return re.findall(r"\b(api:8080|db:5432|smtp:25)\b", text)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["api:8080", "db:5432", "smtp:25"]),
        (["--sort", "errors"], ["smtp:25", "api:8080", "db:5432"]),
        (["--sort", "latency"], ["db:5432", "api:8080", "smtp:25"]),
        (["--sort", "name"], ["db:5432", "api:8080", "smtp:25"]),
        (["--filter", "WEB "], ["api:8080", "smtp:25"]),
    ],
)
def test_once(
    directory: Path, arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--once", "--state-dir", str(directory), *arguments]) == 0
    out = capsys.readouterr().out
    heading, incident, _, *rows = out.splitlines()
    assert servers("\n".join(rows)) == expected
    assert "\x1b" not in out
    assert ("2 of 3 pairs with 'WEB '" if "--filter" in arguments else "3 pairs by") in heading
    assert incident.startswith("warning")
    assert "request latency up 9.7x: web -> api:8080" in incident
    [flagged] = [row for row in rows if "api:8080" in row]
    assert flagged.rstrip().endswith("latency 9.7x")
    assert re.split(r"\s{2,}", flagged)[2:5] == ["200/s", "2.0 ms", "-"]


def test_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--state-dir", str(tmp_path)]) == 1
    assert "no daemon is running\n  remedy: start `tailrace run`" in capsys.readouterr().err


def test_incidents_that_are_not_known_do_not_look_like_none(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "tailrace.db").write_bytes(b"nothing of ours")
    assert main(["top", "--once", "--state-dir", str(directory)]) == 0
    heading = capsys.readouterr().out.splitlines()[0]
    assert "incidents cannot be read" in heading
    assert "no incident" not in heading


def pressed(view: View, *keys: str) -> View:
    for key in keys:
        view = view.pressed(key, page=10, rows=25)
    return view


def test_keys() -> None:
    view = View()
    assert [pressed(view, key).order for key in "relon"] == [
        "requests", "errors", "latency", "odd", "name",
    ]  # fmt: skip
    assert pressed(view, "down", "down", "up").first == 1
    assert pressed(view, "page down", "page down", "page down").first == 15
    assert pressed(view, "page down", "home", "up").first == 0
    typed = pressed(view, "/", "r", "q", "backspace", "é")
    assert (typed.text, typed.typing, typed.order, typed.done) == ("ré", True, "requests", False)
    assert pressed(typed, "enter") == View(text="ré")
    assert pressed(typed, "escape") == pressed(typed, "enter", "escape") == View()
    assert pressed(view, "q").done
    assert pressed(view, "x", "left", "é") == view


def test_what_keys_send() -> None:
    assert terminal.keys_in("a\x1b[A\x1bOB\x1b[5~\r\x7f\x1b") == [
        "a", "up", "down", "page up", "enter", "backspace", "escape",
    ]  # fmt: skip
    assert terminal.keys_in("\x1b[1;5C\x1b[15~q") == ["q"]


def test_a_screen_fits_its_terminal() -> None:
    from rich.console import Console  # noqa: PLC0415 - only here

    rows = [
        {"client": f"client-{n}", "server": "服务" * 30, "port": 80, "transport": "tcp",
         "requests": float(n)}
        for n in range(200)
    ]  # fmt: skip
    content = table.Content(rows=rows, incidents=[], problem="", clock="12:00:00 UTC")
    for width, height in ((80, 24), (40, 10), (200, 60)):
        out = io.StringIO()
        console = Console(file=out, width=width, height=height, force_terminal=True)
        console.print(table.screen(content, View(first=195), height=height))
        lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
        assert len(lines) <= height
        assert "client-0" in lines[-2]
        assert "q quit" in lines[-1] or width < 60


class Terminal:
    """`tailrace top` in a pseudo-terminal."""

    def __init__(self, directory: Path) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, 110))
        self.before = termios.tcgetattr(self.slave)
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tailrace", "top", "--state-dir", str(directory)],
            stdin=self.slave, stdout=self.slave, stderr=self.slave,
            env=os.environ | {"TERM": "xterm-256color", "NO_COLOR": "1"},
        )  # fmt: skip

    def wait_for(self, pattern: str) -> str:
        """Return what was shown up to a text, and forget it; it fails after a minute."""
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, self.shown, re.DOTALL)):
            assert time.monotonic() < deadline, self.shown
            assert select.select([self.master], [], [], 60)[0], self.shown
            with contextlib.suppress(OSError):
                self.shown += os.read(self.master, 65536).decode(errors="replace")
        text, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return text

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ended(self) -> int:
        return self.process.wait(timeout=60)


@pytest.fixture
def running(directory: Path) -> Iterator[Terminal]:
    opened = Terminal(directory)
    yield opened
    if opened.process.poll() is None:
        opened.process.kill()
    opened.process.wait()
    os.close(opened.master)
    os.close(opened.slave)


def test_it_is_driven_by_keys(running: Terminal) -> None:
    assert servers(running.wait_for("by requests.*q quit")) == [
        "api:8080", "api:8080", "db:5432", "smtp:25",
    ]  # fmt: skip
    running.press("e")
    assert servers(running.wait_for("by errors.*q quit"))[1:] == ["smtp:25", "api:8080", "db:5432"]
    running.press("/cron\r")
    assert servers(running.wait_for("1 of 3 pairs with 'cron'.*q quit"))[-1:] == ["db:5432"]
    running.press("q")
    running.wait_for(re.escape("\x1b[?1049l"))
    assert running.ended() == 0
    assert termios.tcgetattr(running.slave) == running.before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_as_it_was(running: Terminal, number: signal.Signals) -> None:
    running.wait_for("q quit")
    assert not termios.tcgetattr(running.slave)[3] & termios.ICANON
    running.process.send_signal(number)
    running.wait_for(re.escape("\x1b[?1049l"))  # the other screen is left
    assert running.ended() == 130
    assert termios.tcgetattr(running.slave) == running.before
    assert "Traceback" not in running.shown
