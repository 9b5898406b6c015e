"""The feed of changes: begin, end and peak of what is significant, for a day."""

import math

import pytest

from alerts import feed
from alerts.feed import KEPT_S, MOST_OPEN, OVER_AFTER_S, Feed
from alerts.store import Store
from detector.calibration import Change
from detector.finding import finding_id
from probes.window import Pair
from tests.alerts.examples import T0, WEB_API


def change(nats=20.0, *, pair=WEB_API, signal="requests", onset=T0, **more):
    base = {"direction": "up", "before": 10.0, "after": 30.0}
    return Change(pair=pair, signal=signal, onset=onset, nats=nats, **(base | more))


def shown(rows):
    return [(row.signal, row.seen - T0, row.ended and row.ended - T0, row.peak) for row in rows]


def test_a_row_has_its_begin_its_end_and_its_peak():
    rows = Feed()
    for second, nats in enumerate([14.0, 18.0, 16.0], start=5):
        rows.update([change(nats, after=nats)], end=T0 + second)
    [row] = rows.unstored()
    assert row.id == finding_id(WEB_API, "requests", "up", T0)
    assert (row.onset, row.peak, row.after) == (T0, 18.0, 18.0)
    assert (row.seen, row.ended, len(rows)) == (T0 + 7, None, 1)
    rows.update([], end=T0 + 7 + OVER_AFTER_S - 1)
    assert len(rows) == 1
    rows.update([], end=T0 + 7 + OVER_AFTER_S)
    [row] = rows.unstored()
    assert (row.ended, row.peak, len(rows)) == (T0 + 7, 18.0, 0)


def test_what_comes_back_within_a_minute_is_the_same_row():
    rows = Feed()
    rows.update([change()], end=T0 + 5)
    rows.update([], end=T0 + 30)
    rows.update([change(onset=T0 + 35)], end=T0 + 40)
    assert shown(rows.unstored()) == [("requests", 40.0, None, 20.0)]


def test_only_what_changed_is_to_be_stored():
    rows = Feed()
    rows.update([change(), change(signal="rtt")], end=T0 + 1)
    assert len(rows.unstored()) == 2
    rows.stored()
    rows.update([change()], end=T0 + 2)
    assert shown(rows.unstored()) == [("requests", 2.0, None, 20.0)]


def test_the_strongest_are_followed():
    rows = Feed()
    many = [change(float(n), pair=Pair(f"c{n}", "s", 1)) for n in range(3 * MOST_OPEN)]
    rows.update(many, end=T0)
    assert len(rows) == MOST_OPEN
    assert min(row.peak for row in rows.unstored()) == 2 * MOST_OPEN


def test_a_clock_that_is_set_back_ends_rows_and_loses_none():
    rows = Feed()
    rows.update([change()], end=T0 + 5)
    rows.update([], end=T0 - 3600)
    assert shown(rows.unstored()) == [("requests", 5.0, 5.0, 20.0)]


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as opened:
        yield opened


def commit(store, rows, *, now):
    store.commit([], snapshot=b"state", now=now, changes=rows.unstored())
    rows.stored()


def test_rows_are_stored_with_the_detectors_state_and_taken_up_again(store):
    rows = Feed()
    rows.update([change(before=math.nan), change(signal="rtt", after=math.inf)], end=T0 + 5)
    commit(store, rows, now=T0 + 5)
    stored = store.changes(still=True)
    assert {(row.signal, row.before, row.after) for row in stored} == {
        ("requests", None, 30.0),
        ("rtt", 10.0, None),
    }
    again = Feed(stored)
    again.update([change(25.0)], end=T0 + 6)
    again.update([change(25.0)], end=T0 + 80)
    commit(store, again, now=T0 + 80)
    assert sorted(shown(store.changes())) == [
        ("requests", 80.0, None, 25.0),
        ("rtt", 5.0, 5.0, 20.0),
    ]
    assert [row.signal for row in store.changes(still=True)] == ["requests"]
    assert [row.signal for row in store.changes(since=T0 + 10)] == ["requests"]
    assert store.changes(client="nobody") == store.changes(until=T0) == []
    assert len(store.changes(server="api", signal="rtt")) == 1


def test_a_day_is_kept_and_so_many_rows(store, monkeypatch):
    monkeypatch.setattr(feed, "MOST_ROWS", 3)
    rows = Feed()
    for number in range(6):
        at = T0 + number
        rows.update([change(pair=Pair(f"c{number}", "s", 1), onset=at)], end=at)
        commit(store, rows, now=at)
    assert [row.pair.client for row in store.changes()] == ["c3", "c4", "c5"]
    late = Feed()
    late.update([change(onset=T0 + KEPT_S + 4)], end=T0 + KEPT_S + 4.5)
    commit(store, late, now=T0 + KEPT_S + 4.5)
    assert [row.pair.client for row in store.changes()] == ["c5", "web"]
