"""Event recall on labelled curves at fixed rates of false alerts, causal, and the knob's keeping.

    python -m benchmarks.detector_kpi DIR [--spacing 60] [--skip-days 3] [--rates 7 1 0.25]

DIR holds one `.npz` per curve: `value` float[n], `label` bool[n], `t0` (epoch s), `dt` (s) and,
where the spacing is uneven, `time` int64[n]. Every curve is replayed as one gauge of one pair,
value only, as a foreign recording would be, once, forwards.

Protocol: alarms within 10 minutes merge; an event is found by an alarm from 5 minutes before its
start to 10 minutes after its end; alarms up to 30 minutes after that are ignored; all others are
false. One threshold for all curves: the lowest that gives the asked rate of false alerts per
curve-week in the first half of every curve (without its first days, in which the detector
learns). Recall, delay and the realised rate are those of the second half. The interval is of 95
percent over resampled curves, the threshold fixed. `--choose even` takes the threshold from the
first halves of every other curve and recall from the second halves of the rest.

The knob: the same curves with `false_alerts` set to each rate times the number of curves, per
week. Counted are the findings of the second half: all of them, and those that no label explains.
"""

from __future__ import annotations

import argparse
import time
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
LENGTHS = (1, 4, 8, 16, 64)
"""Windows of a label, least of each class in the table of recall by length."""
RESAMPLES = 400


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
    with np.load(path) as data:
        value = data["value"].astype(float)
        if "time" in data:
            times = data["time"].astype(float)
        else:
            times = float(data["t0"]) + np.arange(len(value)) * float(data["dt"])
        return Curve(times, value, data["label"].astype(bool))


def replay(curves: list[Curve], settings: DetectorSettings) -> Replay:
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


def judge(parts: list[Scored], threshold: float, rate: float) -> str:
    """Return a row of the table: recall with its interval, delays, realised over requested."""
    weeks = np.array([part.weeks for part in parts])
    false = np.array([false_alerts([part], threshold) for part in parts])
    found = [np.array([e.score.max() >= threshold for e in part.events]) for part in parts]
    hits, many = np.array([f.sum() for f in found]), np.array([len(f) for f in found])
    delays = [
        max(float(e.time[e.score >= threshold][0]) - e.start, 0.0)
        for part in parts
        for e in part.events
        if e.score.max() >= threshold
    ]
    pick = np.random.default_rng(0).integers(0, len(parts), (RESAMPLES, len(parts)))
    low, high = np.nanquantile(hits[pick].sum(1) / np.maximum(many[pick].sum(1), 1), [0.025, 0.975])
    median, late = np.quantile(delays, [0.5, 0.9]) if delays else (np.nan, np.nan)
    return (
        f"{rate:6g}  {hits.sum() / max(many.sum(), 1):.3f} ({low:.3f} .. {high:.3f})"
        f"  {false.sum() / weeks.sum() / rate:9.2f}  {median:6.0f}  {late:6.0f}"
    )


def by_length(parts: list[Scored], threshold: float) -> str:
    """Return recall by the labels' length in windows."""
    length = np.array([e.windows for part in parts for e in part.events])
    hit = np.array([e.score.max() >= threshold for part in parts for e in part.events])
    group = np.searchsorted(LENGTHS, length, side="right") - 1
    told = [
        f"{least}+: {hit[group == i].mean():.2f} of {(group == i).sum()}"
        for i, least in enumerate(LENGTHS)
        if (group == i).any()
    ]
    return "        by windows labelled  " + ", ".join(told)


def knob(curves: list[Curve], rate: float) -> str:
    """Return how many findings the second halves have with the knob at `rate` per curve-week."""
    settings = DetectorSettings(false_alerts_per_week=rate * len(curves))
    found = replay(curves, settings).findings
    total = unexplained = 0
    weeks = 0.0
    for i, curve in enumerate(curves):
        middle, end = float(curve.time[len(curve.time) // 2]), float(curve.time[-1]) + 1.0
        mine = np.array([t for owner, t in found if owner == i and t >= middle])
        total += len(mine)
        # The time that no label explains is where scores would be false
        quiet = prepare(curve, np.zeros(len(curve.value)), middle, end).false_time
        unexplained += int(np.isin(mine, quiet).sum())
        weeks += (end - middle) / WEEK_S
    return f"{rate:6g}  {total / weeks / rate:12.2f}  {unexplained / weeks / rate:12.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--skip-days", type=float, default=3.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[7.0, 1.0, 0.25])
    parser.add_argument("--spacing", type=float, default=None, help="only curves of this many s")
    parser.add_argument("--every", type=int, default=1, help="only every nth curve")
    parser.add_argument("--choose", choices=["all", "even", "odd"], default="all")
    parser.add_argument("--knob", type=float, nargs="*", default=[], help="rates to set it to")
    arguments = parser.parse_args()
    curves = [load(path) for path in sorted(arguments.directory.glob("*.npz"))]
    if arguments.spacing is not None:
        curves = [c for c in curves if c.time[1] - c.time[0] == arguments.spacing]
    curves = curves[:: arguments.every]
    began = time.perf_counter()
    scores, _ = replay(curves, DetectorSettings())
    seconds = time.perf_counter() - began
    parts = [halves(c, s, arguments.skip_days * DAY_S) for c, s in zip(curves, scores, strict=True)]
    first, second = [a for a, _ in parts], [b for _, b in parts]
    if arguments.choose != "all":
        odd = arguments.choose == "odd"
        first, second = first[odd::2], second[not odd :: 2]
    points = sum(len(c.value) for c in curves)
    events = sum(len(part.events) for part in second)
    print(f"{len(second)} curves, {events} events, {1e6 * seconds / points:.1f} us per point")
    print("  rate  recall (95 %)            realised  delay, s: median, p90")
    for rate in arguments.rates:
        threshold = threshold_for(first, rate)
        print(judge(second, threshold, rate))
        print(by_length(second, threshold))
    if arguments.knob:
        print("  knob  findings/asked  unexplained/asked")
        for rate in arguments.knob:
            print(knob(curves, rate))


if __name__ == "__main__":
    main()
