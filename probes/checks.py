"""One step of finding out whether this kernel can be watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One step.

    Attributes:
        name: what was tried.
        state: "ok"; "warn": works, with less; "fail": this host cannot be watched.
        detail: what was found.
        remedy: what to do; "" when there is nothing to do.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""
