"""What a user may decide about detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """The knobs.

    Attributes:
        false_alerts_per_week: how many findings without a real change are acceptable, for all
            pairs and signals together.
        warmup_s: shortest history, in seconds of windows, before a stream may be judged.
        min_change: signal or kind name -> least relative change that is news.
        model: which engine judges, as `detector.engines` says.
    """

    false_alerts_per_week: float = 1.0
    warmup_s: float = 45.0
    min_change: Mapping[str, float] = field(default_factory=dict)
    model: str = "tailrace"
