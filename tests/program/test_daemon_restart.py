"""A daemon that starts again goes on as if it had never stopped, or says what it sets aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts.store import Store
from detector import engines
from detector.engine import Detector
from detector.settings import DetectorSettings
from tailrace.daemon import Daemon
from tailrace.restore import detector_of, incidents_of
from tests.program.listening import Listener, incident, lines
from tests.program.windows import traffic


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
