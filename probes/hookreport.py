"""Which hook sees which event on this kernel, for `tailrace doctor`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from probes.checks import Check, HookLine
from probes.hooks import Event, Way
from probes.loader import Loaded


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
                hook=line,
            )
            continue
        forced = "" if loaded.hooks == "auto" else 'set hooks = "auto", or '
        yield Check(
            name=f"event: {line.event}",
            state="fail" if line.required else "warn",
            detail=f"unavailable: {why}",
            remedy=f"{forced}use a kernel that has one of these hooks"
            if line.required or forced
            else "nothing to do: what depends on it is not reported",
            hook=line,
        )


def in_use(lines: Sequence[HookLine]) -> str:
    """Return a table as a line: "events are seen by tracepoint (9), cgroup (2)"."""
    families = Counter(line.family for line in lines if line.available)
    text = ", ".join(f"{family} ({number})" for family, number in families.most_common())
    unseen = ", ".join(line.event for line in lines if not line.available)
    return f"events are seen by {text}" + (f"; not seen: {unseen}" if unseen else "")
