"""The history's store: windows in, every tier out; restarts, gaps, clocks and full disks."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from probes.window import Kind, Pair, Window
from tailrace.errors import TailraceError
from tailrace.history import database
from tailrace.history.keeper import Keeper
from tailrace.history.overview import overview
from tailrace.history.reader import HistoryReader, Series
from tailrace.history.service import QUEUE_WINDOWS, History
from tailrace.history.settings import HistorySettings, Tier
from tests.program.windows import WEB_API, traffic, window

START = 1_760_000_400  # where an hour begins
HOURS = (Tier(1, 600), Tier(10, 3600), Tier(60, 86_400))


class Said:
    """What a keeper says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def keeper(self, directory: Path, tiers: Sequence[Tier] = HOURS, **more: object) -> Keeper:
        settings = HistorySettings(tiers=tiers, **_settings(more))  # type: ignore[arg-type]
        return Keeper(
            directory / database.FILE,
            settings,
            note=self.notes.append,
            warn=self.warnings.append,
            **more,  # type: ignore[arg-type]
        )


def _settings(more: dict[str, object]) -> dict[str, object]:
    return {"max_size": more.pop("max_size")} if "max_size" in more else {}


def keep(keeper: Keeper, windows: Iterable[Window], every: int = 10) -> None:
    for number, each in enumerate(windows, start=1):
        keeper.add(each)
        if number % every == 0:
            keeper.flush()


def rates(values: Sequence[float], start: float = START, width: float = 1.0) -> list[Window]:
    return [
        window(
            [(WEB_API, "requests", value, math.nan)],
            time=start + n * width,
            width=width,
            nominal=width,
        )
        for n, value in enumerate(values)
    ]


def ask(directory: Path, name: str, since: float, until: float, **more: int) -> Series:
    with HistoryReader(directory) as reader:
        return reader.series(WEB_API, name, since=since, until=until, **more)


def total(series: Series, of: str) -> float:
    return float(np.nansum(series.values[of]))


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


def starts(directory: Path, step: int) -> list[int]:
    with sqlite3.connect(directory / database.FILE) as db:
        found = db.execute(
            "SELECT start FROM chunks WHERE step = ? UNION SELECT start FROM pieces WHERE step = ?",
            (step, step),
        )
        return sorted(start for (start,) in found)


def test_each_tier_reaches_back_as_far_as_it_should(tmp_path: Path) -> None:
    keeper = Said().keeper(tmp_path)
    end = START + 9000
    keep(keeper, rates([1.0] * 800, width=10.0))
    keep(keeper, rates([1.0] * 1000, start=START + 8000))
    keeper.close()
    for tier in HOURS:
        oldest = starts(tmp_path, tier.step)[0]
        assert max(START - tier.chunk, end - tier.keep - 2 * tier.chunk - 60) <= oldest
        assert oldest <= max(START, end - tier.keep)
    found = overview(tmp_path)
    assert found is not None
    assert [(tier.step, tier.keep) for tier in found.tiers] == list(HOURS)
    # asked for more than the finest tier has, a coarser one answers
    assert ask(tmp_path, "requests", end - 500, end).step_s == 2.0
    assert ask(tmp_path, "requests", end - 3000, end).step_s == 10.0
    whole = ask(tmp_path, "requests", START, end)
    assert whole.step_s == 60.0
    assert not np.isnan(whole.values["mean"]).any()


BUSY = tuple(Pair(f"client-{n}", "server", 80) for n in range(400))


def busy(rng: np.random.Generator, time: float) -> Window:
    """Return a minute of traffic that hardly compresses."""
    signals = ("requests", "connections", "bytes_sent", "bytes_received")
    number = len(BUSY) * len(signals)
    return Window(
        time=time,
        width=60.0,
        nominal=60.0,
        lost=0,
        pairs=BUSY,
        signals=signals,
        pair=np.repeat(np.arange(len(BUSY), dtype=np.int32), len(signals)),
        signal=np.tile(np.arange(len(signals), dtype=np.int16), len(BUSY)),
        value=rng.lognormal(3, 2, number),
        count=np.full(number, np.nan),
    )


def test_the_budget_is_kept_and_the_oldest_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.history.keeper.MARGIN_BYTES", 100_000)
    said = Said()
    limit = database.LOG_BYTES + 1_500_000
    keeper = said.keeper(tmp_path, (Tier(60, 90 * 86_400),), max_size=limit)
    rng = np.random.default_rng(1)
    file = tmp_path / database.FILE
    oldest = []
    for n in range(700):
        keeper.add(busy(rng, START + 60.0 * n))
        if n % 20 == 19:
            keeper.flush()
            assert database.on_disk(file) <= limit
            oldest.append(starts(tmp_path, 60)[0] // 21_600 * 21_600)
    keeper.close()
    assert oldest[-1] > START
    assert oldest == sorted(oldest)
    found = overview(tmp_path)
    assert found is not None
    assert found.deleted_for_room > 0
    assert found.size <= found.max_size == limit
    first, oldest_chunk = found.tiers[0].first, starts(tmp_path, 60)[0]
    assert first is not None
    assert oldest_chunk <= first < oldest_chunk + 21_600
    with HistoryReader(tmp_path) as reader:
        pair = Pair("client-7", "server", 80)
        end = START + 60.0 * 700
        series = reader.series(pair, "requests", since=end - 7200, until=end, points=600)
    assert not np.isnan(series.values["mean"]).any()


def test_a_smaller_budget_shrinks_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.history.room.VACUUM_PAGES", 100)
    monkeypatch.setattr("tailrace.history.keeper.MARGIN_BYTES", 100_000)
    rng = np.random.default_rng(1)
    tiers = (Tier(60, 90 * 86_400),)
    keeper = Said().keeper(tmp_path, tiers)
    keep(keeper, [busy(rng, START + 60.0 * n) for n in range(600)], every=30)
    keeper.close()
    before = database.on_disk(tmp_path / database.FILE)
    limit = database.LOG_BYTES + 1_200_000
    assert before > 1.5 * (limit - database.LOG_BYTES)
    keeper = Said().keeper(tmp_path, tiers, max_size=limit)
    keep(keeper, [busy(rng, START + 60.0 * n) for n in range(600, 640)], every=1)
    keeper.close()
    assert database.on_disk(tmp_path / database.FILE) <= 1.1 * (limit - database.LOG_BYTES)


def test_pairs_are_bounded_and_those_that_are_gone_give_room(tmp_path: Path) -> None:
    said = Said()
    keeper = said.keeper(tmp_path, (Tier(1, 3600), Tier(60, 7200)), max_pairs=3)
    pairs = [Pair(f"job-{n}", "db", 5432) for n in range(5)]
    keep(keeper, [window([(p, "requests", 1.0, math.nan) for p in pairs], time=START + n)
                  for n in range(30)])  # fmt: skip
    found = overview(tmp_path)
    assert found is not None
    assert (found.pairs, found.lost) == (3, {"pairs above the most that are kept": 2})
    # two windows an hour, until the first three are beyond the longest retention
    later = [window([(pairs[4], "requests", 2.0, math.nan)], time=START + 1800.0 * n)
             for n in range(1, 30)]  # fmt: skip
    keep(keeper, later, every=1)
    keeper.close()
    with HistoryReader(tmp_path) as reader:
        [only] = reader.pairs(since=START, until=START + 1e6)
    assert only.pair == pairs[4]
    assert only.requests_per_s == pytest.approx(2.0, rel=0.0101)
    found = overview(tmp_path)
    assert found is not None
    assert found.pairs == 1


def test_tiers_that_are_not_configured_any_more_are_deleted(tmp_path: Path) -> None:
    keep(first := Said().keeper(tmp_path), rates([1.0] * 600))
    first.close()
    said = Said()
    keep(
        second := said.keeper(tmp_path, (Tier(1, 600), Tier(60, 7200))),
        rates([1.0] * 60, START + 600),
    )
    second.close()
    assert "history: steps of 10s are not configured any more, and were deleted" in said.notes
    found = overview(tmp_path)
    assert found is not None
    assert [tuple(tier)[:2] for tier in found.tiers] == [(1, 600), (60, 7200)]
    assert not starts(tmp_path, 10)
    assert not np.isnan(
        ask(tmp_path, "requests", START, START + 660, points=11).values["mean"]
    ).any()


# What is wrong with the file


@pytest.mark.parametrize("what", ["garbage", "another program's", "newer", "cut"])
def test_a_file_that_is_of_no_use_is_set_aside(tmp_path: Path, what: str) -> None:
    file = tmp_path / database.FILE
    keep(keeper := Said().keeper(tmp_path), rates([1.0] * 100))
    keeper.close()
    if what == "garbage":
        file.write_bytes(b"no database at all\n" * 1000)
    elif what == "cut":
        data = file.read_bytes()
        file.write_bytes(data[:4096] + bytes(len(data) - 4096))
    elif what == "newer":
        with sqlite3.connect(file) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        file.unlink()
        with sqlite3.connect(file) as db:
            db.execute("CREATE TABLE cats (name TEXT)")
    size = file.stat().st_size
    with pytest.raises(TailraceError) as caught, HistoryReader(tmp_path) as reader:
        reader.pairs(since=0, until=2e9)
    assert "format 99" in str(caught.value) if what == "newer" else "damaged" in str(caught.value)
    said = Said()
    keeper = said.keeper(tmp_path)
    keep(keeper, rates([2.0] * 100, START + 100))
    keeper.close()
    kind = "newer" if what == "newer" else "damaged"
    [warning] = said.warnings
    assert f"it is history.db.{kind} now, and a new history begins" in warning
    assert str(file) in warning
    assert (tmp_path / f"history.db.{kind}").stat().st_size >= min(size, 4096)
    mean = ask(tmp_path, "requests", START + 110, START + 200).values["mean"]
    assert mean == pytest.approx(np.full(90, 2.0), rel=0.0101)
    found = overview(tmp_path)
    assert found is not None
    assert list(found.aside) == [f"history.db.{kind}"]


def test_damage_while_it_runs_is_found_and_set_aside(tmp_path: Path) -> None:
    said = Said()
    keeper = said.keeper(tmp_path)
    keep(keeper, rates([1.0] * 350))
    with sqlite3.connect(tmp_path / database.FILE) as db:
        db.execute("UPDATE pieces SET data = x'00112233' WHERE step = 1")
    keep(keeper, rates([1.0] * 400, START + 350))
    keeper.close()
    [warning] = said.warnings
    assert "the history is damaged; it is history.db.damaged now" in warning
    mean = ask(tmp_path, "requests", START + 400, START + 700).values["mean"]
    assert not np.isnan(mean).any()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterable[Path]:
    """A directory with room for a few megabytes, or skip."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("needs root to mount a small tmpfs")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_said_once_and_history_goes_on_with_room(small_disk: Path) -> None:
    said = Said()
    keeper = said.keeper(small_disk)
    keep(keeper, rates([1.0] * 60))
    ballast = small_disk / "ballast"
    handle = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(handle, bytes(4096)):
            pass
    os.close(handle)
    keep(keeper, rates([2.0] * 600, START + 60))
    [warning] = said.warnings
    assert warning.startswith("no history is stored at the moment: no room left")
    ballast.unlink()
    keep(keeper, rates([3.0] * 60, START + 660))
    keeper.close()
    assert said.warnings == [warning]
    assert "history is stored again" in said.notes
    mean = ask(small_disk, "requests", START, START + 720, points=720).values["mean"]
    assert mean[60:660] == pytest.approx(np.full(600, 2.0), rel=0.0101)  # it had waited
    assert mean[660:] == pytest.approx(np.full(60, 3.0), rel=0.0101)


def test_what_waits_for_the_disk_is_bounded_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.history.keeper.MAX_WAITING", 100)
    keeper = Said().keeper(tmp_path, (Tier(1, 3600),))
    keeper.flush()
    with sqlite3.connect(tmp_path / database.FILE) as db:
        db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON pieces BEGIN SELECT RAISE(FAIL, 'no'); END"
        )
        db.commit()
        keep(keeper, rates([1.0] * 300))
        assert keeper.lost["rows while the file could not be written"] > 150
        db.execute("DROP TRIGGER full")
        db.commit()
    keep(keeper, rates([1.0] * 20, START + 300))
    keeper.close()
    mean = ask(tmp_path, "requests", START, START + 320, points=320).values["mean"]
    assert np.isnan(mean[:150]).all()
    assert not np.isnan(mean[250:]).any()


def test_signals_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.history.names.MAX_SIGNALS", 2)
    keeper = Said().keeper(tmp_path)
    rows = [(WEB_API, name, 1e300, math.nan) for name in ("requests", "mine", "yours")]
    keep(keeper, [window(rows, time=START)])
    keeper.close()
    found = overview(tmp_path)
    assert found is not None
    assert found.lost == {"times a signal above the most that are kept": 1}
    with HistoryReader(tmp_path) as reader:
        assert reader.pairs(since=0, until=2e9)[0].signals == ("mine", "requests")


# The thread


def test_a_fault_of_ours_ends_the_history_and_not_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no good")

    monkeypatch.setattr("tailrace.history.keeper.sums_of", broken)
    said = Said()
    history = History(tmp_path, HistorySettings(), note=said.notes.append,
                      warn=said.warnings.append)  # fmt: skip
    for each in rates([1.0] * (3 * QUEUE_WINDOWS)):
        history.add(each)
    history.close()
    [warning] = [one for one in said.warnings if "dropped" not in one]
    assert "by a fault of Tailrace (ZeroDivisionError: no good): please report it" in warning


def test_a_slow_disk_delays_nobody_and_is_counted(tmp_path: Path) -> None:
    first = Said().keeper(tmp_path)
    first.flush()
    first.close()
    lock = sqlite3.connect(tmp_path / database.FILE, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    said = Said()
    history = History(tmp_path, HistorySettings(tiers=HOURS), note=said.notes.append,
                      warn=said.warnings.append)  # fmt: skip
    for each in rates([1.0] * (QUEUE_WINDOWS + 50)):
        history.add(each)
    lock.execute("ROLLBACK")
    lock.close()
    history.close()
    assert said.warnings.count("history: the disk is too slow, windows are dropped from it") == 1
    found = overview(tmp_path)
    assert found is not None
    assert found.lost["windows while the disk was slow"] >= 49
    mean = ask(tmp_path, "requests", START, START + 300).values["mean"]
    assert (~np.isnan(mean)).sum() == QUEUE_WINDOWS + 50 - found.lost[
        "windows while the disk was slow"
    ]
