"""What is kept, how finely and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

CHUNK_STEPS = 360
"""So many steps of a tier make a chunk: 6 minutes of 1 s, an hour of 10 s, 6 hours of 1 min."""
SECTION_STEPS = 60
"""So many make a section of a chunk: one step of the summary by which pairs are listed."""


class Tier(NamedTuple):
    """One resolution and how long it is kept.

    Attributes:
        step: length of a step, whole seconds.
        keep: how far back it reaches, whole seconds.
    """

    step: int
    keep: int

    @property
    def chunk(self) -> int:
        """Length of a chunk, seconds."""
        return self.step * CHUNK_STEPS

    @property
    def section(self) -> int:
        """Length of a section, seconds."""
        return self.step * SECTION_STEPS


TIERS = (Tier(1, 3600), Tier(10, 86_400), Tier(60, 30 * 86_400))
MAX_SIZE = 1_500_000_000
LEAST_SIZE = 32_000_000
MAX_TIERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySettings:
    """Settings of the history.

    Attributes:
        tiers: the finest first; each step is a multiple of the one before, and kept longer.
        max_size: what the store may take on disk, bytes, its write-ahead log included.
    """

    tiers: Sequence[Tier] = TIERS
    max_size: int = MAX_SIZE
