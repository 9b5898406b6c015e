"""What happened to a service that may explain a change of its traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EventKind = Literal["deploy", "restart", "scale_out", "scale_in", "oom_kill", "reload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvent:
    """Something that happened to a service.

    Attributes:
        kind: deploy: it runs another version. restart: its process ended and another of the same
            version took its place. scale_out, scale_in: it has more, or fewer, instances. oom_kill:
            the kernel killed a process of it for want of memory. reload: its process stayed and
            replaced its workers.
        service: its name, as in pairs.
        at: when, epoch seconds.
        detail: more of it in words, e.g. "shop:1.3 in place of shop:1.2"; may be empty.
    """

    kind: EventKind
    service: str
    at: float
    detail: str = ""
