"""Pictures of findings: a chart with baseline, onset and cause, or a line of bars."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from alerts import telling, words
from alerts.incident import Incident, Trigger
from detector.finding import Finding
from tailrace.draw import chart
from tailrace.draw.sparkline import means, sparkline
from tailrace.report.past import Line, Past

BASELINE_S: Final = 3600.0
"""The baseline that is drawn is what the hour before the onset was like."""
_AFTER_S, _AFTER_END_S = 1800.0, 600.0
_WIDTH, _HEIGHT = 1100.0, 230.0
_BARS, _BARS_S = 12, 900.0
_LEAST_SPREAD: Final = 0.02
"""Of a baseline that is one number, as a share of it: a band must be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A chart, and what is said below it.

    Attributes:
        svg: it.
        caption: what changed, from what to what, since when, and why.
    """

    svg: str
    caption: str


def picture(
    finding: Finding, past: Past, *, until: float, incident: Incident | None = None
) -> Picture | None:
    """Return the chart of a finding.

    Args:
        finding: it, with its evidence if that is known.
        past: the history.
        until: the end of what is reported, epoch seconds.
        incident: that it is a symptom of, for what set it off.

    Returns:
        None when the history has nothing of it.
    """
    since, end = _span(finding, until)
    line = past.of(finding, since=since, until=end)
    if line is None:
        return None
    trigger = None if incident is None else incident.trigger
    caption = describe(finding, trigger)
    title = f"{words.subject(line.signal)} of {words.pair(finding.pair)}"
    svg = drawn(
        line, title=title, desc=caption, since=since, until=end, size=(_WIDTH, _HEIGHT),
        finding=finding, trigger=trigger,
    )  # fmt: skip
    return Picture(svg=svg, caption=caption)


def drawn(
    line: Line,
    *,
    title: str,
    desc: str,
    since: float,
    until: float,
    size: tuple[float, float],
    finding: Finding | None = None,
    trigger: Trigger | None = None,
) -> str:
    """Return the chart of a signal as SVG.

    Args:
        line: its past.
        title: what it is called.
        desc: what there is to see, for those who cannot.
        since: where the chart begins, epoch seconds.
        until: where it ends.
        size: width and height, pixels.
        finding: the change to show: when it began, and what was normal before it.
        trigger: what probably set it off.
    """
    return chart.svg(
        chart.Chart(
            title=title,
            desc=desc,
            unit=line.unit,
            time=line.time,
            step_s=line.step_s,
            line=line.line,
            low=line.low,
            high=line.high,
            since=since,
            until=until,
            band=None if finding is None else _band(line, finding),
            marks=[] if finding is None else _marks(finding, trigger),
            name=line.name,
            shade_name=line.shade_name,
            width=size[0],
            height=size[1],
        )
    )


def _band(line: Line, finding: Finding) -> chart.Band | None:
    """Return where values were before the onset; the detector's baseline where none are kept."""
    kept = chart.expected(line.line, line.time, onset=finding.onset, step_s=line.step_s)
    label = "baseline: 90 % of the hour before"
    if kept is None:
        if finding.before is None:
            return None
        spread = _LEAST_SPREAD * abs(finding.before)
        kept, label = np.array([finding.before - spread, finding.before + spread]), "baseline"
    return chart.Band(low=float(kept[0]), high=float(kept[1]), until=finding.onset, label=label)


def _span(finding: Finding, until: float) -> tuple[float, float]:
    """Return what to draw: the hour before, and half an hour after the onset, or its end."""
    ended = until if finding.ended is None else finding.ended + _AFTER_END_S
    wanted = max(finding.onset + _AFTER_S, ended)
    return finding.onset - BASELINE_S, max(min(wanted, until), finding.detected + 30.0)


def _marks(finding: Finding, trigger: Trigger | None) -> list[chart.Mark]:
    clock = words.moment(finding.onset)[11:19]
    marks = [
        chart.Mark(at=finding.onset, kind="onset", label=f"began {clock}"),
        chart.Mark(at=finding.detected, kind="detected", label="found"),
    ]
    if finding.ended is not None:
        label = "new normal" if finding.state == "adopted" else "over"
        marks.append(chart.Mark(at=finding.ended, kind="ended", label=label))
    if trigger is not None:
        label = f"{words.clean(trigger.service)} {telling.TRIGGERS[trigger.kind]}"
        marks.append(chart.Mark(at=trigger.at, kind="trigger", label=label))
    return marks


def describe(finding: Finding, trigger: Trigger | None = None) -> str:
    """Return the caption of a finding's chart."""
    later = words.duration(finding.detected - finding.onset)
    said = [
        words.what(finding),
        f"since {words.moment(finding.onset)}, found {later} later",
        words.cause(finding),
        words.side(finding),
        "" if trigger is None else telling.trigger(trigger, finding.onset),
        words.ending(finding),
    ]
    return "; ".join(filter(None, said))


def bars(finding: Finding, past: Past, *, until: float, width: int = _BARS) -> tuple[str, str]:
    """Return a quarter of an hour before and after a finding's onset as bars; "" for no history.

    Args:
        finding: it.
        past: the history.
        until: the end of what is reported, epoch seconds.
        width: how many bars before, and after, at most.
    """
    since = finding.onset - _BARS_S
    end = min(finding.onset + _BARS_S, max(until, finding.detected))
    line = past.of(finding, since=since, until=end, points=16 * _BARS)
    if line is None:
        return "", ""
    return _split(line, finding.onset, width)


def _split(line: Line, onset: float, width: int) -> tuple[str, str]:
    late = (line.time + line.step_s / 2) >= onset
    parts = [line.line[~late], line.line[late]]
    widths = [width, math.ceil(width * min(len(parts[1]) * line.step_s / _BARS_S, 1.0))]
    averages = [means(part, most) for part, most in zip(parts, widths, strict=True)]
    known = np.concatenate(averages)
    known = known[np.isfinite(known)]
    # One scale for both: the bars after are as high as the change is large
    top = float(known.max()) if known.size else 0.0
    before, after = (sparkline(part, width=width, top=top) for part in averages)
    return before, after
