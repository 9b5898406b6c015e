"""Whether a change lasts and is plain: what gives its token back to the budget."""

import dataclasses
import math

import pytest

from alerts.aftermath import LASTS_S, Aftermath
from detector.settings import DetectorSettings
from probes.histogram import bucket_of
from tests.alerts.examples import T0, WEB_API, ended, finding
from tests.program.windows import window

START = T0 + 15  # finding() is detected then


def rate(values, *, before=100.0, direction="up", width=1.0, signal="requests"):
    """Return after which windows a finding is plain, of those with these values."""
    one = finding(signal=signal, direction=direction, before=before, after=0.0, unit="1/s")
    aftermath = Aftermath(DetectorSettings().least_change)
    count = 50.0 if signal == "resets" else math.nan
    told = []
    for number, value in enumerate(values):
        rows = [(WEB_API, signal, value, count)] if value is not None else []
        at = window(rows, time=START + number * width, width=width, nominal=width)
        told += [number] * len(aftermath.update(at, [one]))
    return told


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([150.0] * 30, [9]),
        ([140.0] * 30, []),  # 1.2 twice is 1.44
        ([145.0] * 9, []),  # not long enough
        ([1000.0] * 3 + [100.0] * 7, []),  # a spike is gone in the second half
        ([100.0] * 5 + [400.0] * 30, []),  # and one that comes later is another change
        ([150.0, None] * 10, [18]),  # ten seconds that were measured
        ([math.nan] * 5 + [150.0] * 10, [14]),
    ],
)
def test_ten_seconds_of_twice_the_least_change(values, told):
    assert rate(values) == told


def test_a_fall_is_plain_by_the_same_measure():
    assert rate([63.0] * 12, direction="down") == [9]
    assert rate([66.0] * 12, direction="down") == []
    assert rate([150.0] * 12, direction="down") == []


def test_what_came_from_nothing_is_plain_and_nothing_is_not():
    assert rate([3.0] * 12, before=0.0) == [9]
    assert rate([0.0] * 12, before=0.0) == []
    assert rate([0.0] * 12, before=0.0, direction="down") == []


def test_windows_of_a_minute_take_two():
    assert rate([150.0] * 3, width=60.0) == [1]


def test_a_share_is_plain_by_points():
    assert rate([0.021] * 12, before=0.01, signal="resets") == [9]
    assert rate([0.019] * 12, before=0.01, signal="resets") == []


def test_nothing_is_plain_where_nobody_said_what_is_news():
    assert rate([1e9] * 30, signal="a gauge") == []


def test_what_ended_is_not_looked_at_any_more():
    aftermath = Aftermath(DetectorSettings().least_change)
    one = finding(signal="requests", before=100.0, unit="1/s")
    for number in range(20):
        at = window([(WEB_API, "requests", 500.0, math.nan)], time=START + number)
        assert aftermath.update(at, [one] if number < 8 else []) == []


def test_the_windows_that_found_it_do_not_count():
    aftermath = Aftermath(DetectorSettings().least_change)
    one = finding(signal="requests", before=100.0, unit="1/s")
    found = []
    for number in range(-10, 20):
        value = 500.0 if number < 0 else 100.0
        at = window([(WEB_API, "requests", value, math.nan)], time=START + number)
        found += aftermath.update(at, [one])
    assert found == []


def test_what_is_new_has_no_before_to_compare_with():
    aftermath = Aftermath(DetectorSettings().least_change)
    one = finding(signal="new_pair", direction="new", before=None, after=None)
    for number in range(20):
        rows = [(WEB_API, "requests", 500.0, math.nan)]
        assert aftermath.update(window(rows, time=START + number), [one, ended(one)]) == []


@pytest.mark.parametrize(("quantile", "told"), [(0.99, 1), (0.5, 0)])
def test_a_latency_is_compared_at_the_quantile_that_moved(quantile, told):
    aftermath = Aftermath(DetectorSettings().least_change)
    one = dataclasses.replace(
        finding(before=0.0021 if quantile == 0.5 else 0.005), evidence={"quantile": quantile}
    )
    quick, slow = (int(bucket_of([ns])[0]) for ns in (2_100_000, 50_000_000))
    found = []
    for number in range(int(LASTS_S) + 2):
        at = window(
            [(WEB_API, "request_latency", 0.0021, 100.0)],
            time=START + number,
            histograms={0: {quick: 95, slow: 5}},
        )
        found += aftermath.update(at, [one])
    assert len(found) == told
