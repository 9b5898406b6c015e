"""Any other number: robust scores around a level that may follow the time of day."""

from __future__ import annotations

from detector.levels import LevelBank


class GaugeBank(LevelBank):
    """TODO."""
