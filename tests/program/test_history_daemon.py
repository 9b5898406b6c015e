"""The history beside the daemon's loop, its settings, and what the doctor says of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from alerts.store import Store
from detector.engine import Detector
from detector.settings import DetectorSettings
from probes.window import Window
from tailrace import config, recording
from tailrace.cli import main
from tailrace.daemon import Daemon
from tailrace.errors import ConfigError
from tailrace.history.doctor import history_check
from tailrace.history.reader import HistoryReader
from tailrace.history.service import History
from tailrace.history.settings import HistorySettings, Tier
from tests.program.listening import Listener
from tests.program.test_run_injected import play
from tests.program.windows import WEB_API, traffic

__all__ = ["play"]  # a fixture
pytestmark = pytest.mark.usefixtures("alone")

SLOW = """\
about = "minutes in which one pair becomes slow"
lasts = "8m"
[[pairs]]
client = "client-{n}"
server = "server-{n}"
number = 3
requests = 40
connections = 4
[[faults]]
kind = "latency"
client = "client-1"
at = "4m"
lasts = "2m"
size = 3
"""


def run_daemon(directory: Path, windows: list, voice: Listener, settings: HistorySettings) -> None:
    with (
        Store.open(directory) as store,
        History(directory, settings, note=voice.note, warn=voice.warning) as history,
    ):
        daemon = Daemon(
            detector=Detector(DetectorSettings()), store=store, voice=voice, history=history
        )
        for number, each in enumerate(windows):
            daemon.step(each)
            if number % 20 == 0:  # a real one has a second for each
                while history.waiting():
                    time.sleep(0.001)


def test_what_a_simulated_fault_did_is_there_to_be_seen(tmp_path: Path) -> None:
    """Through two runs of the daemon's loop, the second of which takes up the first's chunk."""
    scenario, file = tmp_path / "slow.toml", tmp_path / "slow.csv"
    scenario.write_text(SLOW)
    assert main(["simulate", str(scenario), "-o", str(file), "--window", "2s"]) == 0
    windows = list(recording.read([file]))
    state, voice = tmp_path / "state", Listener()
    state.mkdir()
    settings = HistorySettings(tiers=(Tier(1, 3600), Tier(10, 86_400)))
    for part in (windows[:140], windows[140:]):
        run_daemon(state, part, voice, settings)
    assert not voice.warnings
    assert voice.notes[0].startswith("history: 1s for 1h, 10s for 1d; 0.")
    assert voice.notes[0].endswith(" MB on disk of at most 1,500")

    first, last = windows[0].time, windows[-1].time + 2.0
    with HistoryReader(state) as reader:
        pairs = reader.pairs(since=first, until=last)
        found = [reader.series(each.pair, "request_latency", since=first, until=last, points=120)
                 for each in pairs]  # fmt: skip
    assert [each.pair.client for each in pairs] == ["client-1", "client-2", "client-3"]
    onset = first + 240.0
    slow = found[0]
    during = (slow.time >= onset) & (slow.time < onset + 120.0)
    p50 = slow.values["p50"]
    assert not np.isnan(p50).any()
    assert np.median(p50[during]) > 2.0 * np.median(p50[~during])
    assert np.median(p50[during]) > 2.0 * np.median(found[1].values["p50"])
    # and what it shows is what was in the windows
    counts = sum(float(w.value[row]) * w.width for w in windows for row in range(len(w))
                 if w.pairs[w.pair[row]] == pairs[0].pair
                 and w.signals[w.signal[row]] == "requests")  # fmt: skip
    assert pairs[0].requests_per_s * (last - first) == pytest.approx(counts, rel=0.02)

    check = history_check(state, None, now=last)
    assert check.state == "ok"
    assert check.detail.startswith("1s: the last 8m of 1h, 10s: the last 8m of 1d; 3 pairs; ")
    assert check.detail.endswith(" MB on disk of at most 1,500")


def test_run_keeps_the_past_unless_it_is_told_not_to(
    tmp_path: Path,
    play: Callable[[Iterable[Window]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    windows = list(traffic(40))
    play(windows)
    assert main(["run", "--state-dir", str(tmp_path / "on")]) == 0
    assert "history: 1s for 1h, 10s for 1d, 1m for 30d; " in capsys.readouterr().err
    with HistoryReader(tmp_path / "on") as reader:
        series = reader.series(
            WEB_API, "requests", since=windows[0].time, until=windows[-1].time + 1.0
        )
    assert series.values["mean"] == pytest.approx([w.value[1] for w in windows], rel=0.0101)

    file = tmp_path / "tailrace.toml"
    file.write_text("[history]\nenabled = false\n")
    play(windows)
    assert main(["run", "--state-dir", str(tmp_path / "off"), "--config", str(file)]) == 0
    assert "history" not in capsys.readouterr().err
    assert not (tmp_path / "off" / "history.db").exists()


def test_the_doctor_says_what_is_lost_and_set_aside(tmp_path: Path) -> None:
    check = history_check(tmp_path, None, now=0.0)
    assert (check.state, check.detail) == ("ok", "nothing kept yet; at most 1.5GB")
    (tmp_path / "history.db").write_bytes(b"garbage" * 1000)
    check = history_check(tmp_path, None, now=0.0)
    assert check.state == "warn"
    assert "the history is damaged" in check.detail
    assert "sets it aside" in check.remedy
    voice = Listener()
    windows = list(traffic(60))
    run_daemon(tmp_path, [*windows, windows[-1]], voice, HistorySettings())
    [warning] = voice.warnings
    assert "history.db.damaged now" in warning
    check = history_check(tmp_path, None, now=windows[-1].time)
    assert check.state == "warn"
    assert "lost since the daemon's start: 1 windows given twice" in check.detail
    assert "history.db.damaged was set aside (0.0 MB)" in check.detail


def test_the_doctor_has_a_line_for_it(tmp_path: Path) -> None:
    file = tmp_path / "tailrace.toml"
    file.write_text("[history]\nenabled = false\n")
    check = history_check(tmp_path, file, now=0.0)
    assert (check.state, check.detail) == ("ok", "switched off; none kept")


# The configuration


def test_settings(file: Path) -> None:
    assert config.Config().history.settings() == HistorySettings()
    file.write_text(
        '[history]\nenabled = false\ntiers = ["5s for 30m", "1m for 7d"]\nmax_size = "200 MiB"\n'
    )
    read = config.read(file)
    assert not read.history.enabled
    assert read.history.settings() == HistorySettings(
        tiers=(Tier(5, 1800), Tier(60, 604_800)), max_size=200 * 2**20
    )
    shown = read.to_dict()["history"]
    assert shown == {"enabled": False, "tiers": ["5s for 30m", "1m for 7d"], "max_size": "200MiB"}
    assert config.Config().to_dict()["history"] == {
        "enabled": True,
        "tiers": ["1s for 1h", "10s for 1d", "1m for 30d"],
        "max_size": "1.5GB",
    }


MISTAKES = {
    "key": ('size = "1GB"', "unknown key `size` in [history], did you mean `max_size`?"),
    "size": ('max_size = "lots"', "'lots' is not a size: write it like 500MB, 1.5GB or 2GiB"),
    "bare": ("max_size = 5", "5 is not a size: write it like 500MB, 1.5GB or 2GiB"),
    "small": ('max_size = "1MB"', "'1MB' is too little: at least 32MB"),
    "text": ('tiers = "1s for 1h"', 'a list of 1 to 8 tiers, like ["1s for 1h", "10s for 1d"]'),
    "none": ("tiers = []", "a list of 1 to 8 tiers"),
    "form": ('tiers = ["1s"]', "'1s' is not a tier: write it like \"10s for 1d\""),
    "unit": ('tiers = ["1x for 1h"]', "'1x' is not a duration"),
    "short": ('tiers = ["100ms for 1h"]', "the step must be whole seconds, at least 1s"),
    "long": ('tiers = ["2h for 1d"]', "a step is at most 1h long"),
    "less": ('tiers = ["1m for 10s"]', "kept from one step to 3660d"),
    "order": (
        'tiers = ["10s for 1h", "1s for 1d"]',
        "'1s for 1d' after '10s for 1h': each step must be a multiple of the one before",
    ),
    "multiple": (
        'tiers = ["10s for 1h", "15s for 1d"]',
        "'15s for 1d' after '10s for 1h': each step must be a multiple of the one before",
    ),
    "keep": (
        'tiers = ["1s for 1h", "10s for 1h"]',
        "'10s for 1h' after '1s for 1h': longer steps must be kept longer",
    ),
    "bool": ('enabled = "perhaps"', "key `enabled` in [history]"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(file: Path, mistake: str) -> None:
    line, message = MISTAKES[mistake]
    file.write_text(f"[history]\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        config.read(file)
    assert message in str(caught.value)
    assert f"{file}:2: " in str(caught.value)
