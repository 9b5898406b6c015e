"""The part of the configuration that says what is kept of the past."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tailrace.durations import duration_s, duration_text, exact_text
from tailrace.history.settings import LEAST_SIZE, MAX_SIZE, MAX_TIERS, TIERS, HistorySettings, Tier

_TIER = re.compile(r"\s*(\S+)\s+for\s+(\S+)\s*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(MB|GB|TB|MiB|GiB|TiB)\s*")
_UNITS = {
    "MB": 1000**2, "GB": 1000**3, "TB": 1000**4, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4,
}  # fmt: skip
_LONGEST_STEP, _LONGEST_KEEP = 3600, 3660 * 86_400


def size_bytes(given: object) -> int:
    """Return a size in bytes.

    Raises:
        ValueError: it is none, or too little to be of use.

    >>> size_bytes("1.5GB"), size_bytes("64 MiB")
    (1500000000, 67108864)
    """
    match = _SIZE.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError(f"{given!r} is not a size: write it like 500MB, 1.5GB or 2GiB")
    size = round(float(match[1]) * _UNITS[match[2]])
    if size < LEAST_SIZE:
        raise ValueError(f"{given!r} is too little: at least {size_text(LEAST_SIZE)}")
    return size


def size_text(size: int) -> str:
    """Return a size as text that `size_bytes` reads back.

    >>> size_text(1_500_000_000), size_text(67_108_864), size_text(32_000_000)
    ('1.5GB', '64MiB', '32MB')
    """
    for unit in ("TB", "GB", "TiB", "GiB", "MB", "MiB"):
        text = f"{size / _UNITS[unit]:g}"
        if size >= _UNITS[unit] and "e" not in text and round(float(text) * _UNITS[unit]) == size:
            return text + unit
    return f"{size / 1e6!r}MB"


def _tier(given: object) -> Tier:
    match = _TIER.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError(f'{given!r} is not a tier: write it like "10s for 1d"')
    step, keep = (duration_s(each) for each in match.groups())
    for what, seconds in (("step", step), ("retention", keep)):
        if seconds < 1 or seconds % 1:
            raise ValueError(f"{given!r}: the {what} must be whole seconds, at least 1s")
    if step > _LONGEST_STEP:
        raise ValueError(f"{given!r}: a step is at most {duration_text(_LONGEST_STEP)} long")
    if not step <= keep <= _LONGEST_KEEP:
        raise ValueError(f"{given!r}: kept from one step to {duration_text(_LONGEST_KEEP)}")
    return Tier(int(step), int(keep))


def _tiers(given: object) -> tuple[Tier, ...]:
    if not isinstance(given, list | tuple) or not 1 <= len(given) <= MAX_TIERS:
        raise ValueError(f'a list of 1 to {MAX_TIERS} tiers, like ["1s for 1h", "10s for 1d"]')
    tiers = tuple(each if isinstance(each, Tier) else _tier(each) for each in given)
    for finer, coarser in itertools.pairwise(tiers):
        both = f"{_tier_text(coarser)!r} after {_tier_text(finer)!r}"
        if coarser.step <= finer.step or coarser.step % finer.step:
            raise ValueError(f"{both}: each step must be a multiple of the one before")
        if coarser.keep <= finer.keep:
            raise ValueError(f"{both}: longer steps must be kept longer")
    return tiers


def _tier_text(tier: Tier) -> str:
    return f"{exact_text(tier.step)} for {exact_text(tier.keep)}"


class History(BaseModel):
    """What is kept of the past, how finely, how long and in how much room.

    Attributes:
        enabled: whether anything is.
        tiers: the finest first, written like "10s for 1d".
        max_size: of all its files, bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    enabled: bool = True
    tiers: Annotated[Sequence[Tier], BeforeValidator(_tiers)] = TIERS
    max_size: Annotated[int, BeforeValidator(size_bytes)] = Field(default=size_text(MAX_SIZE))  # type: ignore[assignment]

    def settings(self) -> HistorySettings:
        """Return what the history needs to know."""
        return HistorySettings(tiers=self.tiers, max_size=self.max_size)

    def table(self) -> dict[str, Any]:
        """Return it as it is written in TOML, defaults included."""
        return {
            "enabled": self.enabled,
            "tiers": [_tier_text(tier) for tier in self.tiers],
            "max_size": size_text(self.max_size),
        }
