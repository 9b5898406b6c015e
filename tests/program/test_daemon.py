"""The daemon's loop, fed with windows made by hand, with the real detector and store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from alerts.errors import StoreError
from alerts.policy import Route, Rules
from alerts.store import Store
from detector.engine import Detector
from detector.finding import Finding
from detector.settings import DetectorSettings
from tailrace import pairs, recording
from tailrace.cli import main
from tailrace.condition import Condition
from tailrace.daemon import Daemon
from tests.program.listening import Bell, Listener, incident, lines
from tests.program.windows import traffic, window


def test_what_is_due_later_is_told_then(tmp_path: Path) -> None:
    """Though nothing of the incident changes at that time."""
    now, bell = [0.0], Bell()
    late = Route(name="late", receivers=("pager",), severity="info", wait_s=30.0)
    with Store.open(tmp_path) as store:
        store.register_receivers(["pager"], Rules(receivers={"pager": None}, routes=(late,)))
        daemon = Daemon(
            detector=Detector(DetectorSettings()),
            store=store,
            voice=Listener(),
            deliverer=bell,
            clock=lambda: now[0],
        )
        for each in incident():
            now[0] = each.time + 1.0
            daemon.step(each)
        told = store.outbox.deliveries()
        [found] = store.incidents()
    assert [one.event for one in told] == ["firing", "resolved"]
    assert 30.0 <= told[0].created - found.detected < 32.0
    assert bell.rung == 2


def test_an_incident_from_window_to_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice, bell, file = Listener(), Bell(), tmp_path / "recorded.csv"
    with Store.open(tmp_path) as store, recording.create(file) as recorder:
        store.register_receivers(["pager"])
        Daemon(
            detector=Detector(DetectorSettings()),
            store=store,
            voice=voice,
            deliverer=bell,
            recorder=recorder,
        ).run(incident())
    states = [(f.signal, f.direction, f.state) for f in voice.findings]
    assert ("request_latency", "up", "firing") in states
    assert ("request_latency", "up", "resolved") in states
    assert bell.rung == 2  # when it fires, and when it is over
    assert len(voice.statuses) == 240
    assert voice.statuses[-1].windows == 240
    assert voice.statuses[-1].pairs == 1
    assert not voice.warnings

    # What replay finds is what the daemon found, byte for byte
    assert main(["replay", str(file), "-o", "jsonl"]) == 0
    assert capsys.readouterr().out == lines(voice.findings)

    assert main(["report", "--state-dir", str(tmp_path), "--since", "10000d", "-o", "jsonl"]) == 0
    reported = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    final = {f.id: f.to_json() for f in voice.findings}
    assert {each["id"]: each for each in reported} == final

    # and of incidents too: what was told, and what is stored
    assert main(["replay", str(file), "--incidents", "-o", "jsonl"]) == 0
    replayed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each.pop("event") for each in replayed] == ["firing", "resolved"]
    assert [each.to_json() for each in voice.incidents] == replayed
    with Store.open(tmp_path, read_only=True) as store:
        assert [row.payload for row in store.outbox.deliveries()] == replayed
    where = ["--state-dir", str(tmp_path), "--since", "10000d"]
    assert main(["incidents", *where, "-o", "jsonl"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == replayed[1:]
    assert main(["incidents", *where, "--state", "firing"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["incidents", *where]) == 0
    assert "request latency up" in capsys.readouterr().out
    assert main(["explain", replayed[0]["id"][:8], "--state-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for part in ("Probable roots", "Findings, those of the root first", "impact     50 % or more"):
        assert part in said

    slow = next(f for f in voice.findings if f.signal == "request_latency")
    assert main(["explain", slow.id[:6], "--state-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "request latency of web -> api:8080 rose from" in said
    assert slow.id in said
    assert "Evidence" in said


def test_what_cannot_be_stored_is_stored_later(tmp_path: Path) -> None:
    class Full:
        """A store whose disk is full for a while."""

        def __init__(self, store: Store) -> None:
            self.store, self.full = store, True

        def commit(self, findings: Sequence[Finding], **more: Any) -> Sequence[object]:
            if self.full:
                raise StoreError("no room left", reason="disk_full")
            return self.store.commit(findings, **more)

        def tell(self, *, now: float) -> Sequence[object]:
            return self.store.tell(now=now)

        def save_snapshot(self, name: str, data: bytes, *, now: float) -> None:
            self.store.save_snapshot(name, data, now=now)

        def prune(self, *, now: float) -> int:
            return 0

    voice, bell = Listener(), Bell()
    with Store.open(tmp_path) as store:
        full = Full(store)
        daemon = Daemon(
            detector=Detector(DetectorSettings()), store=full, voice=voice, deliverer=bell
        )
        for second, each in enumerate(incident()):
            full.full = second < 200
            daemon.step(each)
            if second == 199:
                assert voice.findings
                assert store.findings() == []
                assert bell.rung == 0
                store.register_receivers(["pager"])
        stored = {f.id: f.state for f in store.findings()}
    assert stored == {f.id: f.state for f in voice.findings}
    assert bell.rung >= 1
    assert voice.warnings == ["nothing can be stored at the moment: no room left"]
    assert voice.notes[0].startswith("stored again, with ")


def test_a_recording_that_fails_does_not_stop_the_watch(tmp_path: Path) -> None:
    voice = Listener()
    recorder = recording.create(tmp_path / "a.csv")
    recorder._file.close()  # type: ignore[attr-defined]
    recorder._file = Path("/dev/full").open("wb", buffering=0)  # type: ignore[attr-defined] # noqa: SIM115
    with Store.open(tmp_path) as store:
        Daemon(
            detector=Detector(DetectorSettings()), store=store, voice=voice, recorder=recorder
        ).run(traffic(5))
    assert len(voice.statuses) == 5
    assert len(voice.warnings) == 1
    assert "the recording ends here" in voice.warnings[0]
    assert "No space left" in voice.warnings[0]


def test_current_pairs_are_there_while_it_runs_only(tmp_path: Path) -> None:
    file = tmp_path / "pairs.json"
    with Store.open(tmp_path) as store:
        daemon = Daemon(
            detector=Detector(DetectorSettings()),
            store=store,
            voice=Listener(),
            pairs_file=file,
            clock=lambda: 1000.0,
        )
        daemon.step(next(traffic(1)))
        rows = pairs.published(file, now=1001.0)
        assert rows is not None
        assert rows[0]["client"] == "web"
        assert set(rows[0]["request_latency"]) == {"p50", "p90", "p99"}
        daemon.run([])
    assert not file.exists()


def test_an_empty_window_is_counted_and_nothing_else(tmp_path: Path) -> None:
    voice = Listener()
    with Store.open(tmp_path) as store, recording.create(tmp_path / "a.csv") as recorder:
        Daemon(
            detector=Detector(DetectorSettings()), store=store, voice=voice, recorder=recorder
        ).run([window([], lost=3)])
    assert voice.statuses[0].lost == 3
    assert list(recording.read([tmp_path / "a.csv"])) == []


def test_a_change_of_what_is_measured_is_said_once_and_so_is_loss(tmp_path: Path) -> None:
    voice = Listener()
    levels = [0, 0, 1, 1, 2, 0, 0]
    lost = [0, 2, 2, 5, 5, 5, 5]
    naming = [(), (), (), ("docker.sock: gone",), ("docker.sock: gone",), (), ()]
    conditions = iter(
        Condition(
            level=level,
            user=0.007,
            kernel=0.001,
            budget=0.005,
            lost={"latencies": number} if number else {},
            naming=problems,
        )
        for level, number, problems in zip(levels, lost, naming, strict=True)
    )
    with Store.open(tmp_path) as store:
        Daemon(
            detector=Detector(DetectorSettings()),
            store=store,
            voice=voice,
            condition=lambda: next(conditions),
        ).run(traffic(7))
    above = "watching cost has been above its budget of 0.5 % of a core: "
    assert voice.warnings == [
        "lost since the start: 2 latency samples that found no room",
        above + "round-trip times are sampled in every fifth window only; counts stay exact",
        "names: docker.sock: gone",
        above + "round-trip times are sampled in every fifth window only, and one request in 16 is "
        "timed; counts stay exact",
    ]
    assert voice.notes == [
        "watching cost has been well below its budget of 0.5 % of a core: everything is measured"
    ]
    assert [each.condition.level for each in voice.statuses] == levels
