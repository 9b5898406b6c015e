"""How long and how much is kept; files of no use, full and slow disks, faults of ours."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from probes.window import Pair, Window
from tailrace.errors import TailraceError
from tailrace.history import database
from tailrace.history.overview import overview
from tailrace.history.reader import HistoryReader
from tailrace.history.service import QUEUE_WINDOWS, History
from tailrace.history.settings import HistorySettings, Tier
from tests.program.keeping import HOURS, START, Said, ask, keep, rates
from tests.program.windows import WEB_API, window
from tests.support.disks import small_disk


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
def disk(tmp_path: Path) -> Iterable[Path]:
    with small_disk(tmp_path / "disk", megabytes=6) as path:
        yield path


def test_a_full_disk_is_said_once_and_history_goes_on_with_room(disk: Path) -> None:
    said = Said()
    keeper = said.keeper(disk)
    keep(keeper, rates([1.0] * 60))
    ballast = disk / "ballast"
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
    mean = ask(disk, "requests", START, START + 720, points=720).values["mean"]
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
