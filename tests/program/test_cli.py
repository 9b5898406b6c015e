"""The command line, as people and programs meet it: help, options, errors, reports, settings."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from alerts.store import Store
from detector.finding import Finding, finding_id
from probes.errors import ProbeError
from probes.window import Pair
from tailrace import state
from tailrace.cli import main
from tailrace.condition import Condition
from tailrace.pairs import PairTable, publish
from tests.program.windows import WEB_API, traffic

ROOT = Path(__file__).parents[2]
COMMANDS = [
    ["run"], ["report"], ["explain"], ["pairs"], ["top"], ["record"],
    ["replay"], ["simulate"], ["doctor"],
    ["config"], ["config", "init"], ["config", "check"], ["config", "show"],
    ["incidents"], ["alert"], ["alert", "test"], ["alert", "confirm"], ["alert", "dismiss"],
    ["alert", "route"],
    ["silence"], ["silence", "add"], ["silence", "list"], ["silence", "end"],
]  # fmt: skip


pytestmark = pytest.mark.usefixtures("alone")


def shell(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "tailrace", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
        **more,
    )


def a_finding(number: int = 0, *, pair: Pair = WEB_API, signal: str = "requests") -> Finding:
    onset = time.time() - 600 + number
    return Finding(
        id=finding_id(pair, signal, "up", onset), pair=pair, signal=signal, direction="up",
        onset=onset, detected=onset + 5, before=10.0, after=30.0, ratio=3.0, unit="1/s",
        significance=9.0, cause="", state="firing", evidence={"windows": 5.0, "test": "exact"},
    )  # fmt: skip


@pytest.fixture
def stored(tmp_path: Path) -> list[Finding]:
    findings = [a_finding(0), a_finding(1, pair=Pair("cron", "db, main", 5432), signal="resets")]
    with Store.open(tmp_path / "state") as store:
        store.commit(findings, snapshot=None, now=time.time())
    return findings


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"tailrace {' '.join(command)}" in text.split("Example", 1)[1]


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if c not in (["config"], ["alert"], ["silence"])],
    ids=" ".join,
)
def test_every_command_takes_the_options_of_all(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--config", "x", "--state-dir", "y", "--nonsense"]) == 2
    (error,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("Error: "))
    assert "--nonsense" in error


def test_options_before_the_command(
    stored: list[Finding],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(state.VARIABLE, "/nonexistent")
    directory = ["--state-dir", str(tmp_path / "state")]
    assert main([*directory, "report", "-o", "jsonl"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(stored)
    assert main(["--state-dir", "/nonexistent", "report", *directory]) == 0
    (tmp_path / "c.toml").write_text("[probes]\nwindow = 7\n")
    assert main(["--config", str(tmp_path / "c.toml"), "config", "show"]) == 0
    assert 'window = "7s"' in capsys.readouterr().out


def test_help_and_version_are_quick() -> None:
    took = []
    for _ in range(3):
        started = time.monotonic()
        assert shell("--help").returncode == 0
        took.append(time.monotonic() - started)
    assert min(took) < 0.5
    assert shell("--version").stdout == "tailrace, version 0.1.0\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["report", "--since", "yesterday"],
        ["report", "-o", "xml"],
        ["run", "--window", "10ms"],
        ["run", "--duration", "soon"],
        ["replay"],
        ["replay", "/nonexistent.csv"],
        ["run", "--config", "/nonexistent.toml"],
        ["alert", "test", "nobody"],
        ["explain"],
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_report_in_every_format(stored: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    public = [finding.to_json() for finding in stored]
    assert main(["report", "--since", "1h", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == public
    assert main(["report", "-o", "jsonl"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == public
    assert main(["report", "-o", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["server"] for row in rows] == ["api", "db, main"]
    assert list(rows[0]) == list(public[0])
    assert main(["report"]) == 0
    table = capsys.readouterr().out
    assert stored[0].id[:8] in table
    assert "requests up: 10.0 req/s -> 30.0 req/s" in table
    assert "\x1b" not in table
    assert main(["report", "--server", "db, main", "-o", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["signal"] == "resets"


def test_a_report_with_nothing_in_it_says_what_is_watched(
    stored: list[Finding], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--since", "1m", "--client", "nobody"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "nothing changed in that time; no daemon is running: start `tailrace run`\n"
    )
    table = PairTable()
    table.add(next(traffic(1)))
    publish(
        tmp_path / "state" / state.PAIRS,
        table,
        now=time.time(),
        window_s=1.0,
        condition=Condition(),
    )
    assert main(["report", "--client", "nobody", "-o", "json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == []
    assert "1 service pairs are being watched" in captured.err


def test_without_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "has the daemon run with this state directory?" in captured.err


def test_explain(stored: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", stored[0].id, "-o", "json"]) == 0
    public = json.loads(capsys.readouterr().out)
    assert public.pop("evidence") == {"windows": 5.0, "test": "exact"}
    assert public == stored[0].to_json()
    assert main(["explain", "zzz"]) == 1
    assert "no finding with id 'zzz'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run"], ["record", "x.csv"], ["pairs", "--live"], ["pairs"]])
def test_a_host_that_cannot_be_watched(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*, hooks: str) -> None:
        raise ProbeError("no CAP_BPF: run as root")

    monkeypatch.setattr("probes.programs.Programs", refuse)
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    assert capsys.readouterr().err.endswith("error: no CAP_BPF: run as root\n")


def test_config_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tailrace.toml"
    assert main(["config", "init", str(file)]) == 0
    assert main(["config", "init", str(file)]) == 2
    assert "it is there already" in capsys.readouterr().err
    assert main(["config", "init", "-"]) == 0
    assert capsys.readouterr().out == file.read_text()
    assert main(["config", "check", str(file)]) == 0
    file.write_text('[[alerts.receivers]]\nname = "a"\ntype = "webhook"\nurl = "http://h/s3cret"\n')
    assert main(["config", "show", "--config", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "s3cret" not in shown
    assert '[probes]\nwindow = "1s"\n' in shown
    assert tomllib.loads(shown)["detector"]["min_change"]["count"] == "20%"
    assert main(["config", "show", "--config", str(file), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["detector"]["false_alerts"] == "1/week"
    file.write_text("[probs]\n")
    for command in (["check"], ["show"]):
        assert main(["config", *command, "--config", str(file)]) == 2
        assert "did you mean `probes`?" in capsys.readouterr().err


def test_alert_test_fails_with_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tailrace.toml"
    file.write_text(
        '[[alerts.receivers]]\nname = "a"\ntype = "webhook"\nurl = "http://127.0.0.1:9/s3cret"\n'
    )
    assert main(["alert", "test", "a", "--config", str(file)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "s3cret" not in said
    assert main(["alert", "test", "b", "--config", str(file)]) == 2
    assert "no receiver is named `b`" in capsys.readouterr().err


def test_the_state_directory(tmp_path: Path) -> None:
    assert state.directory(tmp_path, {}) == tmp_path
    assert state.directory(None, {state.VARIABLE: "/x"}) == Path("/x")
    default = state.directory(None, {})
    assert default == state.ROOT_PATH if os.geteuid() == 0 else default.name == "tailrace"
    made = state.prepared(tmp_path / "a" / "b")
    assert made.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="cannot create the state directory"):
        state.prepared(tmp_path / "file" / "b")
