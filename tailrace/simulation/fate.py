"""What happens to whom: a scenario's faults on its pairs, window by window, and the truth of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from probes.window import Pair
from tailrace.simulation.scenario import Fault, Scenario

Floats = NDArray[np.float64]

SIGNAL_OF: Final[Mapping[str, str]] = {
    "rate": "requests",
    "silence": "requests",
    "errors": "connect_errors",
    "resets": "resets",
    "loss": "retransmits",
    "stalls": "stalls",
    "drops": "drops",
    "latency": "request_latency",
    "tail": "request_latency",
    "leak": "request_latency",
    "deploy": "request_latency",
    "scale-out": "new_pair",
}
"""The signal that a kind of fault is seen in first; "" for those of the whole host."""
SHARES: Final = {"errors": "errors", "resets": "resets", "loss": "retransmits",
                 "stalls": "stalls", "drops": "drops"}  # fmt: skip
"""Kinds that set a share, and the key of `Pairs` that has it without them."""
_DEFAULT_SIZE: Final = {"silence": 0.0, "deploy": 1.15, "leak": 0.02}
OF_THE_HOST: Final = ("lost", "pause", "gap")


@dataclass(frozen=True, slots=True)
class Member:
    """One service pair of a fleet.

    Attributes:
        pair: its name.
        law: number of its law in the scenario.
        since: when it appears, seconds after the start; 0 if it was always there.
        fault: number of the scale-out that brings it, -1 for none.
    """

    pair: Pair
    law: int
    since: float = 0.0
    fault: int = -1


@dataclass(frozen=True, slots=True)
class Truth:
    """One thing that was made to happen.

    Attributes:
        pair: to whom; None for the whole host.
        signal: where it shows first; "" for the whole host.
        kind: as in the scenario.
        onset: epoch seconds.
        end: epoch seconds; inf for one that stays.
        size: as in the scenario.
    """

    pair: Pair | None
    signal: str
    kind: str
    onset: float
    end: float
    size: float

    def to_dict(self) -> dict[str, Any]:
        """Return the public form; `end` is null for one that stays."""
        named = {} if self.pair is None else self.pair._asdict()
        return {
            **{key: named.get(key) for key in ("client", "server", "port", "transport")},
            "signal": self.signal or None,
            "kind": self.kind,
            "onset": self.onset,
            "end": None if math.isinf(self.end) else self.end,
            "size": self.size,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """One fault and the pairs it is about: their numbers, int64[k]."""

    fault: Fault
    members: NDArray[np.int64]

    @property
    def size(self) -> float:
        """How large it is."""
        return size_of(self.fault)

    def overlap(self, start: Floats, width: Floats) -> Floats:
        """Return the share of each window, [B], in which it is there; start is since the start."""
        return (self._before(start + width) - self._before(start)) / width

    def _before(self, at: Floats) -> Floats:
        """Return for how many seconds it was there until then."""
        since = np.maximum(at - self.fault.at, 0.0)
        if self.fault.lasts is None:
            return since
        if self.fault.every is None:
            return np.minimum(since, self.fault.lasts)
        return on_time(since, self.fault.every, self.fault.lasts)

    def age(self, at: Floats) -> Floats:
        """Return for how many seconds it has been there, at moments since the start."""
        since = np.maximum(at - self.fault.at, 0.0)
        return since if self.fault.every is None else since % self.fault.every


def size_of(fault: Fault) -> float:
    """Return the size of a fault, which some kinds need not be told."""
    return _DEFAULT_SIZE.get(fault.kind, 0.0) if fault.size is None else fault.size


def on_time(since: Floats, every: float, lasts: float) -> Floats:
    """Return for how long something periodic has been on, after `since` seconds."""
    whole = np.floor(since / every)
    return whole * lasts + np.minimum(since - whole * every, lasts)


def members(scenario: Scenario) -> list[Member]:
    """Return every pair of a scenario, those that come later last."""
    found = [
        Member(pair, law) for law, pairs in enumerate(scenario.pairs) for pair in pairs.names()
    ]
    for number, fault in enumerate(scenario.faults):
        if fault.kind == "scale-out":
            for i in _matched(found, fault).tolist():
                member = found[i]
                found += [
                    Member(
                        member.pair._replace(client=f"{member.pair.client}-new{n}"),
                        member.law,
                        fault.at,
                        number,
                    )
                    for n in range(1, round(size_of(fault)) + 1)
                ]
    return found


def _matched(found: list[Member], fault: Fault) -> NDArray[np.int64]:
    matched = [
        i
        for i, member in enumerate(found)
        if fnmatchcase(member.pair.client, fault.client)
        and fnmatchcase(member.pair.server, fault.server)
        and fault.port in (None, member.pair.port)
    ]
    return np.array(matched[: fault.only], np.int64)


def applied(scenario: Scenario, found: list[Member]) -> list[Applied]:
    """Return the faults of pairs, each with the pairs it is about."""
    return [
        Applied(fault, _matched(found, fault))
        for fault in scenario.faults
        if fault.kind not in (*OF_THE_HOST, "scale-out")
    ]


def unmatched(scenario: Scenario) -> list[Fault]:
    """Return the faults that are about no pair of the scenario."""
    found = members(scenario)
    return [
        fault
        for fault in scenario.faults
        if fault.kind not in OF_THE_HOST and not len(_matched(found, fault))
    ]


def truths(scenario: Scenario, lasts: float) -> Iterator[Truth]:
    """Yield what happens within `lasts` seconds, by fault, occurrence and pair."""
    found = members(scenario)
    asked = {member.pair for member in found if scenario.pairs[member.law].dns}
    for number, fault in enumerate(scenario.faults):
        whom: list[Pair | None] = [None]
        if fault.kind == "scale-out":
            whom = [member.pair for member in found if member.fault == number]
        elif fault.kind not in OF_THE_HOST:
            whom = [found[i].pair for i in _matched(found, fault).tolist()]
        at = fault.at
        while at < lasts:
            end = math.inf if fault.lasts is None else scenario.begin + at + fault.lasts
            for pair in whom:
                signal = SIGNAL_OF.get(fault.kind, "")
                if pair in asked and fault.kind == "errors":
                    signal = "dns_errors"
                yield Truth(pair, signal, fault.kind, scenario.begin + at, end, size_of(fault))
            if fault.every is None:
                break
            at += fault.every


def timeline(scenario: Scenario, window: float, lasts: float) -> Iterator[tuple[float, float]]:
    """Yield the start, in seconds after the scenario's, and the width of each window.

    In a pause the daemon does not read: one window is as much longer. In a gap nobody counts.
    """
    breaks = sorted(
        (at, fault.lasts or 0.0, fault.kind)
        for fault in scenario.faults
        if fault.kind in ("pause", "gap")
        for at in _onsets(fault, lasts)
    )
    start, number = 0.0, 0
    base = 0.0
    while start < lasts - 1e-9 * window:
        width = window
        while breaks and breaks[0][0] < start + width:
            at, long, kind = breaks.pop(0)
            if kind == "pause":
                width += long
            elif at + long > start:
                base, number, start = at + long, 0, at + long
        if start < lasts - 1e-9 * window:
            yield start, width
        if width == window:
            number += 1
        else:
            base, number = start + width, 0
        start = base + number * window


def _onsets(fault: Fault, lasts: float) -> list[float]:
    if fault.every is None:
        return [fault.at]
    return [fault.at + i * fault.every for i in range(math.ceil((lasts - fault.at) / fault.every))]
