"""Which pairs are odd: what each does now against its own habits, and all of that against others.

A pair that has twice its usual requests is not odd when all have; one that has not, is. So the
deviations of a pair from its own habits are put among those of all pairs: the distance from their
centre in the metric of their own scatter (Mahalanobis), both of which a robust estimate gives, so
that the odd ones do not make themselves usual. river's HalfSpaceTrees was tried for the same and
finds less (docs/dependencies.md, `scripts/bench oddity`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.table import Column, Table
from probes.window import Pair, Window

Floats = NDArray[np.float64]

FEATURES: Final = ("rate", "errors", "latency", "bytes")
CLIP: Final = 10.0
"""Most deviations that are told."""
FAST: Final = 1.0 - 0.5 ** (1 / 5)
SLOW: Final = 1.0 - 0.5 ** (1 / 300)
"""Gains per window: what it does now is the last five, its habit the last five minutes or so."""
LEAST_WINDOWS: Final = 30
LEAST_SPREAD: Final = np.array([0.3, 0.03, 0.05, 0.1])
"""Below it no deviation is one: square roots of events, arcsines of shares, logarithms."""
PAIRS_AT_ONCE: Final = 2000
"""Of more pairs, only one window in two, three and so on is read."""
FORGET_S: Final = 3600.0
FORGET_EVERY: Final = 1024
_RATES: Final = ("requests", "connections")
_BYTES: Final = ("bytes_sent", "bytes_received")
_ERRORS: Final = ("connect_errors", "resets", "dns_errors", "drops")
_LATENCIES: Final = ("rtt", "connect_latency", "dns_latency", "request_latency")
"""The last that there is counts."""
_PAUSED: Final = 1.5
_CENTRED, _ROUND = 4.0, 4.0
"""Pairs' worth of doubt that deviations are common, and that they go together."""
_FAR: Final = 3.0


class Odd(NamedTuple):
    """How odd a pair is.

    Attributes:
        distance: from what pairs do at the moment, in deviations, >= 0.
        deviations: by feature, by how much it is off its own habit, within +-`CLIP`; what was not
            measured is left out.
    """

    distance: float
    deviations: Mapping[str, float]


class Habits:
    """What is usual for each pair, learned window by window; no stream is judged by it."""

    def __init__(self) -> None:
        size = (len(FEATURES),)
        self._table = Table(
            {
                "n": Column("f8", size),
                "now": Column("f8", size),
                "habit": Column("f8", size),
                "spread": Column("f8", size),
                "last": Column("f8", (), -np.inf),
            }
        )
        self._number: dict[Pair, int] = {}
        self._seen: tuple[Pair, ...] = ()
        self._at = np.zeros(0, np.int64)
        self._windows, self._reads = 0, 0

    def update(self, window: Window) -> None:
        """Take one more window."""
        if not len(window) or not np.isfinite(window.time):
            return
        if window.width > _PAUSED * window.nominal or window.width <= 0:
            return
        self._windows += 1
        if self._windows % (1 + len(window.pairs) // PAIRS_AT_ONCE) != 0:
            return
        self._find(window.pairs)
        y = features(window)
        t, at = self._table, self._at
        t["last"][at] = window.time
        there = np.isfinite(y)
        y = np.where(there, y, 0.0)
        n = t["n"][:, at].T + there
        first = there & (n == 1)
        for name in ("now", "habit"):
            t[name][:, at] = np.where(first, y, t[name][:, at].T).T
        known = np.maximum(n, 1.0)
        before, habit, spread = t["now"][:, at].T, t["habit"][:, at].T, t["spread"][:, at].T
        now = before + np.where(there, FAST, 0.0) * (y - before)
        off = now - habit
        reach = np.where(n < LEAST_WINDOWS, np.inf, _FAR * np.maximum(spread, LEAST_SPREAD))
        pull = np.clip(off, -reach, reach)
        gain = np.where(there, np.maximum(SLOW, 1.0 / known), 0.0)
        t["n"][:, at], t["now"][:, at] = n.T, now.T
        t["habit"][:, at] = (habit + gain * pull).T
        t["spread"][:, at] = np.sqrt(spread**2 + gain * (pull**2 - spread**2)).T
        self._reads += 1
        if self._reads % FORGET_EVERY == 0:
            self._forget(window.time)

    def odd(self) -> dict[Pair, Odd]:
        """Return how odd the pairs of the last window are; a pair without a habit is left out."""
        t, at = self._table, self._at
        known = t["n"][:, at].T >= LEAST_WINDOWS
        spread = np.maximum(t["spread"][:, at].T, LEAST_SPREAD)
        away = (t["now"][:, at] - t["habit"][:, at]).T
        off = np.where(known, np.clip(away / spread, -CLIP, CLIP), 0.0)
        some = np.flatnonzero(known.any(axis=1))
        found = zip(
            some.tolist(), distances(off[some]).tolist(), off[some].tolist(), known[some].tolist(),
            strict=True,
        )  # fmt: skip
        return {
            self._seen[i]: Odd(
                distance,
                {
                    name: value
                    for name, value, told in zip(FEATURES, row, which, strict=True)
                    if told
                },
            )
            for i, distance, row, which in found
        }

    def _find(self, pairs: tuple[Pair, ...]) -> None:
        if pairs is self._seen or pairs == self._seen:
            return
        for pair in pairs:
            if pair not in self._number:
                self._number[pair] = int(self._table.grow(1)[0])
        self._seen = pairs
        self._at = np.array([self._number[pair] for pair in pairs], np.int64)

    def _forget(self, now: float) -> None:
        kept = now - self._table["last"] < FORGET_S
        if kept.all():
            return
        number = np.cumsum(kept) - 1
        self._number = {p: int(number[i]) for p, i in self._number.items() if kept[i]}
        self._table.keep(kept)
        pairs, self._seen = self._seen, ()
        self._find(pairs)


def features(window: Window) -> Floats:
    """Return what each pair of a window did, float64[pairs, features]; NaN: not measured.

    On scales on which chance has the same size at every level: square roots of events per window,
    arcsines of shares of failures, logarithms of latencies and of bytes.
    """
    pairs, names = len(window.pairs), np.array(window.signals)
    found = np.full((pairs, len(FEATURES)), np.nan)
    good = np.isfinite(window.value) & (window.value >= 0.0) & (window.value < 1e15)

    def rows(signals: tuple[str, ...]) -> NDArray[np.int64]:
        return np.flatnonzero(good & np.isin(names, signals)[window.signal])

    def total(at: NDArray[np.int64], weight: Floats) -> Floats:
        sums = np.bincount(window.pair[at], weight, pairs)
        there = np.bincount(window.pair[at], minlength=pairs) > 0
        return np.where(there, sums, np.nan)

    seconds = window.nominal if window.nominal > 0 else 1.0
    at = rows(_RATES)
    found[:, 0] = 2.0 * np.sqrt(total(at, window.value[at]) * seconds + 0.375)
    at = rows(_ERRORS)
    at = at[(window.count[at] > 0) & (window.count[at] < 1e15)]
    failed = total(at, window.value[at] * window.count[at])
    tried = total(at, window.count[at].astype(np.float64))
    # Three attempts more that did not fail: one failure of one is no outage
    found[:, 1] = np.arcsin(np.sqrt(np.clip(failed / (tried + 3.0), 0.0, 1.0)))
    for signal in _LATENCIES:
        at = rows((signal,))
        at = at[window.value[at] > 0]
        found[window.pair[at], 2] = np.log(window.value[at])
    at = rows(_BYTES)
    found[:, 3] = np.log1p(total(at, window.value[at]))
    return found


def distances(deviations: Floats) -> Floats:
    """Return how far each row is from the centre of all, in the metric of their scatter.

    A one-step M-estimate: the median, a scale of each feature by the median deviation, and the
    scatter of what is left with rows beyond `_FAR` weighted down. Few rows make neither a centre
    nor correlations: both are shrunk towards none.

    Args:
        deviations: float64[n, features].

    Returns:
        float64[n], >= 0.
    """
    n, size = deviations.shape
    if n == 0:
        return np.zeros(0)
    shrink = n / (n + _CENTRED)
    off = deviations - shrink * np.median(deviations, axis=0)
    units = off / np.maximum(shrink * 1.4826 * np.median(np.abs(off), axis=0), 1.0)
    weight = np.minimum(1.0, _FAR / np.maximum(np.linalg.norm(units, axis=1), 1e-9))
    bounded = units * weight[:, None]
    scatter = (bounded.T @ bounded + _ROUND * np.eye(size)) / (n + _ROUND)
    squares = np.einsum("ij,jk,ik->i", units, np.linalg.inv(scatter), units)
    found: Floats = np.sqrt(np.maximum(squares, 0.0))
    return found
