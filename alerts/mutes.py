"""Mute windows: hours of the week in which certain incidents are told to nobody.

They go by the clock on the wall of their time zone. Where that clock is set forward, the part of
a window that it skips is not there; where it is set back, what it shows twice is muted twice.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from alerts.matchers import Matcher

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN: Final = 1440


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute:
    """One recurring window.

    Attributes:
        name: what it is for; people are told it as the reason.
        matchers: which incidents it is about; without any, all.
        days: on which it begins, 0 is Monday.
        first: minute of the day at which it begins, 0 to 1439.
        last: minute of the day before which it ends, 1 to 1440; below `first`, of the day after.
        zone: by whose clock.
    """

    name: str
    matchers: tuple[Matcher, ...]
    days: frozenset[int]
    first: int
    last: int
    zone: ZoneInfo

    def holds(self, now: float) -> bool:
        """Return whether a moment, epoch seconds, is within the window."""
        local = dt.datetime.fromtimestamp(now, self.zone)
        minute = local.hour * 60 + local.minute
        today, yesterday = local.weekday(), (local.weekday() - 1) % 7
        if self.first < self.last:
            return today in self.days and self.first <= minute < self.last
        return (today in self.days and minute >= self.first) or (
            yesterday in self.days and minute < self.last
        )
