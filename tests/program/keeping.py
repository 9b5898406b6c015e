"""A keeper of history with tiers that are soon full, windows for it, and what it kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from probes.window import Window
from tailrace.history import database
from tailrace.history.keeper import Keeper
from tailrace.history.reader import HistoryReader, Series
from tailrace.history.settings import HistorySettings, Tier
from tests.program.windows import WEB_API, window

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
