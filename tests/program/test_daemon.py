"""The daemon's loop, fed with windows made by hand, with the real detector and store."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from alerts.errors import StoreError
from alerts.incident import Incident
from alerts.policy import Route, Rules
from alerts.store import Store
from detector import engines
from detector.engine import Detector
from detector.finding import Finding
from detector.settings import DetectorSettings
from probes.window import Window
from tailrace import pairs, recording
from tailrace.cli import main
from tailrace.condition import Condition
from tailrace.daemon import Daemon
from tailrace.observe import windows_within
from tailrace.restore import detector_of, incidents_of
from tailrace.status import Status, finding_line, status_line
from tests.program.windows import WEB_API, traffic, window


class Listener:
    """A voice that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.findings: list[Finding] = []
        self.incidents: list[Incident] = []
        self.statuses: list[Status] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def finding(self, finding: Finding) -> None:
        self.findings.append(finding)

    def incident(self, incident: Incident) -> None:
        self.incidents.append(incident)

    def status(self, status: Status) -> None:
        self.statuses.append(status)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Bell:
    """A deliverer that only counts."""

    rung = 0

    def wake(self) -> None:
        self.rung += 1

    def health(self) -> dict[str, Any]:
        return {}


def incident() -> Iterator[Window]:
    return traffic(240, slow_from=120, slow_until=180)


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


def lines(findings: Sequence[Finding]) -> str:
    return "".join(json.dumps(f.to_json(), ensure_ascii=False) + "\n" for f in findings)


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


def test_a_restart_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    whole, halves = Listener(), Listener()
    windows = list(incident())
    messages = []
    with Store.open(tmp_path / "a") as store:
        store.register_receivers(["pager"])
        Daemon(detector=Detector(DetectorSettings()), store=store, voice=whole).run(windows)
        messages.append([(row.id, row.payload) for row in store.outbox.deliveries()])
    for part in (windows[:124], windows[124:130], windows[130:195], windows[195:]):
        with Store.open(tmp_path / "b") as store:
            store.register_receivers(["pager"])
            detector = detector_of(store, DetectorSettings(), note=halves.note)
            open_ = incidents_of(store, detector, now=part[0].time, note=halves.note)
            Daemon(detector=detector, store=store, voice=halves, incidents=open_).run(part)
            told = [(row.id, row.payload) for row in store.outbox.deliveries()]
    assert lines(halves.findings) == lines(whole.findings)
    assert [told] == messages
    assert len(told) == 2
    assert halves.notes == ["no baselines yet: nothing is judged before 45s of traffic were seen"]


def test_baselines_that_cannot_be_read_are_set_aside(tmp_path: Path) -> None:
    notes: list[str] = []
    with Store.open(tmp_path) as store:
        store.save_snapshot("detector", b"from another time", now=0.0)
        detector = detector_of(store, DetectorSettings(), note=notes.append)
        assert detector.firing() == []
        assert store.snapshot("detector-unreadable") == b"from another time"
    assert "the stored baselines cannot be used" in notes[0]


@pytest.mark.parametrize("model", ["tailrace", "river-adwin"])
def test_another_engines_baselines_are_set_aside(tmp_path: Path, model: str) -> None:
    before = "river-adwin" if model == "tailrace" else "tailrace"
    notes: list[str] = []
    with Store.open(tmp_path) as store:
        detector = detector_of(store, DetectorSettings(model=before), note=notes.append)
        Daemon(detector=detector, store=store, voice=Listener()).run(traffic(80))
        again = detector_of(store, DetectorSettings(model=before), note=notes.append)
        assert again.learning() == detector.learning()
        assert sum(again.learning()) > 0
        other = detector_of(store, DetectorSettings(model=model), note=notes.append)
        assert tuple(other.learning()) == (0, 0)
        assert store.snapshot("detector-unreadable") == detector.to_bytes()
    assert len(notes) == 2
    assert f'the state of the model "{before}", and [detector] model is "{model}"' in notes[1]
    assert "set aside, learning anew" in notes[1]


@pytest.mark.parametrize("model", engines.KNOWN)
def test_every_engine_runs_in_the_daemon(tmp_path: Path, model: str) -> None:
    """And goes on after a restart as if there had been none."""
    whole, halves = Listener(), Listener()
    windows, knobs = list(incident()), DetectorSettings(model=model)
    with Store.open(tmp_path / "a") as store:
        detector = detector_of(store, knobs, note=whole.note)
        Daemon(detector=detector, store=store, voice=whole).run(windows)
    for part in (windows[:130], windows[130:]):
        with Store.open(tmp_path / "b") as store:
            detector = detector_of(store, knobs, note=halves.note)
            Daemon(detector=detector, store=store, voice=halves).run(part)
    assert ("request_latency", "up", "firing") in {
        (f.signal, f.direction, f.state) for f in whole.findings
    }
    assert lines(halves.findings) == lines(whole.findings)


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


def test_the_end_fails_when_nothing_could_be_stored(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        daemon = Daemon(detector=Detector(DetectorSettings()), store=store, voice=Listener())
        store.close()
        with pytest.raises(StoreError):
            daemon.run(traffic(2))


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


def test_limits() -> None:
    assert windows_within(None, 1.0) is None
    assert windows_within(30.0, 1.0) == 30
    assert windows_within(0.3, 0.1) == 3
    assert windows_within(0.5, 1.0) == 1
    assert windows_within(2.5, 1.0) == 3


def test_it_stops_at_its_limit_and_when_told(tmp_path: Path) -> None:
    def make(store: Store) -> tuple[Daemon, Listener]:
        voice = Listener()
        return Daemon(detector=Detector(DetectorSettings()), store=store, voice=voice), voice

    with Store.open(tmp_path) as store:
        daemon, voice = make(store)
        endless = traffic(10**9)
        daemon.run(endless, limit=7)
        assert len(voice.statuses) == 7
        daemon, voice = make(store)

        def stopping() -> Iterator[Window]:
            for second, each in enumerate(endless):
                if second == 3:
                    daemon.stop()
                yield each

        daemon.run(stopping())
        assert len(voice.statuses) == 3


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


PROGRAM = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from alerts.store import Store
    from detector.engine import Detector
    from tailrace import observe, status
    from tailrace.daemon import Daemon
    from tests.program.windows import traffic

    def slowly():
        for window in traffic(10**6):
            yield window
            time.sleep(0.01)

    with Store.open(Path(sys.argv[1])) as store, status.voice() as voice:
        daemon = Daemon(detector=Detector(), store=store, voice=voice)
        with observe.stopped_by_signals(daemon.stop) as interrupt:
            daemon.run(slowly())
        voice.note("stopped")
    sys.exit(interrupt.exit_code)
    """
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_stop_it_with_a_last_snapshot(tmp_path: Path, number: int, code: int) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stderr=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        text=True,
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        time.sleep(0.3)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(10) == code
    assert "event=status" in first
    assert rest.splitlines()[-1].endswith("event=note text=stopped")
    assert "Traceback" not in rest
    with Store.open(tmp_path, read_only=True) as store:
        snapshot = store.snapshot("detector")
    assert snapshot is not None
    learning, judged = Detector.from_bytes(snapshot).learning()
    assert learning + judged > 0


def test_the_status_line() -> None:
    status = Status(uptime_s=75, windows=75, pairs=3, learning=0, judged=21, firing=1, lost=0,
                    pending=0)  # fmt: skip
    assert status_line(status) == "up 1m15s · window 75 · 3 pairs · 21 streams judged · 1 firing"
    status = Status(uptime_s=5, windows=5, pairs=1, learning=9, judged=0, firing=0, lost=2,
                    pending=4)  # fmt: skip
    assert status_line(status) == (
        "up 5s · window 5 · 1 pairs · 0 streams judged · 9 learning · 0 firing"
        " · 2 samples lost · 4 messages pending"
    )


def test_a_finding_as_a_line() -> None:
    finding = Finding(
        id="0123456789abcdef", pair=WEB_API, signal="requests", direction="up", onset=0.0,
        detected=5.0, before=10.0, after=30.0, ratio=3.0, unit="1/s", significance=9.0, cause="",
        state="firing",
    )  # fmt: skip
    assert finding_line(finding) == (
        "00:00:05  firing    01234567  "
        "requests of web -> api:8080 rose from 10.0 req/s to 30.0 req/s (3.0x)"
    )
    ended = dataclasses.replace(finding, state="resolved", ended=65.0)
    assert finding_line(ended).startswith("00:01:05  resolved  01234567  ")
    assert finding_line(ended).endswith("(3.0x), for 65 s")
