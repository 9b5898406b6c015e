"""A signal's past as a chart: before and after, what was expected, and what happened when."""

from __future__ import annotations

from typing import Final

import numpy as np
from markupsafe import Markup

from alerts.incident import Trigger
from detector.finding import Finding
from probes.window import Kind
from tailrace.draw import chart
from tailrace.history.reader import Series
from tailrace.report.pictures import describe

_LINES: Final = {
    Kind.COUNT: ("mean", "min", "max", "mean", "least to most"),
    Kind.SUM: ("mean", "min", "max", "mean", "least to most"),
    Kind.GAUGE: ("mean", "min", "max", "mean", "least to most"),
    Kind.RATIO: ("share", "", "", "", ""),
    # the last hundredth would fill the picture with chance
    Kind.LATENCY: ("p50", "p50", "p90", "median", "up to the 90th percentile"),
}
"""Which values are the line and the shade around it, and what the two are called."""
_LEAST_SPREAD: Final = 0.02


def drawn(
    series: Series,
    *,
    title: str,
    since: float,
    until: float,
    finding: Finding | None = None,
    trigger: Trigger | None = None,
) -> Markup:
    """Return the chart of a signal.

    Args:
        series: its past.
        title: what it is called.
        since: where the chart begins, epoch seconds.
        until: where it ends.
        finding: the change to show: when it began, and what was normal before it.
        trigger: what probably set it off.
    """
    line, low, high, name, shade = _LINES[series.kind]
    values = series.values
    picture = chart.svg(
        chart.Chart(
            title=title,
            desc=title if finding is None else describe(finding),
            unit=series.unit,
            time=series.time,
            step_s=series.step_s,
            line=values[line],
            low=values.get(low),
            high=values.get(high),
            since=since,
            until=until,
            band=None if finding is None else _band(series, finding, values[line]),
            marks=[] if finding is None else _marks(finding, trigger),
            name=name,
            shade_name=shade,
            width=420.0,
            height=190.0,
        )
    )
    return Markup(picture)  # noqa: S704 - built as a tree, so it is escaped


def _band(series: Series, finding: Finding, line: chart.Floats) -> chart.Band | None:
    """Return where values were before the onset; the detector's baseline where none are kept."""
    kept = chart.expected(line, series.time, onset=finding.onset, step_s=series.step_s)
    if kept is None:
        if finding.before is None:
            return None
        spread = _LEAST_SPREAD * abs(finding.before)
        kept = np.array([finding.before - spread, finding.before + spread])
        label = "baseline"
    else:
        label = "baseline: 90 % of the hour before"
    return chart.Band(low=float(kept[0]), high=float(kept[1]), until=finding.onset, label=label)


def _marks(finding: Finding, trigger: Trigger | None) -> list[chart.Mark]:
    marks = [chart.Mark(at=finding.onset, kind="onset", label="onset")]
    if finding.ended is not None:
        ended = "new normal" if finding.state == "adopted" else "over"
        marks.append(chart.Mark(at=finding.ended, kind="ended", label=ended))
    if trigger is not None:
        label = trigger.kind.replace("_", " ")
        marks.append(chart.Mark(at=trigger.at, kind="trigger", label=label))
    return marks
