"""Findings from what the models found, and their form in a saved state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from detector.bank import Bank
from detector.finding import Direction, Finding, State, finding_id
from detector.sides import Side
from probes.window import UNITS, Pair


def changed(
    bank: Bank, i: int, *, pair: Pair, signal: str, log_c: float, cause: str, side: Side
) -> Finding:
    """Return the finding of stream `i` of `bank`, which has begun to fire."""
    row, t = bank.episodes.find(i), bank.episodes.table
    up = bool(t["fire"][row] > 0)
    direction: Direction = "up" if up else "down"
    onset, nats = float(t["onset"][row]), float(t["nats"][row])
    told = bank.describe(i, bank.run_of(row), best=int(t["best"][row]), up=up)
    judged = float(bank.table["judged"][i])
    # E[R] <= windows since the start while nothing changes, so P(R >= c) <= windows / c
    bound = (nats - math.log(max(judged, 1.0))) / math.log(10.0)
    return Finding(
        id=finding_id(pair, signal, direction, onset),
        pair=pair,
        signal=signal,
        direction=direction,
        onset=onset,
        detected=float(t["detected"][row]),
        before=told.before,
        after=told.after,
        ratio=_ratio(told.before, told.after),
        unit=UNITS.get(signal, ""),
        significance=max(bound, 0.0),
        cause=cause,
        side=side,
        state="firing",
        evidence={
            **told.evidence,
            "evidence, nats": nats,
            "threshold, nats": log_c,
            "windows judged": judged,
        },
    )


def ended(finding: Finding, bank: Bank, i: int, state: State, time: float) -> Finding:
    """Return `finding` as it ended, with the level over its whole life."""
    row = bank.episodes.find(i)
    best = int(bank.episodes.table["best"][row])
    told = bank.describe(i, bank.run_of(row), best=best, up=finding.direction == "up")
    ratio = _ratio(finding.before, told.after)
    return dataclasses.replace(finding, state=state, ended=time, after=told.after, ratio=ratio)


def presence(pair: Pair, direction: Direction, onset: float, end: float, log_p: float) -> Finding:
    """Return the finding of a pair that appeared ("new") or fell silent ("gone")."""
    new = direction == "new"
    signal = "new_pair" if new else "silent_pair"
    return Finding(
        id=finding_id(pair, signal, direction, onset),
        pair=pair,
        signal=signal,
        direction=direction,
        onset=onset,
        detected=end,
        before=None,
        after=None if new else 0.0,
        ratio=None,
        unit="",
        significance=max(log_p / math.log(10.0), 0.0),
        cause="",
        side="client" if new else "",
        state="firing",
        evidence={"chance by its own law of arrivals, nats": log_p},
    )


def to_state(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON values."""
    values = {f.name: getattr(finding, f.name) for f in dataclasses.fields(finding)}
    return {**values, "pair": list(finding.pair), "evidence": dict(finding.evidence)}


def from_state(values: Mapping[str, Any]) -> Finding:
    """Return the finding that `to_state` was given."""
    return Finding(**{**values, "pair": Pair(*cast("list[Any]", values["pair"]))})


def _ratio(before: float | None, after: float) -> float | None:
    if before is None or not before > 0:
        return None
    return after / before if np.isfinite(after / before) else None
