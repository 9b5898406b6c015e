"""What a user may decide about detection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """The knobs.

    Attributes:
        false_alerts_per_week: how many findings without a real change are acceptable, for all
            pairs and signals together.
        warmup_s: shortest history, in seconds of windows, before a stream may be judged.
    """

    false_alerts_per_week: float = 1.0
    warmup_s: float = 45.0
