"""A time series as SVG: what it was like, what it should be like, and what happened when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree import ElementTree as Tree

import numpy as np
from numpy.typing import NDArray

from tailrace.draw import markup, scale

Floats = NDArray[np.float64]
MarkKind = Literal["onset", "detected", "ended", "trigger", "other"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 14.0, 34.0, 28.0
_LEAST_TOP: Final = {"s": 1e-6, "ratio": 0.01, "1/s": 1.0, "B/s": 1.0}
"""What the value axis reaches at least: noise around nothing must not fill the picture."""
_SHADE_ROOM: Final = 2.0
"""A spread that is higher than so many times the line is cut: the line is what is looked at."""
_LABEL_PX: Final = 6.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Where values are expected.

    Attributes:
        low: in the chart's unit.
        high: likewise.
        until: up to when it was learned, epoch seconds; after that it says what was expected.
        label: what it is, e.g. "baseline: 90 % of the hour before".
    """

    low: float
    high: float
    until: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment: when, epoch seconds; what kind, which decides its looks; and what to call it."""

    at: float
    kind: MarkKind
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What to draw.

    Attributes:
        title: what it is of, in a few words.
        desc: what there is to see, in sentences, for those who cannot.
        unit: of all values: "s", "1/s", "B/s", "ratio", or any other text.
        time: float64[n], epoch seconds, ascending; starts of steps.
        step_s: length of a step, seconds.
        line: float64[n], NaN for a gap; what is below 0 lies on the axis.
        low: float64[n], the least within each step; None draws no shade.
        high: float64[n], the most.
        since: where the time axis begins, epoch seconds.
        until: where it ends.
        band: where values are expected.
        marks: what happened when.
        name: what the line is, e.g. "median"; "" when its title says it.
        shade_name: what is between low and high, e.g. "least to most".
        width: in pixels.
        height: in pixels.
    """

    title: str
    desc: str
    unit: str
    time: Floats
    step_s: float
    line: Floats
    since: float
    until: float
    low: Floats | None = None
    high: Floats | None = None
    band: Band | None = None
    marks: Sequence[Mark] = ()
    name: str = ""
    shade_name: str = ""
    width: float = 760.0
    height: float = 240.0


def svg(chart: Chart) -> str:
    """Return the picture of a chart."""
    root = markup.svg(chart.width, chart.height, css="chart", title=chart.title, desc=chart.desc)
    plot = _Plot(chart, root)
    plot.axes()
    plot.marks_ground()
    if chart.band is not None:
        plot.band(chart.band)
    plot.series()
    plot.marks()
    plot.legend()
    return markup.render(root)


class _Plot:
    """One picture being drawn: where a time and a value are, in pixels."""

    def __init__(self, chart: Chart, root: Tree.Element) -> None:
        self._chart, self._root = chart, root
        self._right, self._bottom = chart.width - _RIGHT, chart.height - _BOTTOM
        self._ticks = scale.value_ticks(_top(chart), chart.unit)
        self._span_s = max(chart.until - chart.since, 1e-3)

    def _x(self, at: float) -> float:
        share = (at - self._chart.since) / self._span_s
        return _LEFT + min(max(share, 0.0), 1.0) * (self._right - _LEFT)

    def _y(self, value: float) -> float:
        share = min(max(value / self._ticks[-1][0], 0.0), 1.0)
        return self._bottom - share * (self._bottom - _TOP)

    def axes(self) -> None:
        """Draw the values at the left and the times below."""
        for value, text in self._ticks:
            y = self._y(value)
            markup.add(self._root, "line", class_="grid", x1=_LEFT, x2=self._right, y1=y, y2=y)
            markup.add(self._root, "text", text, class_="tick", x=_LEFT - 6, y=y + 4,
                       text_anchor="end")  # fmt: skip
        for at, text in scale.time_ticks(self._chart.since, self._chart.until):
            x = self._x(at)
            markup.add(self._root, "line", class_="grid", x1=x, x2=x, y1=self._bottom,
                       y2=self._bottom + 4)  # fmt: skip
            if x < self._right - 46:  # what the name of the axis needs
                markup.add(self._root, "text", text, class_="tick", x=x, y=self._bottom + 17,
                           text_anchor="middle")  # fmt: skip
        markup.add(self._root, "text", "UTC", class_="unit", x=self._right,
                   y=self._bottom + 17, text_anchor="end")  # fmt: skip

    def band(self, band: Band) -> None:
        """Draw where values were before, and, fainter, where they should be after."""
        until = self._x(band.until)
        top, bottom = self._y(band.high), self._y(band.low)
        height = max(bottom - top, 2.0)
        for css, left, right in (("band", _LEFT, until), ("band-on", until, self._right)):
            if right > left:
                markup.add(self._root, "rect", class_=css, x=left, y=top, width=right - left,
                           height=height)  # fmt: skip
        for y in (top, top + height):
            markup.add(self._root, "line", class_="band-edge", x1=_LEFT, x2=self._right, y1=y, y2=y)

    def series(self) -> None:
        """Draw the line, a dot for a value between two gaps, and the shade around it."""
        chart = self._chart
        if chart.low is not None and chart.high is not None:
            whole = np.isfinite(chart.low) & np.isfinite(chart.high)
            for part in _runs(whole):
                upper = self._points(part, chart.high)
                lower = self._points(part, chart.low)[::-1]
                markup.add(self._root, "path", class_="shade", d=_path([*upper, *lower]) + "Z")
        for part in _runs(np.isfinite(chart.line)):
            markup.add(self._root, "path", class_="line", d=_path(self._points(part, chart.line)))
        if not np.isfinite(chart.line).any():
            markup.add(self._root, "text", "no values in this time", class_="none",
                       x=(_LEFT + self._right) / 2, y=(_TOP + self._bottom) / 2,
                       text_anchor="middle")  # fmt: skip

    def _points(self, part: slice, values: Floats) -> list[tuple[float, float]]:
        share = (self._chart.time[part] + self._chart.step_s / 2 - self._chart.since) / self._span_s
        height = np.clip(values[part] / self._ticks[-1][0], 0.0, 1.0)
        x = _LEFT + np.clip(share, 0.0, 1.0) * (self._right - _LEFT)
        y = self._bottom - height * (self._bottom - _TOP)
        points = list(zip(np.round(x, 1).tolist(), np.round(y, 1).tolist(), strict=True))
        # One value alone has no length, and a line without length is not drawn
        return points if len(points) > 1 else [points[0], (points[0][0] + 0.5, points[0][1])]

    def marks_ground(self) -> None:
        """Draw the ground from the onset on, until the end if it ended."""
        at = {mark.kind: mark.at for mark in self._chart.marks}
        if "onset" in at:
            left, right = self._x(at["onset"]), self._x(at.get("ended", self._chart.until))
            if right > left:
                markup.add(self._root, "rect", class_="after", x=left, y=_TOP,
                           width=right - left, height=self._bottom - _TOP)  # fmt: skip

    def marks(self) -> None:
        """Draw what happened when; labels that would lie on each other take two lines."""
        shown = [m for m in self._chart.marks if self._chart.since <= m.at <= self._chart.until]
        taken: list[tuple[float, float, float]] = []
        # The onset's line is drawn last, on top, but its label is placed first
        for mark in sorted(shown, key=lambda m: (m.kind == "onset", m.at)):
            x = self._x(mark.at)
            markup.add(self._root, "line", class_=f"mark {mark.kind}", x1=x, x2=x, y1=_TOP - 4,
                       y2=self._bottom)  # fmt: skip
        for mark in sorted(shown, key=lambda m: (m.kind != "onset", m.at)):
            x, length = self._x(mark.at), (len(mark.label) + 1) * _LABEL_PX
            ends = x + length > self._right
            left = x - length if ends else x
            free = (
                y
                for y in (_TOP - 8, _TOP - 21)
                if not any(y == at and left < b and a < left + length for at, a, b in taken)
            )
            y = next(free, None)
            if y is None:
                continue  # its line is there, and its time is in the caption
            taken.append((y, left, left + length))
            markup.add(self._root, "text", mark.label, class_=f"mark-label {mark.kind}", x=x,
                       y=y, text_anchor="end" if ends else "")  # fmt: skip

    def legend(self) -> None:
        """Say within the picture what the line, the shade and the band are."""
        chart = self._chart
        band = chart.band
        said = [chart.name, chart.shade_name and f"shade: {chart.shade_name}"]
        text = "; ".join(each for each in said if each)
        if text:
            markup.add(self._root, "text", text, class_="unit", x=_LEFT + 6, y=_TOP + 12)
        if band is not None:
            above = self._y(band.high) - 5
            y = above if above > _TOP + 24 else self._y(band.low) + 13
            if y < self._bottom - 2:
                markup.add(self._root, "text", band.label, class_="band-label", x=_LEFT + 6, y=y)


def _top(chart: Chart) -> float:
    """Return what the value axis has to reach."""
    line = _highest(chart.line)
    tops = [line, _LEAST_TOP.get(chart.unit, 1e-9)]
    if chart.band is not None:
        tops.append(chart.band.high)
    if chart.high is not None:
        tops.append(min(_highest(chart.high), _SHADE_ROOM * line))
    return max(tops) * 1.05


def _highest(values: Floats) -> float:
    there = values[np.isfinite(values)]
    return float(there.max()) if there.size else 0.0


def _runs(there: NDArray[np.bool_]) -> Iterator[slice]:
    """Yield the stretches without a gap."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    for start, end in edges.reshape(-1, 2).tolist():
        yield slice(start, end)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def expected(
    line: Floats, time: Floats, *, onset: float, step_s: float = 0.0, hours: float = 1.0
) -> Floats | None:
    """Return float64[2], the range of the middle 90 % of values in the time before an onset.

    Args:
        line: float64[n], NaN for a gap.
        time: float64[n], epoch seconds.
        onset: epoch seconds.
        step_s: length of a step, seconds; one that reaches beyond the onset does not count.
        hours: how long before it.

    Returns:
        None when there are fewer than five values.
    """
    before = line[(time >= onset - hours * 3600.0) & (time < onset) & (time + step_s <= onset)]
    there = before[np.isfinite(before)]
    if len(there) < 5 or not math.isfinite(onset):
        return None
    return np.quantile(there, [0.05, 0.95])
