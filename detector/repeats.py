"""What is told once: of findings that say the same, the first.

The flows of a pair (requests, connections, bytes) rise and fall together: one of them tells it. And
when thin pairs change together, their roll-up tells it, and not each of hundreds (`detector.rollup`
has the reverse: a change that one member explains is told of that). And what becomes better and
then as before, again and again, is a habit: that it is no news does no harm, as it would of what
becomes worse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from detector.finding import Finding
from probes.window import EVERY, Kind, Pair, is_rollup, kind_of

NEAR_S = 120.0
"""Changes that began within this time of one another may be one."""
HABIT = 2
"""Improvements of a stream that came and went, after which further ones are no news."""
MOST_HABITS = 10_000
FLOWS = ("requests", "waits", "connections", "bytes_sent", "bytes_received")
"""In the order in which they are told when they are found together."""


class Repeats:
    """Which open findings are not told.

    Attributes:
        muted: ids of open findings that are not told, since another says the same.
        improved: how often what got better was as before again, by pair and signal.
    """

    def __init__(self) -> None:
        self.muted: set[str] = set()
        self.improved: dict[tuple[Pair, str], int] = {}

    def told(self, findings: Iterable[Finding], running: Iterable[Finding]) -> list[Finding]:
        """Return a window's findings without those that repeat others.

        Args:
            findings: began or ended in this window.
            running: all that have not ended and are told, these included.
        """
        ordered = sorted(findings, key=_rank)
        if not ordered:
            return []
        new = {finding.id for finding in ordered}
        said = defaultdict[Pair, list[Finding]](list)
        for finding in running:
            if finding.id not in new and finding.id not in self.muted:
                said[finding.pair].append(finding)
        kept = []
        for finding in ordered:
            if finding.state != "firing":
                self._remember(finding)
                if finding.id in self.muted:
                    self.muted.discard(finding.id)
                    continue
            elif self._is_habit(finding) or any(
                _says(other, finding) for at in _around(finding.pair) for other in said[at]
            ):
                self.muted.add(finding.id)
                continue
            else:
                said[finding.pair].append(finding)
            kept.append(finding)
        return kept

    def _is_habit(self, finding: Finding) -> bool:
        habit = self.improved.get((finding.pair, finding.signal), 0) >= HABIT
        return habit and _is_improvement(finding)

    def _remember(self, finding: Finding) -> None:
        if not _is_improvement(finding):
            return
        key = finding.pair, finding.signal
        times = self.improved.pop(key, 0)
        if finding.state == "resolved":
            self.improved[key] = min(times + 1, HABIT)
        while len(self.improved) > MOST_HABITS:
            del self.improved[next(iter(self.improved))]


def _is_improvement(finding: Finding) -> bool:
    kind = kind_of(finding.signal)
    return kind in (Kind.RATIO, Kind.LATENCY) and finding.direction == "down"


def _rank(finding: Finding) -> tuple[object, ...]:
    """Order findings: roll-ups before their members, and flows as `FLOWS` has them."""
    flow = FLOWS.index(finding.signal) if finding.signal in FLOWS else -1
    return (not is_rollup(finding.pair), flow, finding.onset, finding.pair, finding.signal)


def _around(pair: Pair) -> tuple[Pair, ...]:
    """Return a pair and its roll-ups."""
    if is_rollup(pair):
        return (pair,)
    return pair, Pair(EVERY, *pair[1:]), Pair(pair.client, EVERY, 0, pair.transport)


def _says(told: Finding, finding: Finding) -> bool:
    """Return whether what is told of a pair, or of its roll-up, says what a finding does."""
    if abs(told.onset - finding.onset) > NEAR_S:
        return False
    if told.pair != finding.pair:
        if told.signal == finding.signal and told.direction == finding.direction:
            return True
        if told.direction == "down" and told.signal in FLOWS and finding.direction == "gone":
            return True
    flows = told.signal in FLOWS and finding.signal in FLOWS
    return flows and told.direction == finding.direction
