"""How bad something is for users, in three steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""From the most to the least severe."""


def rank(severity: Severity) -> int:
    """Return 0 for the most severe, and more for less."""
    return SEVERITIES.index(severity)


def worst(severities: Iterable[Severity]) -> Severity:
    """Return the most severe; "info" of none."""
    return min(severities, key=rank, default="info")
