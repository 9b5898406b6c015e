"""What the daemon says on a terminal and in logs."""

from __future__ import annotations

import dataclasses
import io

import pytest
import structlog

from detector.finding import Finding
from tailrace.condition import Condition
from tailrace.status import Logs, Status, Terminal, finding_line, status_line, voice
from tests.alerts.examples import ended, finding, incident
from tests.program.windows import WEB_API


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def status(uptime_s: float) -> Status:
    return Status(uptime_s=uptime_s, windows=int(uptime_s), pairs=1, learning=0, judged=7, firing=0,
                  lost=0, pending=0)  # fmt: skip


def test_the_voice_fits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(voice(io.StringIO()), Logs)
    assert isinstance(voice(Tty()), Terminal)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(voice(Tty()), Logs)


def test_logs_have_one_line_per_event_and_one_status_per_minute() -> None:
    stream = io.StringIO()
    with Logs(stream) as logs:
        logs.note("hello, world")
        logs.warning("it is full")
        for second in range(1, 130):
            logs.status(status(second))
        structlog.get_logger("elsewhere").warning("not delivered", receiver="a b")
    lines = stream.getvalue().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        'level=info event=note text="hello, world"',
        'level=warning event=warning text="it is full"',
        "level=info event=status uptime=1s windows=1 pairs=1 judged=7 learning=0 firing=0 lost=0"
        " pending=0",
        "level=info event=status uptime=1m01s windows=61 pairs=1 judged=7 learning=0 firing=0"
        " lost=0 pending=0",
        "level=info event=status uptime=2m01s windows=121 pairs=1 judged=7 learning=0 firing=0"
        " lost=0 pending=0",
        'level=warning event="not delivered" receiver="a b"',
    ]
    assert all(line.startswith("timestamp=20") for line in lines)


def test_logs_have_what_it_costs_and_what_was_lost() -> None:
    stream = io.StringIO()
    condition = Condition(level=1, user=0.0025, kernel=0.0006, lost={"latencies": 3})
    with Logs(stream) as logs:
        logs.status(dataclasses.replace(status(5), lost=3, condition=condition))
    assert (
        stream.getvalue()
        .rstrip()
        .endswith('lost=3 pending=0 cost="0.31 %" cost_kernel="0.06 %" reduced=1 lost_latencies=3')
    )


def test_the_line_has_what_is_exceptional_only() -> None:
    line = status_line(dataclasses.replace(status(5), condition=Condition(user=0.0025)))
    assert line.endswith("0 firing")
    assert status_line(dataclasses.replace(status(5), firing=1, changes=1)).endswith("1 firing")
    assert status_line(dataclasses.replace(status(5), changes=3)).endswith("0 firing · 3 changes")
    condition = Condition(level=1, user=0.0025, kernel=0.0006, lost={"latencies": 3})
    line = status_line(dataclasses.replace(status(5), lost=3, condition=condition))
    assert line.endswith("3 samples lost (3 latencies) · measuring less, at 0.31 %")


def test_a_terminal_has_one_line_that_is_current() -> None:
    stream = Tty()
    with Terminal(stream) as terminal:
        terminal.note("[bold]no markup")
        terminal.status(status(5))
        structlog.get_logger("elsewhere").info("delivered", receiver="a")
        structlog.get_logger("elsewhere").warning("not delivered", receiver="b")
        terminal.warning("it is full")
    shown = stream.getvalue()
    assert "[bold]no markup" in shown
    assert "up 5s · window 5 · 1 pairs · 7 streams judged · 0 firing" in shown
    assert "receiver=a" not in shown
    assert "not delivered: receiver=b" in shown
    assert "warning: it is full" in shown


def test_a_terminal_has_the_root_of_an_incident_and_how_long_it_was() -> None:
    stream = Tty()
    fires, over = incident(finding()), incident(ended(finding(), after_s=90.0))
    with Terminal(stream) as terminal:
        terminal.incident(fires)
        terminal.incident(over)
    shown = " ".join(stream.getvalue().split())
    assert f"INCIDENT {fires.id[:8]} {fires.severity}: " in shown
    assert f"probably {fires.root.service}" in shown
    assert "over after 90 s" in shown


def test_the_status_line() -> None:
    one = Status(uptime_s=75, windows=75, pairs=3, learning=0, judged=21, firing=1, lost=0,
                 pending=0)  # fmt: skip
    assert status_line(one) == "up 1m15s · window 75 · 3 pairs · 21 streams judged · 1 firing"
    one = Status(uptime_s=5, windows=5, pairs=1, learning=9, judged=0, firing=0, lost=2,
                 pending=4)  # fmt: skip
    assert status_line(one) == (
        "up 5s · window 5 · 1 pairs · 0 streams judged · 9 learning · 0 firing"
        " · 2 samples lost · 4 messages pending"
    )


def test_a_finding_as_a_line() -> None:
    rise = Finding(
        id="0123456789abcdef", pair=WEB_API, signal="requests", direction="up", onset=0.0,
        detected=5.0, before=10.0, after=30.0, ratio=3.0, unit="1/s", significance=9.0, cause="",
        state="firing",
    )  # fmt: skip
    assert finding_line(rise) == (
        "00:00:05  firing    01234567  "
        "requests of web -> api:8080 rose from 10.0 req/s to 30.0 req/s (3.0x)"
    )
    over = dataclasses.replace(rise, state="resolved", ended=65.0)
    assert finding_line(over).startswith("00:01:05  resolved  01234567  ")
    assert finding_line(over).endswith("(3.0x), for 65 s")
