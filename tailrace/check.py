"""What `tailrace doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from probes.checks import HookLine

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what, in a word or two.
        state: "ok"; "warn": works, with less; "fail": `tailrace run` will not work.
        detail: what was found.
        remedy: what to do; "" when there is nothing to do.
        hook: the line of the hook table that this is about, if it is about one.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""
    hook: HookLine | None = None
