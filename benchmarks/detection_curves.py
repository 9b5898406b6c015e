"""Ours and every peer on labelled curves, each with a threshold from the earlier half of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from benchmarks.curves import (
    DAY_S,
    Curve,
    Floats,
    Scored,
    false_alerts,
    halves,
    load,
    replay,
    threshold_for,
)
from benchmarks.detection_plan import Plan
from benchmarks.peers import PEERS, Peer, Restarting, Sampling
from benchmarks.peers.baseline import Seasonal
from detector.settings import DetectorSettings

SETS = {"wsd": "WSD, web services", "aiops": "AIOPS, services and machines"}
RATES = (1.0, 0.25)
LEARN_DAYS = 3.0
"""Not counted: everybody learns in them."""
RESAMPLES = 1000
QUICK_POINTS = 10_500
OURS, FINDINGS = "Tailrace, scores", "Tailrace, findings"


class _Peers:
    """Scores of the peers, which go step by step over curves of one spacing side by side."""

    def __init__(self, curves: list[Curve], plan: Plan) -> None:
        self.curves, self.plan = curves, plan
        spacing = [round(float(np.median(np.diff(curve.time)))) for curve in curves]
        self.groups = {
            one: [i for i, each in enumerate(spacing) if each == one]
            for one in sorted(set(spacing))
        }
        self.z = {one: self._residuals(one) for one in self.groups}

    def _sampling(self, spacing: int) -> Sampling:
        day = round(DAY_S / spacing)
        return Sampling(len(self.groups[spacing]), spacing, day, round(LEARN_DAYS * day))

    def _raw(self, spacing: int) -> Floats:
        """Return float64[windows, curves]; a curve that has ended goes on at its last value."""
        mine = [self.curves[i].value for i in self.groups[spacing]]
        longest = max(map(len, mine))
        return np.stack([np.pad(one, (0, longest - len(one)), "edge") for one in mine], axis=1)

    def _residuals(self, spacing: int) -> Floats:
        sampling = self._sampling(spacing)
        seasonal = Seasonal(sampling)
        rows = enumerate(self._raw(spacing))
        return np.stack([seasonal.update(row, n % sampling.season) for n, row in rows])

    def scores(self, name: str) -> list[list[Floats]]:
        """Return the scores of one peer, float64[n] per curve; of both its forms, if it has two."""
        forms = [PEERS[name]]
        if forms[0].restarts:
            forms.append(partial(Restarting, forms[0]))
        return [self._run(make) for make in forms]

    def _run(self, make: Callable[[Sampling], Peer]) -> list[Floats]:
        out: list[Floats] = [np.zeros(0)] * len(self.curves)
        for spacing, mine in self.groups.items():
            peer = make(self._sampling(spacing))
            rows = self.z[spacing] if peer.reads == "z" else self._raw(spacing)
            got = np.stack([peer.update(row).astype(np.float32) for row in rows])
            for column, i in enumerate(mine):
                out[i] = got[: len(self.curves[i].value), column].astype(float)
        return out


def _interval(part: Floats, whole: Floats) -> list[float]:
    """Return the 95 % bootstrap interval of sum(part) / sum(whole) over curves."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(part), (RESAMPLES, len(part)))
    ratio = part[drawn].sum(axis=1) / np.maximum(whole[drawn].sum(axis=1), 1e-12)
    low, high = np.quantile(ratio, [0.025, 0.975])
    return [float(low), float(high)]


def _delays(scored: list[Scored], threshold: float) -> Floats:
    """Return seconds from the start of each event found to its first alarm."""
    found = [
        max(float(event.time[int(np.argmax(event.score >= threshold))]) - event.start, 0.0)
        for one in scored
        for event in one.events
        if event.score.max() >= threshold
    ]
    return np.array(found)


def _judge(scored: list[Scored], threshold: float, rate: float) -> dict[str, Any]:
    """Return what one threshold gave on the later half."""
    hits = np.array(
        [float(sum(event.score.max() >= threshold for event in one.events)) for one in scored]
    )
    events = np.array([float(len(one.events)) for one in scored])
    false = np.array([float(false_alerts([one], threshold)) for one in scored])
    weeks = np.array([one.weeks for one in scored])
    delays = _delays(scored, threshold)
    return {
        "recall": float(hits.sum() / max(events.sum(), 1.0)),
        "recall_interval": _interval(hits, events),
        "delay_median_s": float(np.median(delays)) if len(delays) else None,
        "delay_p90_s": float(np.quantile(delays, 0.9)) if len(delays) else None,
        "realised": float(false.sum() / (rate * weeks.sum())),
        "realised_interval": _interval(false / rate, weeks),
    }


def _by_scores(curves: list[Curve], forms: list[list[Floats]]) -> dict[str, Any]:
    """Return the later half's figures, of the form that found most in the earlier half."""
    cut = []
    for scores in forms:
        both = [
            halves(curve, score, LEARN_DAYS * DAY_S)
            for curve, score in zip(curves, scores, strict=True)
        ]
        cut.append(([known for known, _ in both], [later for _, later in both]))
    out: dict[str, Any] = {}
    for rate in RATES:
        tried = []
        for known, later in cut:
            threshold = threshold_for(known, rate)
            found = sum(event.score.max() >= threshold for one in known for event in one.events)
            tried.append((found, threshold, later))
        _, threshold, later = max(tried, key=itemgetter(0))
        out[f"{rate:g}"] = _judge(later, threshold, rate)
    return out


def _as_scores(curves: list[Curve], findings: list[tuple[int, float]]) -> list[Scored]:
    """Return the later halves, with a score of 1 where a finding began to fire and 0 elsewhere."""
    scores = [np.zeros(len(curve.value)) for curve in curves]
    for i, time in findings:
        scores[i][np.searchsorted(curves[i].time, time)] = 1.0
    return [halves(curve, score, 0.0)[1] for curve, score in zip(curves, scores, strict=True)]


def _one_set(curves: list[Curve], plan: Plan) -> dict[str, Any]:
    methods: dict[str, Any] = {OURS: {}, FINDINGS: {}}
    for rate in RATES:
        plan.say(f"curves: ours at {rate:g} a week")
        settings = DetectorSettings(false_alerts_per_week=rate * len(curves))
        replayed = replay(curves, settings)
        if rate == RATES[0]:
            methods[OURS] = _by_scores(curves, [replayed.scores])
        later = _as_scores(curves, replayed.findings)
        methods[FINDINGS][f"{rate:g}"] = _judge(later, 0.5, rate)
    peers = _Peers(curves, plan)
    for name in PEERS:
        plan.say(f"curves: {name}")
        methods[name] = _by_scores(curves, peers.scores(name))
    later = [halves(curve, curve.value, 0.0)[1] for curve in curves]
    return {
        "curves": len(curves),
        "events": sum(len(one.events) for one in later),
        "stream_weeks": sum(one.weeks for one in later),
        "methods": methods,
    }


def measure(plan: Plan) -> dict[str, Any]:
    """Return recall, delay and realised budget of every method on each set of `plan.data`."""
    if plan.data is None:
        plan.warn("no curves were measured: name their directory with --data")
        return {"sets": {}}
    sets: dict[str, Any] = {}
    for name in SETS:
        paths = sorted((plan.data / name).glob("*.npz"))
        if not paths:
            plan.warn(f"{plan.data / name} has no .npz file: this set was not measured")
            continue
        curves = [load(path) for path in paths[: 40 if plan.quick else None]]
        if plan.quick:
            cut = [Curve(*(column[:QUICK_POINTS] for column in curve)) for curve in curves]
            # some without an event would say nothing
            curves = [curve for curve in cut if curve.label[len(curve.label) // 2 :].any()][:3]
        sets[name] = _one_set(curves, plan)
    return {"sets": sets}
