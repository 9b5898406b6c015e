"""The history's store: windows in, every tier out; restarts, gaps and clocks."""

from __future__ import annotations

import dataclasses
import math
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from probes.window import Kind, Pair
from tailrace.history import database
from tailrace.history.overview import overview
from tailrace.history.reader import HistoryReader
from tailrace.history.settings import HistorySettings, Tier
from tests.program.keeping import START, Said, ask, keep, rates
from tests.program.windows import WEB_API, traffic, window


def test_nothing_is_kept_yet(tmp_path: Path) -> None:
    series = ask(tmp_path, "requests", START, START + 60)
    assert (series.kind, series.unit, series.step_s) == (Kind.COUNT, "1/s", 1.0)
    assert len(series.time) == 60
    assert np.isnan(series.values["mean"]).all()
    with HistoryReader(tmp_path) as reader:
        assert reader.pairs(since=0, until=2e9) == []
    assert overview(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_every_window_is_in_every_tier(tmp_path: Path) -> None:
    windows = list(traffic(1200, start=START))
    keeper = Said().keeper(tmp_path, (Tier(1, 3600), Tier(10, 7200), Tier(60, 86_400)))
    keep(keeper, windows)
    keeper.close()
    requests = np.array([each.value[1] for each in windows])

    last = ask(tmp_path, "requests", START + 900, START + 1200)
    assert last.step_s == 1.0
    assert last.time.tolist() == [START + 900 + n for n in range(300)]
    assert last.values["mean"] == pytest.approx(requests[900:], rel=0.0101)

    whole = ask(tmp_path, "requests", START, START + 1200, points=120)
    assert whole.step_s == 10.0
    by_step = requests.reshape(-1, 10)
    assert whole.values["mean"] == pytest.approx(by_step.mean(axis=1), rel=0.0101)
    assert whole.values["min"] == pytest.approx(by_step.min(axis=1), rel=0.031)
    assert whole.values["max"] == pytest.approx(by_step.max(axis=1), rel=0.031)

    for tier in (10, 60):  # as if the finer ones were not there
        with sqlite3.connect(tmp_path / database.FILE) as db:
            db.execute("DELETE FROM tiers WHERE step < ?", (tier,))
        coarse = ask(tmp_path, "requests", START, START + 1200, points=20)
        assert coarse.step_s == 60.0
        by_minute = requests.reshape(-1, 60)
        assert coarse.values["mean"] == pytest.approx(by_minute.mean(axis=1), rel=0.0101)
        assert coarse.values["min"] == pytest.approx(by_minute.min(axis=1), rel=0.031)
        assert coarse.values["max"] == pytest.approx(by_minute.max(axis=1), rel=0.031)
        latency = ask(tmp_path, "request_latency", START, START + 1200, points=20)
        counts = np.array([each.count[3] for each in windows]).reshape(-1, 60).sum(axis=1)
        assert latency.values["count"] == pytest.approx(counts, rel=0.0101)
        assert latency.values["p50"] == pytest.approx(np.full(20, 0.00197), rel=0.05)
        errors = ask(tmp_path, "connect_errors", START, START + 1200, points=20)
        assert errors.values["of"] == pytest.approx(np.full(20, 120.0), rel=0.0101)
        assert (errors.values["share"] == 0.0).all()


def test_pairs_are_summed_up(tmp_path: Path) -> None:
    other = Pair("cron", "db", 5432)
    windows = []
    for n, each in enumerate(traffic(800, start=START)):
        rows = [(WEB_API, name, float(v), float(c)) for name, v, c in
                zip(each.signals, each.value, each.count, strict=True)]  # fmt: skip
        if n >= 600:
            rows += [(other, "requests", 7.0, math.nan), (other, "connect_errors", 0.5, 10.0),
                     (other, "resets", 0.25, 4.0)]  # fmt: skip
        entries = dict(
            zip(each.histograms.bucket.tolist(), each.histograms.number.tolist(), strict=True)
        )
        windows.append(window(rows, time=each.time, histograms={3: entries}))
    keeper = Said().keeper(tmp_path, (Tier(1, 3600), Tier(10, 7200)))
    keep(keeper, windows)
    with HistoryReader(tmp_path) as reader:
        [cron, web] = reader.pairs(since=START, until=START + 800)
        early = reader.pairs(since=START, until=START + 300)
        [late] = [s for s in reader.pairs(since=START + 720, until=START + 800) if s.pair == other]
    keeper.close()
    assert (cron.pair, web.pair) == (other, WEB_API)
    assert [each.pair for each in early] == [WEB_API]
    assert cron.signals == ("connect_errors", "requests", "resets")
    assert web.signals == ("connect_errors", "connections", "request_latency", "requests")
    assert (web.first, web.last) == (START, pytest.approx(START + 800, abs=10))
    assert cron.first == START + 600
    for each in (cron, late):
        assert each.requests_per_s == pytest.approx(7.0, rel=0.0101)
        assert each.error_share == pytest.approx(0.6, rel=0.03)
        assert math.isnan(each.p50_s)
    assert web.requests_per_s == pytest.approx(200, rel=0.03)
    assert web.error_share == 0.0
    assert web.p50_s == pytest.approx(0.00197, rel=0.05)
    assert web.p50_s < web.p99_s < 0.005


@pytest.mark.parametrize("width", [0.1, 0.5, 1.5, 7.0, 10.0, 60.0])
def test_windows_of_any_length(tmp_path: Path, width: float) -> None:
    number = int(600 / width) if width < 1 else int(3600 / width)
    values = [float(100 + n % 10) for n in range(number)]
    keeper = Said().keeper(tmp_path, (Tier(1, 7200), Tier(10, 86_400), Tier(60, 864_000)))
    keep(keeper, rates(values, width=width), every=50)
    keeper.close()
    for points in (300, 60, 10):
        series = ask(tmp_path, "requests", START, START + number * width, points=points)
        assert len(series.time) <= points
        assert series.step_s >= width
        inside = series.values["mean"][1:-1]
        assert not np.isnan(inside).any()
        assert inside == pytest.approx(np.full(len(inside), 104.5), abs=6)
        assert np.nanmin(series.values["min"]) == pytest.approx(100, rel=0.031)


def test_what_was_not_measured_stays_a_gap(tmp_path: Path) -> None:
    keeper = Said().keeper(tmp_path)
    keep(keeper, rates([5.0] * 100) + rates([5.0] * 100, start=START + 200))
    keeper.close()
    mean = ask(tmp_path, "requests", START, START + 300).values["mean"]
    assert np.isnan(mean[100:200]).all()
    assert not np.isnan(mean[:100]).any()
    assert not np.isnan(mean[200:]).any()
    mean = ask(tmp_path, "requests", START, START + 300, points=30).values["mean"]
    assert np.flatnonzero(np.isnan(mean)).tolist() == list(range(10, 20))


def test_a_pair_that_does_nothing_is_not_one_that_is_not_there(tmp_path: Path) -> None:
    keeper = Said().keeper(tmp_path)
    keep(keeper, rates([0.0] * 60))
    keeper.close()
    series = ask(tmp_path, "requests", START, START + 60)
    assert (series.values["mean"] == 0.0).all()
    assert np.isnan(ask(tmp_path, "resets", START, START + 60).values["share"]).all()


def test_windows_that_are_of_no_use_are_counted(tmp_path: Path) -> None:
    [one] = rates([5.0])
    keeper = Said().keeper(tmp_path)
    keep(keeper, [one, one, dataclasses.replace(one, time=math.nan)])
    bad = window(
        [(WEB_API, "requests", math.inf, math.nan), (WEB_API, "resets", 0.5, 0.0),
         (WEB_API, "request_latency", math.nan, 3.0), (WEB_API, "connections", 2.0, math.nan)],
        time=START + 1.0,
    )  # fmt: skip
    keep(keeper, [bad])
    keeper.close()
    assert keeper.lost == {"windows given twice": 1, "windows without a time": 1}
    found = overview(tmp_path)
    assert found is not None
    assert found.lost == keeper.lost
    with HistoryReader(tmp_path) as reader:
        assert reader.pairs(since=0, until=2e9)[0].signals == ("connections", "requests")


def test_recordings_without_histograms_have_their_medians(tmp_path: Path) -> None:
    rows = [(WEB_API, "request_latency", 0.25, 40.0)]
    keeper = Said().keeper(tmp_path)
    keep(keeper, [window(rows, time=START + n) for n in range(60)])
    keeper.close()
    series = ask(tmp_path, "request_latency", START, START + 60, points=1)
    assert series.values["p50"][0] == pytest.approx(0.25, rel=0.08)
    assert series.values["count"][0] == pytest.approx(2400, rel=0.0101)


# Restarts and clocks


def test_a_restart_anywhere_loses_nothing(tmp_path: Path) -> None:
    windows = list(traffic(800, start=START))
    for number, part in enumerate((windows[:7], windows[7:155], windows[155:156], windows[156:])):
        keeper = Said().keeper(tmp_path, (Tier(1, 3600), Tier(10, 7200), Tier(60, 86_400)))
        keep(keeper, part, every=10 + number)
        keeper.close()
    requests = np.array([each.value[1] for each in windows])
    series = ask(tmp_path, "requests", START, START + 800, points=800)
    assert series.values["mean"] == pytest.approx(requests, rel=0.0101)
    with sqlite3.connect(tmp_path / database.FILE) as db:
        db.execute("DELETE FROM tiers WHERE step < 60")
    series = ask(tmp_path, "requests", START, START + 780)
    by_minute = requests[:780].reshape(-1, 60).mean(axis=1)
    assert series.values["mean"] == pytest.approx(by_minute, rel=0.03)
    count = ask(tmp_path, "request_latency", START, START + 780).values["count"]
    counts = np.array([each.count[3] for each in windows[:780]]).reshape(-1, 60).sum(axis=1)
    assert count == pytest.approx(counts, rel=0.03)


def test_a_kill_loses_no_more_than_was_not_flushed(tmp_path: Path) -> None:
    program = f"""
        import os, signal
        from pathlib import Path
        from tailrace.history.keeper import Keeper
        from tailrace.history.settings import HistorySettings
        from tests.program.windows import traffic
        keeper = Keeper(Path({str(tmp_path / database.FILE)!r}), HistorySettings())
        for number, each in enumerate(traffic(1000, start={START})):
            keeper.add(each)
            if number % 10 == 0 and number <= 990:
                keeper.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert ended.returncode == -signal.SIGKILL
    keeper = Said().keeper(tmp_path, HistorySettings().tiers)
    keep(keeper, traffic(100, start=START + 1000))
    keeper.close()
    windows = list(traffic(1000, start=START))
    mean = ask(tmp_path, "requests", START, START + 1100, points=1100).values["mean"]
    kept = np.array([each.value[1] for each in windows[:990]])
    assert mean[:990] == pytest.approx(kept, rel=0.0101)
    assert np.isnan(mean[990:1000]).all()
    assert not np.isnan(mean[1000:]).any()


def test_a_clock_that_is_set_back_adds_to_what_is_there(tmp_path: Path) -> None:
    keeper = Said().keeper(tmp_path, (Tier(1, 86_400), Tier(60, 864_000)))
    keep(keeper, rates([10.0] * 1000))  # some chunks are closed by now
    keep(keeper, rates([20.0] * 500, start=START + 250))
    for _ in range(20):
        keeper.flush()
    keep(keeper, rates([10.0] * 500, start=START + 1000))
    keeper.close()
    mean = ask(tmp_path, "requests", START, START + 1500, points=1500).values["mean"]
    assert not np.isnan(mean).any()
    assert mean[:250] == pytest.approx(np.full(250, 10.0), rel=0.0101)
    assert mean[250:750] == pytest.approx(np.full(500, 15.0), rel=0.021)
    assert mean[750:] == pytest.approx(np.full(750, 10.0), rel=0.0101)
    with HistoryReader(tmp_path) as reader:
        [web] = reader.pairs(since=START + 360, until=START + 720)
    assert web.requests_per_s == pytest.approx(15.0, rel=0.03)


def test_a_clock_that_is_wrong_for_a_while_deletes_nothing(tmp_path: Path) -> None:
    keeper = Said().keeper(tmp_path)
    keep(keeper, rates([10.0] * 300))
    keep(keeper, rates([10.0] * 300, start=START + 40 * 86_400))
    keep(keeper, rates([10.0] * 300, start=START + 300))
    mean = ask(tmp_path, "requests", START, START + 600).values["mean"]
    assert not np.isnan(mean).any()
    keep(keeper, rates([10.0] * 150, start=START + 600, width=60.0), every=1)
    keeper.close()
    with sqlite3.connect(tmp_path / database.FILE) as db:
        newest = db.execute("SELECT max(start) FROM chunks UNION SELECT max(start) FROM pieces")
        assert max(found for (found,) in newest if found) < START + 86_400  # the future is gone


# Room
