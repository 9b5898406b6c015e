"""The promise as a user meets it: held back, confirmed, calibrated, and the feed of changes."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.budget import Budget
from alerts.feed import Feed
from alerts.store import Store
from detector.calibration import Calibration, Change
from detector.engine import Detector
from detector.finding import Finding, finding_id
from detector.settings import DetectorSettings
from probes.window import Kind, Pair, Window
from tailrace import pairs, state
from tailrace.cli import main
from tailrace.condition import Condition
from tailrace.daemon import Daemon
from tailrace.pairs import PairTable, publish
from tests.alerts.examples import commit
from tests.program.listening import Listener
from tests.program.windows import WEB_API, traffic

pytestmark = pytest.mark.usefixtures("alone")

THEORY = Calibration(Kind.COUNT, 120, 4.5, 0.021, 0, 0.83, "theory", 0.0)
EMPIRICAL = Calibration(Kind.LATENCY, 40, 1.5, 0.4, 3, 1.31, "empirical", 3.2)
UNKNOWN = Calibration(Kind.RATIO, 7, 0.1, 12.0, 1, math.nan, "theory", 0.0)
NONE = Calibration(Kind.GAUGE, 0, 0.0, 0.0, 0, math.nan, "theory", 0.0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


def slow(number: int, onset: float) -> Finding:
    pair = Pair(f"client-{number}", f"server-{number}", 80)
    return Finding(
        id=finding_id(pair, "request_latency", "up", onset),
        pair=pair,
        signal="request_latency",
        direction="up",
        onset=onset,
        detected=onset + 8,
        before=0.002,
        after=0.003,
        ratio=1.5,
        unit="s",
        significance=9.0,
        cause="",
        state="firing",
    )


@pytest.fixture
def held(directory: Path) -> Finding:
    """Return the one finding of six that the budget held back."""
    now = time.time()
    six = [slow(number, now - 60) for number in range(6)]
    with Store.open(directory) as store:
        store.register_receivers(["pager"])
        store.keep_to(Budget(per_week=1.0, text="1/week"))
        commit(store, six, now=now)
    return six[-1]


def test_the_report_says_what_was_held_back_and_why(
    held: Finding, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "no token was left of false_alerts = 1/week"
    assert main(["report", "-o", "jsonl"]) == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert {row["id"]: row["held_back"] for row in rows if "held_back" in row} == {held.id: reason}
    assert len(rows) == 6
    assert f"1 of these were not told, or in a digest at most: {reason}" in captured.err
    assert main(["report"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "held back" in line]
    assert [line.split()[0] for line in lines] == [held.id[:8]]
    assert main(["report", "-o", "csv"]) == 0
    listed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["held_back"] for row in listed if row["id"] == held.id] == [reason]
    assert main(["explain", held.id, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["held_back"] == reason
    assert main(["report", "--client", "client-0"]) == 0
    assert "not told" not in capsys.readouterr().err


def test_confirm_and_dismiss(
    held: Finding, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alert", "confirm", held.id[:12]]) == 0
    assert "confirmed" in capsys.readouterr().err
    with Store.open(directory) as store:
        store.register_receivers(["pager"])
        store.keep_to(Budget(per_week=1.0, text="1/week"))
        [told] = store.commit([], snapshot=None, now=time.time())
        assert told.symptoms[0].id == held.id
        # the daemon holds the directory, and that is no obstacle
        assert main(["alert", "dismiss", told.id, "--state-dir", str(directory)]) == 0
        store.commit([], snapshot=None, now=time.time())
    said = capsys.readouterr().err
    assert "false alert: request latency up 1.5x: client-5 -> server-5:80" in said
    assert main(["explain", held.id]) == 0
    assert "you said   it was a false alert" in capsys.readouterr().out
    assert main(["alert", "confirm", "zzz"]) == 1
    assert "no incident has the id 'zzz'" in capsys.readouterr().err


def test_doctor_says_how_the_budget_was_kept(
    held: Finding, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tailrace.doctor._probes", lambda _hooks: iter(()))
    main(["alert", "dismiss", held.id])
    main(["doctor", "-o", "json"])
    [check] = [
        check
        for check in json.loads(capsys.readouterr().out)["checks"]
        if check["name"] == "alert budget"
    ]
    assert check["state"] == "warn"
    assert check["detail"] == (
        "1/week: 0.0 of 5 tokens left; in the last week 5 incidents were told "
        "(0 hard failures, 0 proven real), 1 held back"
    )
    assert "tailrace alert confirm ID" in check["remedy"]


def test_calibration_in_words_in_doctor_and_report(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tailrace.doctor._probes", lambda _hooks: iter(()))
    Store.open(directory).close()
    told = [THEORY, EMPIRICAL, UNKNOWN, NONE]
    publish(
        directory / state.PAIRS,
        PairTable(),
        now=time.time(),
        window_s=1.0,
        condition=Condition(),
        calibration=told,
    )
    found = pairs.published_by(directory / state.PAIRS, now=time.time())
    assert found is not None
    assert [each._replace(e_value=0.0) for each in found.calibration] == [
        each._replace(e_value=0.0) for each in told
    ]
    main(["doctor", "-o", "json"])
    checks = [
        (check["state"], check["detail"])
        for check in json.loads(capsys.readouterr().out)["checks"]
        if check["name"] == "calibration"
    ]
    expected = [
        (
            "ok",
            "counts (requests, connections) honour the theory here: thresholds are its own; "
            "0 alarms, real ones included, where 0.021 false ones were allowed so far, "
            "mean e-value 0.83 (at most 1 is right); 120 streams, 4.5 stream-weeks",
        ),
        (
            "warn",
            "latencies do not honour the theory here: thresholds are 3.2 nats higher; "
            "3 alarms, real ones included, where 0.4 false ones were allowed so far, "
            "mean e-value 1.31 (at most 1 is right); 40 streams, 1.5 stream-weeks",
        ),
        (
            "ok",
            "shares (errors, resets, retransmits) run on the theory's thresholds; whether they "
            "honour it here is not known yet; 1 alarms, real ones included, where 12 false ones "
            "were allowed so far; 7 streams, 0.1 stream-weeks",
        ),
        ("ok", "other signals: none are judged yet"),
    ]
    assert checks == expected
    assert main(["report"]) == 0
    assert capsys.readouterr().err.splitlines()[1:] == [text for _, text in expected]


def test_the_feed_in_every_format(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    feed = Feed()
    weak = Change(WEB_API, "requests", "up", now - 100, 14.25, 10.0, 13.0)
    over = Change(WEB_API, "rtt", "down", now - 900, 30.0, 0.002, math.nan)
    feed.update([over], end=now - 600)
    feed.update([weak], end=now)
    with Store.open(directory) as store:
        store.commit([], snapshot=None, now=now, changes=feed.unstored())
    assert main(["report", "--changes", "-o", "jsonl"]) == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert [(row["schema"], row["signal"]) for row in rows] == [
        ("tailrace.change/1", "rtt"),
        ("tailrace.change/1", "requests"),
    ]
    assert (rows[0]["after"], rows[0]["ended"]) == (None, rows[0]["seen"])
    assert (rows[1]["nats"], rows[1]["unit"], rows[1]["ended"]) == (14.25, "1/s", None)
    assert main(["report", "--changes", "-o", "json", "--signal", "rtt"]) == 0
    assert json.loads(capsys.readouterr().out) == rows[:1]
    assert main(["report", "--changes", "-o", "csv"]) == 0
    listed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(listed[0]) == list(rows[0])
    assert main(["report", "--changes"]) == 0
    table = capsys.readouterr().out
    spaced = " ".join(table.split())
    assert "requests up: 10.0 req/s -> 13.0 req/s 14.2 still does" in spaced
    assert "rtt" not in table
    assert "round-trip time down: 2.0 ms -> unknown" in table
    assert main(["report"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["report", "--changes", "--client", "nobody"]) == 0
    assert "nothing changed in that time" in capsys.readouterr().err


def incident() -> Iterator[Window]:
    return traffic(240, slow_from=120, slow_until=180)


def test_the_daemon_keeps_the_feed_and_publishes_its_calibration(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as often as there are windows: here they come in no time
    monkeypatch.setattr("tailrace.daemon.PUBLISH_EVERY_S", 0.0)
    monkeypatch.setattr("tailrace.daemon.PUBLISH_SHARE", 0.0)
    voice, file = Listener(), directory / state.PAIRS
    with Store.open(directory) as store:
        daemon = Daemon(
            detector=Detector(DetectorSettings()),
            store=store,
            voice=voice,
            pairs_file=file,
            clock=lambda: 1_760_000_150.0,  # the windows' own time: the feed keeps a day
        )
        for each in itertools.islice(incident(), 150):
            daemon.step(each)
        told = json.loads(file.read_text())["calibration"]
        assert {each["kind"] for each in told} >= {"count", "latency"}
        assert all(each["streams"] for each in told)
    with Store.open(directory, read_only=True) as store:
        slow = [row for row in store.changes() if row.signal == "request_latency"]
    [finding] = [f for f in voice.findings if f.signal == "request_latency"]
    [row] = slow
    assert (row.direction, row.ended) == ("up", None)
    assert abs(row.onset - finding.onset) <= 3.0
    assert row.before == pytest.approx(0.002, rel=0.2)


def test_the_daemon_gives_a_token_back_for_what_lasts(directory: Path) -> None:
    """The latency is ten times as high for a minute: nobody needs to say that this was real."""
    voice = Listener()
    with Store.open(directory) as store:
        store.register_receivers(["pager"])
        store.keep_to(Budget(per_week=1.0, text="1/week"))
        Daemon(detector=Detector(DetectorSettings()), store=store, voice=voice).run(incident())
        found = {f.id for f in voice.findings}
        assert len(found) == 1
        spent = store.spent(now=time.time())
    assert spent is not None
    assert (spent.told, spent.proven, spent.tokens) == (1, 1, 5.0)
