"""Which hook sees which event on this kernel, for `tailrace doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from probes.checks import Check
from probes.hooks import Event, Way
from probes.loader import Loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class HookLine:
    """One event.

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


def hook_table(loaded: Loaded) -> list[HookLine]:
    """Return a line per event, in the table's order."""
    return [_line(loaded, event, loaded.chosen[event.name]) for event in loaded.events]


def _line(loaded: Loaded, event: Event, way: Way | None) -> HookLine:
    programs = {target.program for target in way.targets} if way else set()
    return HookLine(
        event=event.name,
        required=event.required,
        family=way.family if way else "",
        hook=str(way) if way else "unavailable",
        instructions=sum(loaded.programs[name].instructions for name in programs),
        reasons=loaded.reasons[event.name],
    )


def hook_checks(loaded: Loaded) -> Iterator[Check]:
    """Say the table in the doctor's words, one step per event."""
    for line in hook_table(loaded):
        why = "; ".join(line.reasons)
        if line.available:
            size = f", {line.instructions} instructions" if line.instructions else ""
            yield Check(
                name=f"event: {line.event}",
                state="ok",
                detail=f"{line.hook} ({line.family}{size})" + (f"; not used: {why}" if why else ""),
            )
            continue
        forced = "" if loaded.hooks == "auto" else "set hooks = auto, or "
        yield Check(
            name=f"event: {line.event}",
            state="fail" if line.required else "warn",
            detail=f"unavailable: {why}",
            remedy=f"{forced}use a kernel that has one of these hooks"
            if line.required or forced
            else "nothing to do: what depends on it is not reported",
        )
