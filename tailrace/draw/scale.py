"""Axes: round values to write beside a picture, in units for people and times in UTC."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Final

_STEPS_S: Final = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200,
    86_400, 172_800, 345_600, 604_800,
)  # fmt: skip
_DAY_S: Final = 86_400
_UNITS: Final[dict[str, Sequence[tuple[float, str]]]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "B/s": ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")),
    "ratio": ((0.01, "%"),),
    "1/s": ((1.0, "/s"),),
}


def value_ticks(top: float, unit: str, *, most: int = 5) -> list[tuple[float, str]]:
    """Return round values from 0 on, each with its text ("20 ms"); the last is `top` or more.

    Args:
        top: the largest value to show, in `unit`; above 0.
        unit: as in `probes.window.UNITS`.
        most: so many above 0, or fewer.
    """
    step = _round_up(top / most)
    factor, name = _scaled(step * math.ceil(top / step - 1e-9), unit)
    count = math.ceil(top / step - 1e-9)
    return [
        (step * n, f"{step * n / factor:,.10g}" + (f" {name}" if name else ""))
        for n in range(count + 1)
    ]


def _round_up(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next((n * power for n in (1.0, 2.0, 5.0) if n * power >= step * (1 - 1e-9)), 10 * power)


def _scaled(top: float, unit: str) -> tuple[float, str]:
    steps = _UNITS.get(unit, ((1.0, unit),))
    return next((step for step in steps if top >= step[0]), steps[-1])


def time_ticks(start: float, end: float, *, most: int = 7) -> list[tuple[float, str]]:
    """Return round times within a span, epoch seconds, each with its text in UTC ("14:05").

    The first, and every one at midnight, has its date as well.
    """
    step = next((s for s in _STEPS_S if (end - start) / s <= most), _STEPS_S[-1])
    while (end - start) / step > most:
        step *= 2
    first = math.ceil(start / step) * step
    ticks = []
    for number in range(int((end - first) // step) + 1 if end >= first else 0):
        moment = first + number * step
        ticks.append((float(moment), _time_text(moment, step, dated=number == 0)))
    return ticks


def _time_text(moment: float, step: float, *, dated: bool) -> str:
    at = dt.datetime.fromtimestamp(moment, tz=dt.UTC)
    if step >= _DAY_S:
        return f"{at:%b} {at.day}"
    clock = f"{at:%H:%M:%S}" if step < 60 else f"{at:%H:%M}"
    return f"{at:%b} {at.day}, {clock}" if dated or moment % _DAY_S == 0 else clock
