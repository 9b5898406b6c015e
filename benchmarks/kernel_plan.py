"""How long and how often the kernel benchmark measures, and the statistics of what it finds."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one run of the benchmark does.

    Attributes:
        directory: for temporary files.
        quick: small and short, for developing: its figures are worth nothing.
        pairs: pairs (without, with) of each comparison.
        seconds: length of one measurement.
        warnings: what makes the figures doubtful; shown with them.
    """

    directory: Path
    quick: bool
    pairs: int
    seconds: float
    warnings: list[str] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """How often what is not a comparison of two runs is repeated."""
        return 2 if self.quick else 6

    @staticmethod
    def say(text: str) -> None:
        """Tell whoever waits how far it is."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def warn(self, text: str) -> None:
        """Say, now and with the results, what makes them doubtful."""
        self.warnings.append(text)
        self.say(f"warning: {text}")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the most of the values, and how many they are.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("nothing was measured")
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "number": len(values),
    }
