"""Event recall of the detector's scores on labelled curves, at fixed rates of false alerts.

    python -m benchmarks.detector_kpi DIR [--skip-days 3] [--rates 7 1 0.25]

DIR holds one `.npz` per curve: `value` float[n], `label` bool[n], `t0` (epoch s), `dt` (s) and,
where the spacing is uneven, `time` int64[n]. Every curve is replayed as one gauge of one pair,
value only, as a foreign recording would be.

Protocol: one threshold for all curves of the directory, or one for each; alarms within 10
minutes merge; an event is found by an alarm from 5 minutes before its start to 10 minutes after
its end; alarms up to 30 minutes after that are ignored; all others are false. The first days are
not counted, since the detector learns in them. The thresholds are chosen on the curves
themselves: this measures how well scores rank, not how well a threshold is set. The findings
that the detector itself reports are counted too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine import Detector
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


class Scored(NamedTuple):
    """A curve's scores: the best within each event's reach, and those that would be false."""

    events: Floats
    false_time: Floats
    false_score: Floats
    weeks: float


def load(path: Path) -> Curve:
    with np.load(path) as data:
        value = data["value"].astype(float)
        if "time" in data:
            times = data["time"].astype(float)
        else:
            times = float(data["t0"]) + np.arange(len(value)) * float(data["dt"])
        return Curve(times, value, data["label"].astype(bool))


def replay(curves: list[Curve]) -> tuple[list[Floats], int]:
    """Return the scores of each curve, replayed side by side, and the number of findings."""
    pairs = tuple(Pair(f"curve-{i}", "kpi", 0) for i in range(len(curves)))
    scores = [np.zeros(len(curve.value)) for curve in curves]
    detector, findings = Detector(), 0
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
        findings += sum(f.state == "firing" for f in detector.update(window))
        for row, score in zip(rows, detector.scores(), strict=True):
            scores[owner[row]][place[row]] = score
    return scores, findings


def prepare(curve: Curve, score: Floats, skip_s: float) -> Scored:
    """Split a curve's scores into what events got and what would be false."""
    begin = curve.time[0] + skip_s
    edges = np.diff(np.r_[0, curve.label.astype(np.int8), 0])
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    explained = np.zeros(len(score), dtype=bool)
    best = []
    for start, end in zip(curve.time[starts], curve.time[ends], strict=True):
        low = np.searchsorted(curve.time, start - BEFORE_S)
        high = np.searchsorted(curve.time, end + AFTER_S, side="right")
        if start >= begin:
            best.append(score[low:high].max())
        ignored = np.searchsorted(curve.time, end + AFTER_S + IGNORE_S, side="right")
        explained[low:ignored] = True
    rest = ~explained & (curve.time >= begin)
    weeks = max(curve.time[-1] - begin, 0.0) / WEEK_S
    return Scored(np.array(best), curve.time[rest], score[rest], weeks)


def false_alerts(curves: list[Scored], threshold: float) -> int:
    """Return how many merged false alarms a threshold gives."""
    total = 0
    for curve in curves:
        at = curve.false_time[curve.false_score >= threshold]
        total += len(at) and 1 + int((np.diff(at) > MERGE_S).sum())
    return total


def threshold_for(curves: list[Scored], rate: float) -> float:
    """Return the lowest threshold with at most `rate` false alerts per curve and week."""
    most = rate * sum(curve.weeks for curve in curves)
    candidates = np.unique(np.concatenate([curve.false_score for curve in curves]))
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        if false_alerts(curves, float(candidates[middle])) <= most:
            high = middle
        else:
            low = middle + 1
    # None will do: just above the highest
    return float(candidates[low] if low < len(candidates) else np.nextafter(candidates[-1], np.inf))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--skip-days", type=float, default=3.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[7.0, 1.0, 0.25])
    parser.add_argument("--limit", type=int, default=None, help="only the first curves")
    arguments = parser.parse_args()
    curves = [load(path) for path in sorted(arguments.directory.glob("*.npz"))[: arguments.limit]]
    began = time.perf_counter()
    scores, findings = replay(curves)
    seconds = time.perf_counter() - began
    skip_s = arguments.skip_days * DAY_S
    scored = [prepare(c, s, skip_s) for c, s in zip(curves, scores, strict=True)]
    events = np.concatenate([s.events for s in scored])
    points = sum(len(c.value) for c in curves)
    print(f"{len(curves)} curves, {len(events)} events, {1e6 * seconds / points:.1f} us per point")
    weeks = sum(float(c.time[-1] - c.time[0]) for c in curves) / WEEK_S
    print(f"{findings} findings, {findings / weeks:.2f} per curve-week")
    print("false alerts per curve-week   recall (one threshold)   recall (one per curve)")
    for rate in arguments.rates:
        one = (events >= threshold_for(scored, rate)).mean()
        own = np.concatenate([s.events >= threshold_for([s], rate) for s in scored]).mean()
        print(f"{rate:27g}   {one:22.3f}   {own:22.3f}")


if __name__ == "__main__":
    main()
