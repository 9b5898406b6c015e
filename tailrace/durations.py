"""Durations, rates, shares and moments as people write them."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_PER_WEEK = {"day": 7.0, "week": 1.0, "month": 7.0 / 30.0}
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/|\s+per\s+|\s+a\s+)\s*(day|week|month)\s*")


def duration_s(text: str | float) -> float:
    """Return a duration in seconds.

    Args:
        text: "100ms", "1s", "45s", "10m", "1h", "2d", or a number of seconds.

    Raises:
        ValueError: it is neither.

    >>> duration_s("10m"), duration_s("100ms"), duration_s(2)
    (600.0, 0.1, 2.0)
    """
    if isinstance(text, str):
        match = _DURATION.fullmatch(text)
        if match is None:
            try:
                value = float(text)
            except ValueError:
                raise ValueError(
                    f"{text!r} is not a duration: write it like 100ms, 1s, 45s, 10m, 1h or 2d"
                ) from None
        else:
            number, unit = match.groups()
            # Division is exact where 0.001 is not: 100ms must be 0.1
            value = float(number) / 1000 if unit == "ms" else float(number) * _UNITS_S[unit]
    elif isinstance(text, bool) or not isinstance(text, (int, float)):
        # Not a TypeError: pydantic turns only a ValueError into its own report
        raise ValueError("a duration is text like 10m, or a number of seconds")  # noqa: TRY004
    else:
        value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{text!r} is not a duration: it must be 0 or more, and finite")
    return value


def per_week(text: str) -> float:
    """Return a rate like "1/week", "2 per day" or "1/month" (30 days) in events per week.

    >>> per_week("1/day"), per_week("3 per week")
    (7.0, 3.0)
    """
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a rate: write it like 1/week, 2/day or 1/month")
    value = float(match[1]) * _PER_WEEK[match[2]]
    if value <= 0:
        raise ValueError(f"{text!r} is not a rate: it must be above 0")
    return value


def duration_text(seconds: float) -> str:
    """Return a duration as short text: 100ms, 45s, 10m, 1h, 2d, or 1h05m for those between.

    >>> [duration_text(s) for s in (0.1, 1, 1.5, 45, 90, 600, 3900, 172800)]
    ['100ms', '1s', '1.5s', '45s', '1m30s', '10m', '1h05m', '2d']
    """
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    if seconds < 60:
        return f"{seconds:g}s"
    whole = round(seconds)
    for big, small, size, step in (
        ("m", "s", 60, 1),
        ("h", "m", 3600, 60),
        ("d", "h", 86400, 3600),
    ):
        if whole < {"m": 3600, "h": 86400, "d": math.inf}[big]:
            rest = whole % size // step
            return f"{whole // size}{big}" + (f"{rest:02d}{small}" if rest else "")
    raise AssertionError(seconds)


def exact_text(seconds: float) -> str:
    """Return a duration as text that `duration_s` reads back to the same number.

    >>> [exact_text(s) for s in (0.1, 1.0, 90.0, 600.0, 7200.0, 1e-05)]
    ['100ms', '1s', '90s', '10m', '2h', '0.01ms']
    """
    text = f"{seconds * 1000:g}ms"
    if seconds < 1 and "e" not in text and duration_s(text) == seconds:
        return text
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS_S[unit] == 0:
            return f"{seconds / _UNITS_S[unit]:.0f}{unit}"
    return f"{Decimal(repr(seconds)):f}s".replace(".0s", "s")


def share(text: str | float) -> float | None:
    """Return a percentage as a share, or None for "off".

    Raises:
        ValueError: it is neither, or not above 0 % and at most 100 %.

    >>> share("0.5%"), share("10 %"), share("off")
    (0.005, 0.1, None)
    """
    if isinstance(text, str) and text.strip() == "off":
        return None
    match = _SHARE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f'{text!r} is not a share of one core: write it like "0.5%", or "off"')
    # in decimal, so that what is shown reads back to the same number
    value = float(Decimal(match[1]) / 100)
    if not 0.0 < value <= 1.0:
        raise ValueError(f'{text!r} is not above 0% and at most 100%: write "off" for no limit')
    return value


def share_text(value: float | None) -> str:
    """Return a share as text that `share` reads back.

    >>> share_text(0.005), share_text(1.0), share_text(None)
    ('0.5%', '100%', 'off')
    """
    if value is None:
        return "off"
    return f"{(Decimal(repr(value)) * 100).normalize():f}%"


def change(text: str) -> float:
    """Return the size of a change, in per cent, as a fraction.

    Raises:
        ValueError: it is none, or above 1000 %.

    >>> change("20%"), change("0.5 %")
    (0.2, 0.005)
    """
    match = _SHARE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f'{text!r} is not a change: write it like "20%"')
    value = float(Decimal(match[1]) / 100)
    if value > 10.0:
        raise ValueError(f"{text!r} is more than any change that could be waited for: 1000%")
    return value


def moment_s(text: str, *, now: float) -> float:
    """Return a moment as epoch seconds: RFC 3339, epoch seconds, "now", or a duration ago ("1h").

    Raises:
        ValueError: it is none of these.
    """
    if text == "now":
        return now
    if _DURATION.fullmatch(text):
        return now - duration_s(text)
    try:
        return epoch_s(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a moment: write how long ago (90s, 10m, 1h, 2d) "
            "or a time like 2026-01-02T03:04:05Z"
        ) from None


def later_s(text: str, *, now: float) -> float:
    """Return a moment to come as epoch seconds: as `moment_s`, but a duration is from now on.

    Raises:
        ValueError: it is none of these.
    """
    if _DURATION.fullmatch(text):
        return now + duration_s(text)
    try:
        return moment_s(text, now=now)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a moment: write in how long (90s, 10m, 1h, 2d) "
            "or a time like 2026-01-02T03:04:05Z"
        ) from None


def epoch_s(text: str) -> float:
    """Return epoch seconds of a number or an RFC 3339 time.

    Raises:
        ValueError: it is neither, it is not finite, or it has no UTC offset.
    """
    try:
        value = float(text)
    except ValueError:
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is neither epoch seconds nor an RFC 3339 time") from None
        if moment.tzinfo is None:
            raise ValueError(f"{text!r} has no UTC offset: add Z or +00:00") from None
        return moment.timestamp()
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a time")
    return value
