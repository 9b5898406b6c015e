"""What a user may decide about detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from probes.window import kind_of

MIN_CHANGE: Final[Mapping[str, float]] = MappingProxyType(
    {
        "count": 0.2,
        "sum": 0.3,
        "latency": 0.2,
        "ratio": 0.02,
        "resets": 0.05,
        "retransmits": 0.0075,
        "gauge": 0.0,
    }
)
"""The least change that is news where nothing else was asked for, by signal, else by kind. A gauge
may be anything, around any zero: its own scatter decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """The knobs.

    Attributes:
        false_alerts_per_week: how many findings without a real change are acceptable, for all
            pairs and signals together.
        warmup_s: shortest history, in seconds of windows, before a stream may be judged.
        min_change: by name of a signal, or of a kind of signal for all those that are not named:
            the least relative change that is news (0.2 is 20 %); for ratios the least change of
            the share itself (0.02: from 1 % to 3 %). What is not there is as in `MIN_CHANGE`.
            Not to be changed afterwards.
        model: which engine judges, as `detector.engines` says.
    """

    false_alerts_per_week: float = 1.0
    warmup_s: float = 45.0
    min_change: Mapping[str, float] = field(default_factory=dict, hash=False)
    model: str = "tailrace"

    def least_change(self, signal: str) -> float:
        """Return the least change of `signal` that is news, as `min_change` says."""
        kind = kind_of(signal).value
        for table in (self.min_change, MIN_CHANGE):
            for name in (signal, kind):
                if name in table:
                    return table[name]
        return 0.0  # one that is new or silent has no size
