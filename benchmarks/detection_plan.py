"""What all parts of `scripts/bench detection` are told, and how they speak."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run.

    Attributes:
        quick: short, to see that it works.
        data: directory with the folders of labelled curves; None: none.
        most_streams: the largest fleet of the part on cost.
        warnings: what the page must say first.
        began: monotonic seconds.
    """

    quick: bool
    data: Path | None
    most_streams: int
    warnings: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        """Tell whoever waits how far it is."""
        sys.stderr.write(f"{time.monotonic() - self.began:6.0f} s  {what}\n")

    def warn(self, what: str) -> None:
        """Say it now, and on the page."""
        if what not in self.warnings:
            self.warnings.append(what)
            self.say(what)
