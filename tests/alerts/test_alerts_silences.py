"""Silences: made, stored beside a daemon, ended, and over by themselves."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts import schema, silences
from alerts.database import Database
from alerts.errors import StoreError
from alerts.matchers import parse_all
from tests.alerts.control import silence
from tests.alerts.examples import T0

DAY_S = 86_400.0


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    Database.open(tmp_path).close()
    return tmp_path


def test_a_silence_is_read_back_as_it_was_written(state_dir: Path) -> None:
    first = silence("service=redis", "client=~cron|backup", 'root!=" x"', comment="ümzug, \n böse")
    later = silence("server=a", start=T0 + 60, author="bob")
    for each in (later, first, first):
        silences.add(state_dir, each)
    assert silences.stored(state_dir) == [first, later]
    assert first.comment == "ümzug, böse"


def test_a_daemon_at_work_reads_it_at_its_next_step(state_dir: Path) -> None:
    with_daemon = Database.open(state_dir)
    try:
        with with_daemon.transaction() as db:
            assert silences.load(db) == []
        silences.add(state_dir, silence("service=redis"))
        with with_daemon.transaction() as db:
            assert silences.load(db, after=T0) == [silence("service=redis")]
            assert silences.load(db, after=T0 + 3600) == []
    finally:
        with_daemon.close()


def test_writing_waits_for_a_transaction_of_the_daemon(state_dir: Path) -> None:
    daemon = Database.open(state_dir)
    written = threading.Event()

    def write() -> None:
        silences.add(state_dir, silence("service=redis"))
        written.set()

    thread = threading.Thread(target=write)
    try:
        with daemon.transaction():
            thread.start()
            assert not written.wait(0.2)
        thread.join(10)
        assert written.is_set()
        assert len(silences.stored(state_dir)) == 1
    finally:
        thread.join(10)
        daemon.close()


def test_end(state_dir: Path) -> None:
    active, pending = silence("service=a"), silence("service=b", start=T0 + 600)
    silences.add(state_dir, active)
    silences.add(state_dir, pending)
    ended = silences.end(state_dir, active.id[:6], now=T0 + 60)
    assert (ended.id, ended.starts, ended.ends) == (active.id, T0, T0 + 60)
    assert silences.end(state_dir, pending.id, now=T0 + 60).starts == T0 + 60
    assert [each.state(T0 + 60) for each in silences.stored(state_dir)] == ["expired", "expired"]
    with pytest.raises(StoreError, match=f"{active.id} is over already, since 2026-01-02 03:05:05"):
        silences.end(state_dir, active.id, now=T0 + 70)
    for nothing in ("", "nonsense"):
        with pytest.raises(StoreError, match="no silence has the id"):
            silences.end(state_dir, nothing, now=T0)


def test_end_takes_no_start_of_several_ids(state_dir: Path) -> None:
    several = [silence(f"service={number}") for number in range(17)]
    for each in several:
        silences.add(state_dir, each)
    starts = [each.id[0] for each in several]
    shared = next(start for start in starts if starts.count(start) > 1)
    with pytest.raises(StoreError, match="more than one silence starts with"):
        silences.end(state_dir, shared, now=T0)
    assert all(each.state(T0) == "active" for each in silences.stored(state_dir))


@given(st.floats(0, 3600), st.floats(1, 3600), st.floats(-10, 8000))
def test_it_holds_from_its_start_to_before_its_end(
    delay_s: float, length_s: float, at_s: float
) -> None:
    one = silence("service=a", start=T0 + delay_s, length_s=length_s)
    now = T0 + at_s
    assert (one.state(now) == "active") == (one.starts <= now < one.ends)
    assert (one.state(now) == "pending") == (now < one.starts)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "over": ({"ends": T0}, "it would be over already"),
    "before it starts": ({"starts": T0 + 90}, "it must end after it starts"),
    "long": ({"ends": T0 + 30 * DAY_S + 1}, r"lasts at most 30 d: .* \[\[alerts.mute\]\]"),
    "far": ({"starts": T0 + 400 * DAY_S, "ends": T0 + 401 * DAY_S}, "in more than a year"),
    "no comment": ({"comment": " \n"}, "the comment is empty"),
    "long comment": ({"comment": "x" * 501}, "at most 500 characters, not 501"),
    "no author": ({"author": "\x07"}, "the author is empty"),
    "everything": ({"matchers": parse_all(["service=~.*"])}, "it would silence everything"),
    "nothing said": ({"matchers": ()}, "it would silence everything"),
    "much": ({"matchers": parse_all(f"service=~{n}.*" for n in range(21))}, "at most 20 matchers"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str) -> None:
    changes, message = MISTAKES[mistake]
    right: dict[str, Any] = {
        "matchers": parse_all(["service=a"]), "starts": T0, "ends": T0 + 60, "comment": "c",
        "author": "a", "now": T0,
    }  # fmt: skip
    silences.make(**right)
    with pytest.raises(ValueError, match=message):
        silences.make(**right | changes)


def test_the_longest_there_is() -> None:
    assert silence("service=a", length_s=30 * DAY_S).state(T0 + 30 * DAY_S - 1) == "active"


def test_control_characters_do_not_get_through() -> None:
    one = silence("service=a", comment="a\x1b[31m\tb\nc", author="e\x1bve")
    assert (one.comment, one.author) == ("a[31m b c", "eve")


def test_a_file_of_an_older_version_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(schema, "VERSION", 3)
        Database.open(tmp_path).close()
    assert silences.stored(tmp_path) == []
    with pytest.raises(StoreError, match="start this version's `tailrace run` once"):
        silences.add(tmp_path, silence("service=a"))
    Database.open(tmp_path).close()  # the daemon brings it up
    silences.add(tmp_path, silence("service=a"))
    assert len(silences.stored(tmp_path)) == 1


def test_without_a_daemon_ever_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has the daemon run with this state directory"):
        silences.add(tmp_path, silence("service=a"))


def test_prune(state_dir: Path) -> None:
    silences.add(state_dir, silence("service=a"))
    silences.add(state_dir, silence("service=b", length_s=2 * DAY_S))
    daemon = Database.open(state_dir)
    try:
        with daemon.transaction() as db:
            assert silences.prune(db, before=T0 + DAY_S) == 1
            assert [str(s.matchers[0]) for s in silences.load(db)] == ["service=b"]
    finally:
        daemon.close()


def test_a_comment_is_never_sql(state_dir: Path) -> None:
    nasty = silence("service='; DROP TABLE silences; --", comment="'; DROP TABLE silences; --")
    silences.add(state_dir, nasty)
    assert silences.stored(state_dir) == [nasty]
    with sqlite3.connect(state_dir / "tailrace.db") as db:
        assert db.execute("SELECT count(*) FROM silences").fetchone() == (1,)
    db.close()
