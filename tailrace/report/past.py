"""The stored history, as a report asks it: one line per finding, and what pairs did."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from detector.finding import Finding
from probes.window import Kind, Pair, kind_of
from tailrace.draw.chart import Floats
from tailrace.errors import TailraceError
from tailrace.history.reader import HistoryReader, Series

_OF_PRESENCE: Final = ("requests", "connections", "bytes_sent")
"""What shows that a pair came or went, the best first."""
_QUANTILES: Final[Mapping[str, float]] = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_NAMES: Final = {"p50": "median", "p90": "90th percentile", "p99": "99th percentile"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one signal of a pair did, ready to be drawn.

    Attributes:
        signal: which.
        unit: of all values.
        name: what the line is, e.g. "median".
        shade_name: what lies between low and high.
        step_s: length of a step, seconds.
        time: float64[n], starts of steps, epoch seconds.
        line: float64[n], NaN for a gap.
        low: float64[n] or None.
        high: float64[n] or None.
    """

    signal: str
    unit: str
    name: str
    shade_name: str
    step_s: float
    time: Floats
    line: Floats
    low: Floats | None
    high: Floats | None


class Past:
    """The history of one state directory; without one, or with a damaged one, it is empty.

    Attributes:
        problem: why it cannot be read, in words; "" when it can. What happened is known without
            it, and must be told.
    """

    def __init__(self, reader: HistoryReader | None, problem: str = "") -> None:
        """Ask this reader; None when there is a problem."""
        self._reader, self.problem = reader, problem

    @classmethod
    @contextlib.contextmanager
    def open(cls, directory: Path) -> Iterator[Self]:
        """Open the history of a state directory."""
        try:
            reader = HistoryReader(directory)
        except TailraceError as error:
            yield cls(None, str(error))
            return
        with contextlib.closing(reader):
            yield cls(reader)

    def traffic(self, since: float, until: float) -> dict[Pair, float]:
        """Return requests per second of each pair that was there; 0 where there are none."""
        if self._reader is None:
            return {}
        try:
            found = self._reader.pairs(since=since, until=until)
        except TailraceError as error:
            self._fail(error)
            return {}
        return {
            each.pair: 0.0 if math.isnan(each.requests_per_s) else each.requests_per_s
            for each in found
        }

    def of(self, finding: Finding, *, since: float, until: float, points: int = 300) -> Line | None:
        """Return what shows a finding: its signal, or of a pair that came or went its traffic.

        Args:
            finding: it; of a latency, the quantile that moved is taken.
            since: epoch seconds.
            until: epoch seconds.
            points: at most so many steps.

        Returns:
            None when there is no value in that time.
        """
        presence = kind_of(finding.signal) is Kind.PRESENCE
        for signal in _OF_PRESENCE if presence else (finding.signal,):
            if self._reader is None:
                return None
            try:
                series = self._reader.series(
                    finding.pair, signal, since=since, until=until, points=points
                )
            except TailraceError as error:
                self._fail(error)
                return None
            line = line_of(series, finding)
            if np.isfinite(line.line).any():
                return line
        return None

    def _fail(self, error: TailraceError) -> None:
        self.problem = str(error)
        if self._reader is not None:
            self._reader.close()
        self._reader = None


def line_of(series: Series, finding: Finding | None = None) -> Line:
    """Return a signal's past as it is drawn; of a latency the quantile that a finding is about."""
    values = series.values
    if series.kind is Kind.LATENCY:
        key = _quantile(finding)
        # The last hundredth of a median's samples would fill the picture with chance
        high = "p90" if key == "p50" else "p99"
        return _made(series, line=values[key], name=_NAMES[key], low=values["p50"],
                     high=values[high], shade_name=f"median to {_NAMES[high]}")  # fmt: skip
    if series.kind is Kind.RATIO:
        return _made(series, line=values["share"], name="", low=None, high=None, shade_name="")
    return _made(series, line=values["mean"], name="mean of each step", low=values["min"],
                 high=values["max"], shade_name="least to most")  # fmt: skip


def _quantile(finding: Finding | None) -> str:
    """Return the stored quantile nearest to the one that moved."""
    moved = 0.5 if finding is None else finding.evidence.get("quantile", 0.5)
    wanted = moved if isinstance(moved, float) else 0.5
    return min(_QUANTILES, key=lambda key: abs(_QUANTILES[key] - wanted))


def _made(
    series: Series,
    *,
    line: Floats,
    name: str,
    low: Floats | None,
    high: Floats | None,
    shade_name: str,
) -> Line:
    # Where a step is a window, least and most are its value: no shade to speak of
    flat = low is None or high is None or bool(np.all((high - low)[np.isfinite(high - low)] == 0.0))
    return Line(
        signal=series.signal,
        unit=series.unit,
        name=name,
        shade_name="" if flat else shade_name,
        step_s=series.step_s,
        time=series.time,
        line=line,
        low=None if flat else low,
        high=None if flat else high,
    )
