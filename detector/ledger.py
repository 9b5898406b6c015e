"""The budget: what each stream may spend of it, and whether the promise is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector import evidence
from detector.bank import Bank
from detector.blocks import LEARNING
from detector.calibration import Calibration
from detector.catalog import Catalog
from detector.episodes import Outcome
from detector.health import Health
from detector.observe import LEVEL
from probes.window import Kind

Floats = NDArray[Any]

EARNED_HALF_LIFE_S = 7 * 86_400.0
"""What a kind has earned fades by half in this time."""
UNDOUBTED, MOST_EARNED = 3.0, 6.0
"""Alarms of late that are not held against a kind, and most that is (nats)."""
HABIT_HALF_LIFE_S = 2 * 86_400.0
"""The same for a single stream's habit of coming back by itself."""
ACTIVE_S = 3600.0
"""A stream without a row for this long has no share of the budget."""
MODELS = (Kind.COUNT, Kind.SUM, Kind.RATIO, Kind.LATENCY, Kind.GAUGE)


class Ledger:
    """Thresholds from the theorem, and an account of what they allowed and what came.

    The budget is split over the streams that were active of late. Those of busy pairs get more of
    it, as 1 + ln(1 + events per window), since more people are behind them: that costs the others
    less than a nat. Where the e-values of a kind show that its null is wrong here, its threshold
    is raised (`detector.health`); and where it has given more alarms of late than its thresholds
    allow, by the logarithm of how many times more: what the kind has earned. Changes that are real
    have evidence to spare.

    Args:
        per_week: the budget: false alarms a week, of all streams together.

    Attributes:
        streams: how many there were when the budget was last shared out.
    """

    def __init__(self, per_week: float) -> None:
        self._per_week = per_week
        self._health = Health()
        self._active, self.streams = 1, 0
        # by kind: stream-seconds judged, false alarms allowed, alarms; alarms of late
        self._account: dict[Kind, list[float]] = {}
        self._faded_to = -np.inf

    def share_out(self, catalog: Catalog, now: float) -> None:
        """Count the active streams and pairs, and weigh the streams by their pairs' traffic."""
        t, pairs = catalog.streams, catalog.pairs
        if now > self._faded_to:
            past = now - self._faded_to if np.isfinite(self._faded_to) else 0.0
            for entry in self._account.values():
                entry[3] *= 0.5 ** (past / EARNED_HALF_LIFE_S)
            t["habit"][:] *= 0.5 ** (past / HABIT_HALF_LIFE_S)
        self._faded_to = now
        self.streams = t.size
        active = now - t["last"] < ACTIVE_S
        # A pair whose rates are measured has a share too, for falling silent
        rated = np.unique(t["pair"][active & (t["bank"] <= LEVEL)])
        self._active = int(active.sum()) + len(rated)
        if active.any():
            weight = 1.0 + np.log1p(np.maximum(pairs["traffic"], 0.0))[t["pair"]]
            t["weight"][:] = np.log(weight / weight[active].mean())

    def log_c(self, spacing: Floats, weight: Floats, kind: Kind) -> Floats:
        """Return thresholds, nats.

        Args:
            spacing: float[m] or [1], seconds between windows.
            weight: float[m] or [1], ln of the share of the budget over an equal one.
            kind: of the streams.
        """
        base = evidence.log_threshold(self._active, spacing, self._per_week)
        base += self._raised(kind)
        log_c: Floats = base.astype(np.float32) - weight
        return np.maximum(log_c, np.float32(evidence.LEAST_NATS))

    def _raised(self, kind: Kind) -> float:
        """Return by how much the thresholds of a kind are above the theory's, nats."""
        if kind is Kind.GAUGE:
            return 0.0  # its threshold comes from experience alone (`detector.peaks`)
        recent = self._account[kind][3] if kind in self._account else 0.0
        earned = min(float(np.log(max(recent / UNDOUBTED, 1.0))), MOST_EARNED)
        return self._health.penalty.get(kind, 0.0) + earned

    def note(self, kind: Kind, outcome: Outcome, spacing_s: float) -> None:
        """Enter one window of one kind."""
        entry = self._account.setdefault(kind, [0.0, 0.0, 0.0, 0.0])
        entry[0] += outcome.judged * spacing_s
        entry[1] += outcome.allowed
        entry[2] += len(outcome.fired)
        entry[3] += len(outcome.fired)
        if outcome.health == outcome.health:
            self._health.update(kind, outcome.health)

    def calibration(self, banks: Sequence[Bank]) -> list[Calibration]:
        """Return the account of each kind of which streams are judged."""
        found = []
        for kind, bank in zip(MODELS, banks, strict=True):
            if kind not in self._account:
                continue
            streams = int((bank.table["live"] != LEARNING).sum())
            if streams == 0:
                continue
            seconds, expected, realised, _ = self._account[kind]
            raised = self._raised(kind)
            found.append(
                Calibration(
                    kind=kind,
                    streams=streams,
                    stream_weeks=seconds / evidence.SECONDS_PER_WEEK,
                    expected=expected,
                    realised=int(realised),
                    e_value=self._health.recent(kind),
                    threshold="empirical" if raised > 0 or kind is Kind.GAUGE else "theory",
                    raised_nats=raised,
                )
            )
        return found

    def to_state(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "active": self._active,
            "streams": self.streams,
            "faded_to": self._faded_to,
            "health": self._health.to_state(),
            "account": {kind.value: entry for kind, entry in self._account.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what `to_state` returned."""
        self._active, self.streams = state["active"], state["streams"]
        self._faded_to = state["faded_to"]
        self._health = Health.from_state(state["health"])
        self._account = {Kind(name): list(entry) for name, entry in state["account"].items()}
