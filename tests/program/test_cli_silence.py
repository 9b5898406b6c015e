"""`tailrace silence` and `tailrace alert route`, as people and programs meet them."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alerts import silences
from alerts.database import Database
from tailrace import state
from tailrace.cli import main
from tests.alerts.control import silence

ROOT = Path(__file__).parents[2]
CONFIG = """\
[[alerts.receivers]]
name = "on-call"
type = "webhook"
url = "http://127.0.0.1/"
[[alerts.receivers]]
name = "team"
type = "webhook"
url = "http://127.0.0.1/"
[[alerts.routes]]
match = ["severity=critical", "server=~pay.*"]
receivers = ["on-call"]
continue = true
wait = "30s"
repeat_every = "4h"
[[alerts.mute]]
name = "always"
match = ["service=db"]
"""

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    Database.open(directory).close()
    return directory


@pytest.fixture
def configured(alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    monkeypatch.setenv("TAILRACE_CONFIG", str(path))
    return path


def test_the_form_that_messages_print(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    printed = 'tailrace silence add service=redis --for 2h --comment "..."'
    before = time.time()
    assert main(shlex.split(printed)[1:]) == 0
    captured = capsys.readouterr()
    [one] = silences.stored(state_dir)
    assert captured.out == f"{one.id}\n"
    assert captured.err.startswith("silenced until 20")
    assert f"`tailrace silence end {one.id}` ends it" in captured.err
    assert (one.author, one.comment) == ("ann", "...")
    assert one.ends - one.starts == pytest.approx(7200.0)
    assert before <= one.created <= time.time()
    assert list(map(str, one.matchers)) == ["service=redis"]


def test_while_the_daemon_has_the_file(state_dir: Path) -> None:
    daemon = Database.open(state_dir)
    try:
        with daemon.transaction() as db:
            assert silences.load(db) == []
        result = subprocess.run(
            [sys.executable, "-m", "tailrace", "silence", "add", "client=~cron.*", "root!=db",
             "--for", "90m", "--comment", "backfill", "--author", "bob",
             "--state-dir", str(state_dir)],
            capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        with daemon.transaction() as db:
            [one] = silences.load(db, after=time.time())
        assert (one.id, one.author) == (result.stdout.strip(), "bob")
        assert one.state(time.time()) == "active"
    finally:
        daemon.close()


@pytest.mark.parametrize("start", ["1h", "time"])
def test_from(start: str, state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moment = time.time() + 3600
    if start == "time":
        start = dt.datetime.fromtimestamp(moment, dt.UTC).isoformat()
    assert (
        main(["silence", "add", "service=a", "--for", "5m", "--from", start, "--comment", "c"]) == 0
    )
    [one] = silences.stored(state_dir)
    assert one.starts == pytest.approx(moment, abs=5)
    assert one.ends - one.starts == pytest.approx(300)
    assert one.state(time.time()) == "pending"
    assert capsys.readouterr().err.startswith("silenced from 20")


def test_list_in_every_format(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    old = silence("service=old", start=now - 7200, now=now - 7200)
    new = silence("service=new", 'root=" x"', start=now - 60, now=now - 60, comment="a, b")
    for each in (old, new):
        silences.add(state_dir, each)
    assert main(["silence", "list", "-o", "json"]) == 0
    [public] = json.loads(capsys.readouterr().out)
    assert public == new.to_json(now)
    assert (public["schema"], public["state"]) == ("tailrace.silence/1", "active")
    assert public["matchers"] == ["service=new", 'root=" x"']
    assert main(["silence", "list", "--expired", "-o", "jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["id"], each["state"]) for each in lines] == [
        (old.id, "expired"),
        (new.id, "active"),
    ]
    assert main(["silence", "list", "-o", "csv"]) == 0
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["id"], row["comment"]) == (new.id, "a, b")
    assert main(["silence", "list"]) == 0
    table = capsys.readouterr().out
    assert new.id[:8] in table
    assert old.id[:8] not in table
    assert "active" in table


def test_list_without_any(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["silence", "list"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "nothing is silenced\n")
    assert main(["silence", "list", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_end(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["silence", "add", "service=a", "--for", "1d", "--comment", "c"]) == 0
    id_ = capsys.readouterr().out.strip()
    assert main(["silence", "end", id_[:7]]) == 0
    assert capsys.readouterr().err == "ended: service=a (c)\n"
    assert [each.state(time.time()) for each in silences.stored(state_dir)] == ["expired"]
    assert main(["silence", "end", id_]) == 1
    assert "is over already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sevice=a"], "no label is called 'sevice', did you mean 'service'?"),
        (["service=~(a"], 'pattern \'(a\', character 1: "(" without ")"'),
        (["service=~.*"], "it would silence everything"),
        (["service=a", "--for", "31d"], "a silence lasts at most 30 d"),
        (["service=a", "--for", "soon"], "is not a duration"),
        (["service=a", "--from", "yesterday"], "is not a moment: write in how long"),
        (["service=a", "--from", "2020-01-01T00:00:00Z"], "it would be over already"),
        (["service=a", "--comment", ""], "the comment is empty"),
        ([], "Missing argument"),
    ],
)
def test_usage_errors(
    arguments: list[str], said: str, state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["silence", "add", "--for", "2h", "--comment", "c", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert silences.stored(state_dir) == []


def test_a_comment_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["silence", "add", "service=a", "--for", "2h"]) == 2
    assert "Missing option '--comment'" in capsys.readouterr().err


def test_without_a_daemon_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["add", "service=a", "--for", "2h", "--comment", "c"],
        ["list"],
        ["end", "3f"],
    ):
        assert main(["silence", *arguments]) == 1
        assert "has the daemon run with this state directory" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


@pytest.mark.usefixtures("configured")
def test_route_says_who_when_and_by_which_route(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alert", "route", "client=shop", "server=payments", "-o", "json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {
        "schema": "tailrace.route/1",
        "labels": {
            "service": ["payments"], "root": ["payments"], "severity": ["critical"],
            "affected": ["shop"], "client": "shop", "server": "payments",
        },
        "destinations": [
            {"receiver": "on-call", "route": "route 1", "wait_s": 30.0, "update_every_s": 300.0,
             "repeat_every_s": 14400.0, "resend_s": None},
            {"receiver": "team", "route": "default", "wait_s": 0.0, "update_every_s": 300.0,
             "repeat_every_s": None, "resend_s": None},
        ],
        "suppressed": [],
    }  # fmt: skip
    assert main(["alert", "route", "client=shop", "server=payments"]) == 0
    first, second = (
        line.split("  ") for line in capsys.readouterr().out.splitlines() if "every" in line
    )
    assert [cell.strip() for cell in first if cell] == [
        "on-call", "route 1", "after 30 s", "at most every 5 min", "every 4 h",
    ]  # fmt: skip
    assert [cell.strip() for cell in second if cell][2] == "at once"
    assert main(["alert", "route", "server=payments", "severity=warning", "-o", "json"]) == 0
    [team] = json.loads(capsys.readouterr().out)["destinations"]
    assert team["receiver"] == "team"


@pytest.mark.usefixtures("configured")
def test_route_says_what_keeps_it_quiet(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["silence", "add", "client=shop", "--for", "2h", "--comment", "deploy",
                 "--author", "ann"]) == 0  # fmt: skip
    capsys.readouterr()
    assert main(["alert", "route", "client=shop", "server=db", "-o", "json"]) == 0
    silenced, muted = json.loads(capsys.readouterr().out)["suppressed"]
    assert silenced.startswith("silenced by ann until ")
    assert silenced.endswith(": deploy")
    assert muted == "muted: always"
    assert main(["alert", "route", "client=external", "side=client"]) == 0
    assert "not told at the moment: observe only" in capsys.readouterr().err
    assert main(["alert", "route", "severity=info"]) == 0
    assert "nobody is told: no route takes it" in capsys.readouterr().err


def test_route_without_receivers_or_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alert", "route", "service=a"]) == 0
    said = capsys.readouterr().err
    assert "silences are not known: there is no " in said
    assert "nobody is told: no receiver is configured" in said


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("sevice=a", "no label is called 'sevice', did you mean 'service'?"),
        ("service=~a", "write service=VALUE"),
        ("severity=high", "no severity is called 'high'"),
        ("redis", "'redis' is no matcher"),
    ],
)
def test_route_mistakes(label: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alert", "route", label]) == 2
    assert said in capsys.readouterr().err


def test_route_takes_one_value_of_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alert", "route", "client=a", "client=b"]) == 2
    assert "client is there twice" in capsys.readouterr().err
    assert main(["alert", "route", "service=a", "service=b", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"]["service"] == ["a", "b"]


def test_state_dir_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    Database.open(other).close()
    monkeypatch.setenv(state.VARIABLE, str(other))
    assert main(["silence", "add", "service=a", "--for", "2h", "--comment", "c"]) == 0
    assert len(silences.stored(other)) == 1
