"""Mute windows go by the clock on the wall, also where it is set forward or back."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alerts.mutes import DAY_MIN, Mute

UTC, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu",
     "Pacific/Apia"]
).map(ZoneInfo)  # fmt: skip
EVERY_DAY = frozenset(range(7))
ALL_DAYS_OR_SOME = st.frozensets(st.integers(0, 6), min_size=1)
MOMENTS = st.integers(1_700_000_000, 1_900_000_000)


def mute(first: int, last: int, days: frozenset[int] = EVERY_DAY, zone: ZoneInfo = UTC) -> Mute:
    return Mute(name="m", matchers=(), days=days, first=first, last=last, zone=zone)


def muted_minutes(of: Mute, day: str) -> int:
    """Return how many minutes are muted in the two days from noon before a local day on."""
    noon = dt.datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=of.zone) - dt.timedelta(days=1)
    start = int(noon.timestamp())
    return sum(of.holds(start + 60 * minute) for minute in range(2 * DAY_MIN))


WINDOWS = st.tuples(st.integers(0, DAY_MIN - 1), st.integers(1, DAY_MIN)).filter(
    lambda both: both[0] != both[1]
)


@given(WINDOWS, ALL_DAYS_OR_SOME, ZONES, MOMENTS)
def test_it_holds_by_the_wall_clock(
    window: tuple[int, int], days: frozenset[int], zone: ZoneInfo, now: int
) -> None:
    # By the offset from UTC alone: the clock on the wall as a number of minutes since 1970
    offset = dt.datetime.fromtimestamp(now, zone).utcoffset()
    assert offset is not None
    wall_min = (now + int(offset.total_seconds())) // 60
    first, last = window
    length = (last - first) % DAY_MIN or DAY_MIN
    # Whether one of the windows that began in the last two days is still there
    expected = any(
        0 <= wall_min - (day * DAY_MIN + first) < length
        for day in (wall_min // DAY_MIN, wall_min // DAY_MIN - 1)
        if (day + 3) % 7 in days  # 1970-01-01 was a Thursday
    )
    assert mute(first, last, days, zone).holds(now) == expected


@given(WINDOWS, ALL_DAYS_OR_SOME, ZONES, MOMENTS)
def test_it_comes_again_after_a_week_of_the_same_clock(
    window: tuple[int, int], days: frozenset[int], zone: ZoneInfo, now: int
) -> None:
    week = 7 * 86_400
    before, after = (dt.datetime.fromtimestamp(t, zone) for t in (now, now + week))
    assume(before.utcoffset() == after.utcoffset())
    of = mute(*window, days, zone)
    assert of.holds(now) == of.holds(now + week)


@given(WINDOWS, ZONES, MOMENTS)
def test_a_window_and_the_rest_of_the_day_are_the_whole_day(
    window: tuple[int, int], zone: ZoneInfo, now: int
) -> None:
    first, last = window
    assume(last != DAY_MIN and first != 0)
    assert mute(first, last, zone=zone).holds(now) != mute(last, first, zone=zone).holds(now)


@pytest.mark.parametrize(
    ("first", "last", "day", "minutes"),
    [
        ("02:00", "03:00", "2026-03-28", 60),  # an ordinary night in Berlin
        ("02:00", "03:00", "2026-03-29", 0),  # the clock goes from 02:00 to 03:00
        ("02:30", "03:15", "2026-03-29", 15),
        ("01:00", "05:00", "2026-03-29", 180),
        ("22:00", "06:00", "2026-03-29", 420),
        ("02:00", "03:00", "2026-10-25", 120),  # from 03:00 back to 02:00
        ("01:00", "05:00", "2026-10-25", 300),
        ("22:00", "06:00", "2026-10-25", 540),
    ],
)
def test_the_nights_of_daylight_saving(first: str, last: str, day: str, minutes: int) -> None:
    def minute(clock: str) -> int:
        return int(clock[:2]) * 60 + int(clock[3:])

    # the night before the given day, and nothing of the next
    night = frozenset({dt.date.fromisoformat(day).weekday()})
    if minute(last) < minute(first):
        night = frozenset({(min(night) - 1) % 7})
    assert muted_minutes(mute(minute(first), minute(last), night, BERLIN), day) == minutes


def test_a_window_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    saturday = mute(23 * 60, 90, frozenset({5}))

    def at(text: str) -> bool:
        return saturday.holds(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp())

    assert not at("2026-11-27T23:30")  # Friday
    assert not at("2026-11-28T00:30")
    assert not at("2026-11-28T22:59")
    assert at("2026-11-28T23:00")
    assert at("2026-11-29T01:29")
    assert not at("2026-11-29T01:30")
    assert not at("2026-11-29T23:30")
