"""How streams go on after they fired: whether a change lasts and is plain to see.

In: windows, and what fires. Out: the findings whose effect, over ten seconds after they fired and
over each half of them, is twice what counts as news. Pure, and forgetful: after a restart it looks
again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
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
        rows = _rows(window, watched.values())
        # The window that found it is part of why it was found
        later = {
            row: finding
            for row, finding in rows.items()
            if window.time >= finding.detected and not self._after[finding.id].done
        }
        levels = {row: self._after[finding.id].at_hand() for row, finding in later.items()}
        _add(levels, window)
        plain = []
        for finding in later.values():
            after = self._after[finding.id]
            if (
                not after.done
                and after.long()
                and all(self._is_plain(finding, half) for half in (after.first, after.second))
            ):
                after.done = True
                plain.append(finding.id)
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
        if up:
            return level > before and level - before >= ((1.0 + least) ** 2 - 1.0) * abs(before)
        return before - level >= (1.0 - max(1.0 - least, 0.0) ** 2) * abs(before) > 0.0


def _rows(window: Window, findings: Iterable[Finding]) -> dict[int, Finding]:
    """Return the rows of a window that are streams of these findings."""
    pairs = {pair: i for i, pair in enumerate(window.pairs)}
    signals = {signal: i for i, signal in enumerate(window.signals)}
    of_stream = {
        pairs[f.pair] * len(signals) + signals[f.signal]: f
        for f in findings
        if f.pair in pairs and f.signal in signals
    }
    stream = window.pair.astype(np.int64) * len(signals) + window.signal
    at = np.flatnonzero(np.isin(stream, list(of_stream)))
    return {row: of_stream[int(stream[row])] for row in at.tolist()}


def _add(levels: Mapping[int, _Level], window: Window) -> None:
    """Add what rows of a window say to their levels, by row."""
    width = next((w for w in (window.width, window.nominal) if w > 0), 1.0)
    for row, level in levels.items():
        value, count = float(window.value[row]), float(window.count[row])
        if not math.isfinite(value):
            continue
        counted = kind_of(window.signals[window.signal[row]]) in (Kind.RATIO, Kind.LATENCY)
        weight = count if counted and count > 0 else width
        level.weight += weight
        level.total += weight * value
        level.covered_s += width
    entries = window.histograms
    mine = np.isin(entries.row, list(levels))
    for row, bucket, number in zip(
        *(column[mine].tolist() for column in (entries.row, entries.bucket, entries.number)),
        strict=True,
    ):
        buckets = levels[row].buckets
        buckets[bucket] = buckets.get(bucket, 0) + number
