"""How many windows pass before a change of known size is found, at equal false alerts."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np

from benchmarks.detection_laws import (
    COUNT_FACTORS,
    SHARES,
    SIZES,
    WIDTH_S,
    Baseline,
    Case,
    Floats,
    Numbers,
    cases,
)
from benchmarks.detection_plan import Plan
from benchmarks.peers import PEERS, Peer, PoissonFocus, Sampling
from detector.engine import Detector
from detector.settings import DetectorSettings
from tailrace.simulation.laws import NO_EFFECT, Effect
from tailrace.simulation.streams import Streams

WEEK_WINDOWS = 604_800.0 / WIDTH_S
FLEET_STREAMS, FLEET_BUDGET = 1_000_000, 5.0
"""1,000,000 streams with 5 false alerts a week: ln c = 23.2 nats."""
PAIR_STREAMS = 2
"""A pair with one signal is two streams: its presence is judged too."""
POISSON = "FOCuS, Poisson"
SLOW = {"FOCuS": 2, POISSON: 2, "BOCPD": 4, "ADWIN (river)": 20}
"""These get so many times fewer streams: what they cost would be most of the run."""

FINE = {"connect_errors": 0.001}
"""`min_change` as the first experiments had it: 0.1 % is normal, what is above may be news."""

NOTES_COUNTS = {
    "Poisson": ((31, 199, 322, 77, 7), (4, 23, 38, 9, 1), (1, 3, 5, 1, 1)),
    "NB r=20": ((31, 208, 346, 82, 8), (4, 31, 58, 14, 2), (1, 12, 27, 7, 1)),
    "NB r=4": ((34, 238, 420, 99, 11), (7, 64, 138, 34, 4), (4, 44, 111, 29, 4)),
}
"""Median windows of the first experiments, with the truth as baseline; by mean 1, 10, 100."""
NOTES_ERRORS = {
    "0.1 %": ((597, 168, 29, 10, 5), (68, 19, 4, 2, 1), (8, 3, 1, 1, 1)),
    "1 %": ((None, 770, 64, 17, 7), (None, 85, 7, 2, 1), (None, 10, 1, 1, 1)),
}


def _notes() -> dict[str, dict[str, int | None]]:
    """Return the earlier figures by the name of the case and of the change."""
    found: dict[str, dict[str, int | None]] = {}
    for table, names in (
        (NOTES_COUNTS, [f"x{factor:g}" for factor in COUNT_FACTORS]),
        (NOTES_ERRORS, [f"{100 * share:g} %" for share in SHARES]),
    ):
        for law, rows in table.items():
            for size, row in zip(SIZES, rows, strict=True):
                found[f"{law}, {size:g}"] = dict(zip(names, row, strict=True))
    return found


class _Size:
    """How much is simulated."""

    def __init__(self, *, quick: bool) -> None:
        self.rate = 1e-4 if quick else 1e-6
        """False alerts per stream and window at which all are compared."""
        self.null_streams = 100 if quick else 3_400
        self.null_windows = 1_000 if quick else 3_000
        self.history = 480 if quick else 1_440
        """Windows that everybody learns from, ours and peers."""
        self.limit = 200 if quick else 1_000
        self.streams = 40 if quick else 150
        self.own_streams = 60 if quick else 300


def _summary(delays: Floats, limit: int) -> dict[str, Any]:
    """Return median, 90 % quantile (None beyond the limit) and how many were found in time."""
    median, late = np.quantile(delays, [0.5, 0.9], method="inverted_cdf")
    return {
        "median": int(median) if median <= limit else None,
        "p90": int(late) if late <= limit else None,
        "found": float((delays <= limit).mean()),
    }


# Ours


def _settings(budget: float, least: dict[str, float]) -> DetectorSettings:
    # a detector without this knob is measured as it is
    known = {field.name for field in dataclasses.fields(DetectorSettings)}
    extra: dict[str, Any] = {"min_change": least} if least and "min_change" in known else {}
    return DetectorSettings(false_alerts_per_week=budget, **extra)


def _own_delays(
    data: bytes, settings: DetectorSettings, streams: Streams, effect: Effect, limit: int
) -> Floats:
    """Return the windows until each stream's pair has a finding; limit + 1 for none."""
    detector = Detector.from_bytes(data, settings)
    number = {pair: i for i, pair in enumerate(streams.pairs)}
    delays = np.full(streams.number, limit + 1.0)
    # who alarmed before there was anything to find is no example
    busy = [number[finding.pair] for finding in detector.firing()]
    for window in range(1, limit + 1):
        for finding in detector.update(streams.draw(effect)):
            if finding.state == "firing":
                at = number[finding.pair]
                delays[at] = min(delays[at], window)
        if window % 10 == 0 and (delays <= window).all():
            break
    return np.delete(delays, busy)


def _ours(case: Case, size: _Size) -> dict[str, Any]:
    streams = case.streams(size.own_streams, seed=11)
    fleet = FLEET_BUDGET * PAIR_STREAMS * size.own_streams / FLEET_STREAMS
    equal = size.rate * WEEK_WINDOWS * size.own_streams
    runs = {"fleet": _settings(fleet, {}), "equal": _settings(equal, {})}
    if case.signal in FINE:
        runs["fine"] = _settings(fleet, FINE)
    learned = {}
    history = list(streams.windows(size.history))
    for name in ("fleet", *(["fine"] if "fine" in runs else [])):
        detector = Detector(runs[name])
        for window in history:
            detector.update(window)
        learned[name] = detector.to_bytes()
    learned["equal"] = learned["fleet"]
    out: dict[str, Any] = {}
    for change, effect in case.changes.items():
        out[change] = {}
        for name, settings in runs.items():
            again = copy.deepcopy(streams)  # the same noise for all
            delays = _own_delays(learned[name], settings, again, effect, size.limit)
            out[change][name] = _summary(delays, size.limit)
    return out


# Peers


class _Row:
    """Streams of one law with all peers on them, some on fewer of the streams."""

    def __init__(self, case: Case, size: _Size, streams: int, seed: int, *, fewer: bool) -> None:
        self.case, self.size, self.fewer = case, size, fewer
        self.source = case.source(streams, seed)
        self.baseline = Baseline(streams, counted=case.counted)
        self.peers: dict[str, Peer] = {}
        for name, make in PEERS.items():
            self.peers[name] = make(self._sampling(name))

    def _sampling(self, name: str) -> Sampling:
        share = SLOW.get(name, 1) if self.fewer else 1
        streams = max(len(self.baseline.n) // share, 50)
        return Sampling(streams, WIDTH_S, 0, self.size.history)

    def learn(self) -> None:
        """Go through the history; sums that learn nothing from it begin after it."""
        for _ in range(self.size.history):
            numbers = self.source.draw()
            z = self.baseline.z(numbers.x)
            self.baseline.learn(numbers.x)
            for peer in self.peers.values():
                if peer.learns:
                    peer.update(_column(peer, numbers, z))
        if self.case.counted:
            sampling = self._sampling(POISSON)
            mean = self.baseline.mean()[: sampling.streams]
            self.peers[POISSON] = PoissonFocus(sampling, mean)

    def scores(self, effect: Effect = NO_EFFECT) -> dict[str, Floats]:
        """Return the scores of the next window, by peer."""
        numbers = self.source.draw(effect)
        z = self.baseline.z(numbers.x)
        return {name: peer.update(_column(peer, numbers, z)) for name, peer in self.peers.items()}


def _column(peer: Peer, numbers: Numbers, z: Floats) -> Floats:
    """Return what a peer reads, of as many streams as it has."""
    poisson = isinstance(peer, PoissonFocus)
    column = numbers.x if poisson else numbers.raw if peer.reads == "raw" else z
    return column[: peer.sampling.streams]


def _maxima(case: Case, size: _Size) -> tuple[dict[str, Floats], Floats]:
    """Return by peer the highest score of each stream while nothing is news, and the factors.

    Half of the streams go on as they were, factor 1, half at the edges of `min_change`.
    """
    row = _Row(case, size, size.null_streams, 21, fewer=True)
    row.learn()
    effect, factor = case.within(size.null_streams)
    most = {name: np.zeros(peer.sampling.streams) for name, peer in row.peers.items()}
    for _ in range(size.null_windows):
        for name, score in row.scores(effect).items():
            np.maximum(most[name], score, out=most[name])
    return most, factor


def _threshold(most: Floats, size: _Size) -> float:
    """Return the threshold with `size.rate` false alerts per stream and window.

    By block maxima: of independent streams, 1 - exp(-rate * windows) may ever reach it.
    """
    share = -np.expm1(-size.rate * size.null_windows)
    # just above, since a score at the threshold is an alarm
    return float(np.nextafter(np.quantile(most, 1.0 - share, method="higher"), np.inf))


def _peer_delays(
    case: Case, size: _Size, thresholds: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Return the delays by threshold, change and peer; all changes side by side."""
    changes = list(case.changes)
    every = size.streams * len(changes)
    row = _Row(case, size, every, 31, fewer=False)
    row.learn()
    keys = [(which, name) for which in thresholds for name in row.peers]
    first = {key: np.full(every, size.limit + 1.0) for key in keys}
    # who alarmed before there was anything to find is no example
    scores = row.scores()
    before = {(which, name): scores[name] >= thresholds[which][name] for which, name in keys}
    effect = case.effects(size.streams)
    for window in range(1, size.limit + 1):
        for name, score in row.scores(effect).items():
            of_peer = [first[which, name] for which in thresholds]
            for which, delays in zip(thresholds, of_peer, strict=True):
                alarm = score >= thresholds[which][name]
                delays[alarm] = np.minimum(delays[alarm], window)
            if window % 20 == 0 and all((delays <= window).all() for delays in of_peer):
                del row.peers[name]
        if not row.peers:
            break
    out: dict[str, Any] = {which: {change: {} for change in changes} for which in thresholds}
    for (which, name), delays in first.items():
        for number, change in enumerate(changes):
            mine = slice(number * size.streams, (number + 1) * size.streams)
            fair = delays[mine][~before[which, name][mine]]
            out[which][change][name] = _summary(fair if len(fair) else delays[mine], size.limit)
    return out


def _one_kind(kind: str, laws: list[Case], size: _Size, plan: Plan) -> list[dict[str, Any]]:
    maxima = []
    for case in laws:
        plan.say(f"delays: {kind}, {case.name}: thresholds")
        maxima.append(_maxima(case, size))
    # one threshold for a fleet in which all laws are as common
    pooled = {
        name: _threshold(np.concatenate([most[name] for most, _ in maxima]), size)
        for name in maxima[0][0]
    }
    notes, found = _notes(), []
    for case, (most, factor) in zip(laws, maxima, strict=True):
        plan.say(f"delays: {kind}, {case.name}")
        ours = _ours(case, size)
        own = {name: _threshold(top[factor[: len(top)] == 1.0], size) for name, top in most.items()}
        peers = _peer_delays(case, size, {"own": own, "pooled": pooled})
        changes = {
            change: {
                **ours[change],
                "notes": notes.get(case.name, {}).get(change),
                "peers": peers["own"][change],
                "pooled": peers["pooled"][change],
            }
            for change in case.changes
        }
        found.append({"law": case.name, "thresholds": own, "changes": changes})
    return found


def measure(plan: Plan) -> dict[str, Any]:
    """Return delays by kind, law and change: ours, the notes', and every peer's."""
    size = _Size(quick=plan.quick)
    kinds = {
        kind: _one_kind(kind, laws, size, plan) for kind, laws in cases(quick=plan.quick).items()
    }
    return {
        "rate": size.rate,
        "width_s": WIDTH_S,
        "history_windows": size.history,
        "limit": size.limit,
        "null_stream_windows": size.null_streams // 2 * size.null_windows,
        "kinds": kinds,
    }
