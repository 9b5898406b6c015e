"""One step of finding out whether this kernel can be watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class HookLine:
    """How one event is seen on this kernel.

    Attributes:
        event: its name.
        required: without it nothing can be watched.
        family: of the way in use: "tracepoint", "fentry", "kprobe", "cgroup" or "iterator"; "" if
            there is none.
        hook: the places in the kernel, e.g. "kprobe tcp_sendmsg + kprobe udp_sendmsg";
            "unavailable" if there is none.
        instructions: of all its programs, as many as the verifier walked; 0 before Linux 5.16.
        reasons: why better ways, or optional places of this one, are not used.
    """

    event: str
    required: bool
    family: str
    hook: str
    instructions: int
    reasons: tuple[str, ...]

    @property
    def available(self) -> bool:
        """Whether the event is seen at all."""
        return bool(self.family)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One step.

    Attributes:
        name: what was tried.
        state: "ok"; "warn": works, with less; "fail": this host cannot be watched.
        detail: what was found.
        remedy: what to do; "" when there is nothing to do.
        hook: the line of the hook table that this step is about, if it is about one.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""
    hook: HookLine | None = None
