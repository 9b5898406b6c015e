"""Whether the null hypotheses hold: a watch over the e-values of each kind of signal."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from probes.window import Kind

HISTORY = 512
EVERY = 64
NATS_PER_EXCESS = 20.0
MOST_NATS = 8.0


class Health:
    """Mean e-value of quiet streams, per kind, and what it costs to be above 1.

    While nothing has changed the e-values of a kind average at most 1. When ADWIN (Bifet and
    Gavalda 2007) finds their recent mean above it, the model of that kind is wrong here, and its
    threshold goes up until the mean is back. The histories are the whole state: ADWIN runs over
    them afresh each time, so that a restored detector decides as one that never stopped. river
    is loaded only for a history that needs it.
    """

    def __init__(self) -> None:
        self.history: dict[Kind, deque[float]] = {}
        self.seen: dict[Kind, int] = {}
        self.penalty: dict[Kind, float] = {}

    def update(self, kind: Kind, e_value: float) -> None:
        """Take the mean e-value of one window."""
        history = self.history.setdefault(kind, deque(maxlen=HISTORY))
        history.append(e_value)
        self.seen[kind] = self.seen.get(kind, 0) + 1
        if self.seen[kind] % EVERY == 0:
            self.penalty[kind] = self._judge(history)

    def recent(self, kind: Kind) -> float:
        """Return the mean e-value of the last windows of a kind; NaN before any."""
        history = self.history.get(kind)
        return sum(list(history)[-EVERY:]) / min(len(history), EVERY) if history else float("nan")

    def _judge(self, history: deque[float]) -> float:
        if max(sum(history) / len(history), sum(list(history)[-EVERY:]) / EVERY) <= 1.0:
            return 0.0
        from river.drift import ADWIN  # noqa: PLC0415 - a second to load, and rarely needed

        adwin: Any = ADWIN()  # type: ignore[no-untyped-call]
        for value in history:
            adwin.update(value)
        return float(min(max(adwin.estimation - 1.0, 0.0) * NATS_PER_EXCESS, MOST_NATS))

    def to_state(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            kind.value: [list(history), self.seen[kind], self.penalty.get(kind, 0.0)]
            for kind, history in self.history.items()
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Health:
        """Return what `to_state` was given."""
        self = cls()
        for name, (history, seen, penalty) in state.items():
            kind = Kind(name)
            self.history[kind] = deque(history, maxlen=HISTORY)
            self.seen[kind], self.penalty[kind] = seen, penalty
        return self
