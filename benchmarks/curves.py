"""Labelled curves, and the protocol by which alarms on them are right or false.

A directory holds one `.npz` per curve: `value` float[n], `label` bool[n], `t0` (epoch s), `dt` (s)
and, where the spacing is uneven, `time` int64[n]. Every curve is replayed as one gauge of one
pair, value only, as a foreign recording would be.

Alarms within 10 minutes merge; an event is found by an alarm from 5 minutes before its start to
10 minutes after its end; alarms up to 30 minutes after that are ignored; all others are false.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine import Detector
from detector.settings import DetectorSettings
from probes.window import Pair, Window

Floats = NDArray[np.float64]
MERGE_S, BEFORE_S, AFTER_S, IGNORE_S = 600.0, 300.0, 600.0, 1800.0
WEEK_S = 604_800.0
DAY_S = 86_400.0


class Curve(NamedTuple):
    """One labelled curve: times (epoch s), values, labels."""

    time: Floats
    value: Floats
    label: NDArray[np.bool_]


class Event(NamedTuple):
    """One labelled event: its start (epoch s), length in windows, and the scores in its reach."""

    start: float
    windows: int
    time: Floats
    score: Floats


class Scored(NamedTuple):
    """A part of a curve: its events, the scores that would be false, its length in weeks."""

    events: list[Event]
    false_time: Floats
    false_score: Floats
    weeks: float


class Replay(NamedTuple):
    """Scores per curve, and findings as (curve, epoch s of its own time)."""

    scores: list[Floats]
    findings: list[tuple[int, float]]


def load(path: Path) -> Curve:
    """Return one curve."""
    with np.load(path) as data:
        value = data["value"].astype(float)
        if "time" in data:
            times = data["time"].astype(float)
        else:
            times = float(data["t0"]) + np.arange(len(value)) * float(data["dt"])
        return Curve(times, value, data["label"].astype(bool))


def replay(
    curves: list[Curve],
    settings: DetectorSettings = DetectorSettings(),  # noqa: B008 - frozen
) -> Replay:
    """Return what the detector says of the curves, replayed side by side."""
    pairs = tuple(Pair(f"curve-{i}", "kpi", 0) for i in range(len(curves)))
    number = {pair: i for i, pair in enumerate(pairs)}
    scores = [np.zeros(len(curve.value)) for curve in curves]
    detector = Detector(settings)
    findings: list[tuple[int, float]] = []
    # Side by side by time of day, so that one window holds many curves
    starts = np.array([curve.time[0] for curve in curves])
    shift = np.floor((starts - starts.min()) / DAY_S) * DAY_S
    moments = np.concatenate([curve.time - s for curve, s in zip(curves, shift, strict=True)])
    owner = np.concatenate([np.full(len(c.value), i, np.int32) for i, c in enumerate(curves)])
    place = np.concatenate([np.arange(len(c.value)) for c in curves])
    value = np.concatenate([c.value for c in curves])
    order = np.lexsort((owner, moments))
    cuts = np.flatnonzero(np.diff(moments[order])) + 1
    for rows in np.split(order, cuts):
        window = Window(
            time=float(moments[rows[0]]),
            width=float("nan"),
            nominal=float("nan"),
            lost=0,
            pairs=pairs,
            signals=("value",),
            pair=owner[rows],
            signal=np.zeros(len(rows), np.int16),
            value=value[rows],
            count=np.full(len(rows), np.nan),
        )
        for finding in detector.update(window):
            if finding.state == "firing" and finding.signal == "value":
                i = number[finding.pair]
                findings.append((i, window.time + float(shift[i])))
        for row, score in zip(rows, detector.scores(), strict=True):
            scores[owner[row]][place[row]] = score
    return Replay(scores, findings)


def prepare(curve: Curve, score: Floats, begin: float, end: float) -> Scored:
    """Split the scores from `begin` to `end` into what events got and what would be false."""
    edges = np.diff(np.r_[0, curve.label.astype(np.int8), 0])
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    explained = np.zeros(len(score), dtype=bool)
    events = []
    for first, last in zip(starts, ends, strict=True):
        start, stop = curve.time[first], curve.time[last]
        low = np.searchsorted(curve.time, start - BEFORE_S)
        high = np.searchsorted(curve.time, stop + AFTER_S, side="right")
        if begin <= start < end:
            reach = slice(low, high)
            events.append(Event(start, last - first + 1, curve.time[reach], score[reach]))
        ignored = np.searchsorted(curve.time, stop + AFTER_S + IGNORE_S, side="right")
        explained[low:ignored] = True
    rest = ~explained & (curve.time >= begin) & (curve.time < end)
    weeks = max(end - begin, 0.0) / WEEK_S
    return Scored(events, curve.time[rest], score[rest], weeks)


def halves(curve: Curve, score: Floats, skip_s: float) -> tuple[Scored, Scored]:
    """Return the part that may choose a threshold and the part that is judged."""
    middle = float(curve.time[len(curve.time) // 2])
    begin, end = float(curve.time[0]) + skip_s, float(curve.time[-1]) + 1.0
    return prepare(curve, score, begin, middle), prepare(curve, score, middle, end)


def merged(times: Floats) -> int:
    """Return how many alarms are left when those close together merge."""
    return int(len(times) and 1 + int((np.diff(times) > MERGE_S).sum()))


def false_alerts(parts: list[Scored], threshold: float) -> int:
    """Return how many merged false alarms a threshold gives."""
    return sum(merged(part.false_time[part.false_score >= threshold]) for part in parts)


def threshold_for(parts: list[Scored], rate: float) -> float:
    """Return the lowest threshold with at most `rate` false alerts per curve and week."""
    most = rate * sum(part.weeks for part in parts)
    candidates = np.unique(np.concatenate([part.false_score for part in parts]))
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        if false_alerts(parts, float(candidates[middle])) <= most:
            high = middle
        else:
            low = middle + 1
    # None will do: just above the highest
    return float(candidates[low] if low < len(candidates) else np.nextafter(candidates[-1], np.inf))
