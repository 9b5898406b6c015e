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
    }
)
"""Least change that is news where the user says nothing, by signal, else by kind: relative to
the baseline; of ratios, the least share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """The knobs.

    Attributes:
        false_alerts_per_week: how many findings without a real change are acceptable, for all
            pairs and signals together.
        warmup_s: shortest history, in seconds of windows, before a stream may be judged.
        min_change: least change that is news, by name of a signal or of a kind ("count", "sum",
            "latency", "ratio"): relative to the baseline, 0.2 for a fifth; of ratios the least
            share. What is not there is as in `MIN_CHANGE`.
    """

    false_alerts_per_week: float = 1.0
    warmup_s: float = 45.0
    min_change: Mapping[str, float] = field(default_factory=dict)

    def least_change(self, signal: str) -> float:
        """Return the least change of `signal` that is news; 0.0 for a gauge."""
        names = (signal, kind_of(signal).value)
        for table in (self.min_change, MIN_CHANGE):
            for name in names:
                if name in table:
                    return float(table[name])
        return 0.0
