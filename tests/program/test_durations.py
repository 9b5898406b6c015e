"""Durations, rates and moments as people write them."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import durations


def test_examples() -> None:
    assert doctest.testmod(durations).failed == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("1s", 1), ("45s", 45), ("10m", 600), ("1h", 3600), ("2d", 172800), (0.5, 0.5),
     ("2", 2), ("1.5h", 5400), (" 3 s ", 3), (0, 0)],
)  # fmt: skip
def test_durations(text: str | float, seconds: float) -> None:
    assert durations.duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "1 fortnight", "-1s", "inf", "nan", "1s2m", -1, True, None]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        durations.duration_s(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1/week", 1), ("2/day", 14), ("1/month", 7 / 30), ("3 per week", 3), ("0.5 / day", 3.5)],
)
def test_rates(text: str, rate: float) -> None:
    assert durations.per_week(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "1", "1/year", "0/week", "-1/week", "week", 1])
def test_no_rates(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        durations.per_week(text)


def test_moments() -> None:
    assert durations.moment_s("1h", now=10_000) == 6_400
    assert durations.moment_s("now", now=7) == 7
    assert durations.moment_s("1970-01-01T00:01:00Z", now=0) == 60
    assert durations.moment_s("12.5", now=0) == 12.5
    with pytest.raises(ValueError, match="'yesterday' is not a moment"):
        durations.moment_s("yesterday", now=0)


@given(st.one_of(st.floats(0, 1e7), st.integers(0, 10**7).map(float)))
def test_exact_text_reads_back(seconds: float) -> None:
    assert durations.duration_s(durations.exact_text(seconds)) == seconds
