"""Whether the budget holds where nothing has changed: realised over requested, law by law."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np

from benchmarks.detection_laws import edge
from benchmarks.detection_plan import Plan
from benchmarks.detection_tilt import Counts, Floats, Null, Tilts, alarms
from detector.engine import Detector
from detector.settings import DetectorSettings
from tailrace.simulation.laws import Law
from tailrace.simulation.streams import LatencyStreams, RatioStreams, Streams, SumStreams

WEEK_S = 604_800.0
PAIR_STREAMS = 2
"""A pair with one signal is two streams: its presence is judged too."""


class Budget(NamedTuple):
    """What a fleet may give: false alerts per week, over how many streams."""

    name: str
    per_week: float
    streams: int


BUDGETS = (
    Budget("1/day, 20,000", 7.0, 20_000),
    Budget("1/week, 20,000", 1.0, 20_000),
    Budget("5/week, 1,000,000", 5.0, 1_000_000),
)


class _Size:
    """How much is simulated."""

    def __init__(self, null: Null, *, quick: bool) -> None:
        self.streams = 300 if quick else 600
        self.learn = 480 if quick else 1_440
        if null.daily:
            self.learn = round((2 if quick else 3) * 86_400 / null.width)
            self.streams //= 2
        self.windows = 150 if quick else 200
        if null.mean < 1.0:
            self.windows, self.streams = 3 * self.windows, self.streams // 2


def _nulls(*, quick: bool) -> list[Null]:
    if quick:
        return [Null(1.0, 20.0), Null(100.0, 20.0, 0.9)]
    grid = [
        Null(mean, r, memory)
        for mean in (0.01, 1.0, 100.0, 1e4)
        for r in (np.inf, 100.0, 20.0, 4.0)
        for memory in (0.0, 0.5, 0.9)
    ]
    waves = [Null(mean, 20.0, 0.0, daily=0.5, width=60.0) for mean in (1.0, 100.0)]
    return [*grid, *waves, Null(100.0, 20.0, 0.9, daily=0.5, width=60.0)]


def _learned(counts: Counts, windows: int) -> bytes:
    share = PAIR_STREAMS * counts.number / 20_000
    detector = Detector(DetectorSettings(false_alerts_per_week=share))
    for _ in range(windows):
        detector.update(counts.window(counts.draw()[0]))
    return detector.to_bytes()


def _ratio(weights: Floats, requested: float) -> dict[str, float]:
    """Return realised over requested with its 95 % interval, and the alarms it stands on."""
    mean = float(weights.mean())
    error = float(weights.std() / np.sqrt(len(weights)))
    squares = float((weights**2).sum())
    return {
        "ratio": mean / requested,
        "low": max(mean - 1.96 * error, 0.0) / requested,
        "high": (mean + 1.96 * error) / requested,
        # Kish's effective number
        "alarms": float(weights.sum()) ** 2 / squares if squares else 0.0,
    }


def _one(null: Null, *, quick: bool) -> dict[str, Any]:
    size = _Size(null, quick=quick)
    counts = Counts(null, size.streams, seed=41)
    data = _learned(counts, size.learn)
    week = WEEK_S / null.width
    out: dict[str, Any] = {"mean": null.mean, "law": null.name, "cells": {}}
    places = {
        "centre": 1.0,
        "upper edge": 1.0 + edge("requests"),
        "lower edge": 1.0 / (1.0 + edge("requests")),
    }
    chances: dict[str, Floats] = {}
    for budget in BUDGETS[:1] if quick else BUDGETS:
        # a sample of the fleet has its share of the budget
        share = budget.per_week * PAIR_STREAMS * size.streams / budget.streams
        settings = DetectorSettings(false_alerts_per_week=share)
        requested = share / size.streams * size.windows / week
        cells = {}
        for place, scale in places.items():
            for seed in (42, 43) if place not in chances else (43,):
                again = copy.deepcopy(counts)
                tilts = Tilts(again, size.windows, seed, chances.get(place))
                detector = Detector.from_bytes(data, settings)
                got = alarms(detector, again, scale=scale, windows=size.windows, tilts=tilts)
                if place not in chances:
                    chances[place] = tilts.better(got)
            cells[place] = _ratio(got, requested)
        out["cells"][budget.name] = cells
    if null.dispersion == 20.0:
        out["counted"] = _counted(data, counts, size.windows, week)
    return out


def _counted(data: bytes, counts: Counts, windows: int, week: float) -> dict[str, Any]:
    """Return plain counts at a budget so large that alarms can be counted, beside the tilted."""
    expected = 40.0
    settings = DetectorSettings(false_alerts_per_week=expected * week / windows)
    out: dict[str, Any] = {"expected": expected}
    for name, tilted in (("plain", False), ("tilted", True)):
        again = copy.deepcopy(counts)
        tilts = Tilts(again, windows, seed=43) if tilted else None
        detector = Detector.from_bytes(data, settings)
        got = alarms(detector, again, scale=1.0 + edge("requests"), windows=windows, tilts=tilts)
        out[name] = _ratio(got, expected / counts.number)
    return out


def _other_kinds(*, quick: bool) -> list[dict[str, Any]]:
    """Return plain counts for the kinds that are not counts of events."""
    number, learn, windows = (100, 240, 200) if quick else (1_000, 1_440, 1_000)
    law = Law(mean=20.0, dispersion=20.0, wobble=0.15, memory=0.9)
    sparse = Law(mean=1.0, dispersion=20.0)
    kinds: dict[str, Streams] = {
        "errors, 0.1 % of 20": RatioStreams(number, law, share=0.001, width=10.0),
        "errors, 1 % of 1": RatioStreams(number, sparse, share=0.01, width=10.0),
        "errors, 1 % of 20, clumps of 3": RatioStreams(
            number, law, share=0.01, clump=3.0, width=10.0
        ),
        "latency, 20 samples": LatencyStreams(number, law, width=10.0),
        "latency, 20 samples, wanders 10 %": LatencyStreams(
            number, law, wobble=0.1, memory=0.9, width=10.0
        ),
        "latency, 1 sample": LatencyStreams(number, sparse, width=10.0),
        "bytes, 20 events": SumStreams(number, law, width=10.0),
        "bytes, 1 event": SumStreams(number, sparse, width=10.0),
    }
    if quick:
        kinds = {name: streams for name, streams in kinds.items() if "20" in name}
    expected, out = 40.0, []
    for name, streams in kinds.items():
        per_week = expected * WEEK_S / (windows * streams.width)
        detector = Detector(DetectorSettings(false_alerts_per_week=per_week))
        for window in streams.windows(learn):
            detector.update(window)
        found = sum(
            finding.state == "firing"
            for window in streams.windows(windows)
            for finding in detector.update(window)
        )
        out.append({"kind": name, "expected": expected, "realised": found})
    return out


def measure(plan: Plan) -> dict[str, Any]:
    """Return realised over requested of every law, budget and place within the band."""
    laws = []
    for null in _nulls(quick=plan.quick):
        plan.say(f"nulls: {null.name}, mean {null.mean:g}")
        laws.append(_one(null, quick=plan.quick))
    plan.say("nulls: other kinds")
    return {"edge": edge("requests"), "laws": laws, "kinds": _other_kinds(quick=plan.quick)}
