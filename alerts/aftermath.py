"""How streams go on after they fired: whether a change lasts and is plain to see.

In: windows, and what fires. Out: the findings whose effect, over ten seconds after they fired and
over each half of them, is twice what counts as news. Pure, and forgetful: after a restart it looks
again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from detector.finding import Finding
from probes.histogram import quantile_s
from probes.window import Kind, Window, kind_of

LASTS_S: Final = 10.0
"""How long a change must go on after it was found."""
_NEARLY_S: Final = 1e-3


@dataclass(slots=True)
class _Level:
    """What was measured in some time: weighted sums, and a latency's histogram."""

    covered_s: float = 0.0
    weight: float = 0.0
    total: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)

    def value(self, share: float) -> float:
        """Return the mean, or of a latency with a histogram the quantile of that share."""
        if self.buckets:
            bucket = np.array(sorted(self.buckets), np.int64)
            number = np.array([self.buckets[b] for b in bucket.tolist()], np.int64)
            return float(quantile_s(bucket, number, [share])[0])
        return self.total / self.weight if self.weight > 0 else math.nan


@dataclass(slots=True)
class _After:
    """The time since a finding fired, in halves: what a single spike leaves is not in both."""

    first: _Level = field(default_factory=_Level)
    second: _Level = field(default_factory=_Level)
    done: bool = False

    def at_hand(self) -> _Level:
        """Return the half that the next window belongs to."""
        return self.first if self.first.covered_s < LASTS_S / 2 - _NEARLY_S else self.second

    def long(self) -> bool:
        """Return whether both halves are over."""
        return self.first.covered_s + self.second.covered_s >= LASTS_S - _NEARLY_S and bool(
            self.second.covered_s
        )


class Aftermath:
    """Watches what fires.

    Args:
        least_change: the least change that is news, by signal, as in `DetectorSettings`.
    """

    def __init__(self, least_change: Callable[[str], float]) -> None:
        self._least_change = least_change
        self._after: dict[str, _After] = {}

    def update(self, window: Window, firing: Iterable[Finding]) -> list[str]:
        """Take the next window and what fires after it; return ids of findings now plain.

        Each id is returned once.
        """
        watched = {
            f.id: f for f in firing if f.direction in ("up", "down") and f.before is not None
        }
        self._after = {id_: self._after.get(id_, _After()) for id_ in watched}
        if not watched:
            return []
        pairs = {pair: i for i, pair in enumerate(window.pairs)}
        signals = {signal: i for i, signal in enumerate(window.signals)}
        plain = []
        for id_, finding in watched.items():
            after, pair = self._after[id_], pairs.get(finding.pair)
            signal = signals.get(finding.signal)
            # The window that found it is part of why it was found
            if after.done or pair is None or signal is None or window.time < finding.detected:
                continue
            _add(
                after.at_hand(),
                window,
                np.flatnonzero((window.pair == pair) & (window.signal == signal)),
            )
            if after.long() and all(
                self._is_plain(finding, half) for half in (after.first, after.second)
            ):
                after.done = True
                plain.append(id_)
        return plain

    def _is_plain(self, finding: Finding, after: _Level) -> bool:
        share = finding.evidence.get("quantile", 0.5)
        level = after.value(share if isinstance(share, float) else 0.5)
        before, least = finding.before or 0.0, self._least_change(finding.signal)
        up = finding.direction == "up"
        if least <= 0.0 or not math.isfinite(level):
            return False  # no size is known to be news
        if kind_of(finding.signal) is Kind.RATIO:
            return (level - before if up else before - level) >= 2.0 * least
        # The least change, and the same again on top of it
        return level >= before * (1.0 + least) ** 2 if up else level <= before * _twice_less(least)


def _twice_less(least: float) -> float:
    return max(1.0 - least, 0.0) ** 2


def _add(after: _Level, window: Window, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    width = next((w for w in (window.width, window.nominal) if w > 0), 1.0)
    for row in rows.tolist():
        value, count = float(window.value[row]), float(window.count[row])
        if not math.isfinite(value):
            continue
        counted = kind_of(window.signals[window.signal[row]]) in (Kind.RATIO, Kind.LATENCY)
        weight = count if counted and count > 0 else width
        after.weight += weight
        after.total += weight * value
        after.covered_s += width
        mine = window.histograms.row == row
        for bucket, number in zip(
            window.histograms.bucket[mine].tolist(),
            window.histograms.number[mine].tolist(),
            strict=True,
        ):
            after.buckets[bucket] = after.buckets.get(bucket, 0) + number
