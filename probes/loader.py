"""Load programs by what the kernel can do, without LLVM in this process.

A helper (`probes/compiler.py`) compiles the C source, tries the ways to see each event in order,
and hands over the descriptors of the programs that work and of all maps; then it is gone. Here
they are attached, read and let go of.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from probes import mapcalls, syscalls
from probes.errors import ProbeError
from probes.helper import REPORT, ask
from probes.hooks import Event, Target, Way, check_table, to_data, ways_of
from probes.links import Link, attach, run_iterator
from probes.table import Map


@dataclass(frozen=True, slots=True)
class Program:
    """A loaded program.

    Attributes:
        descriptor: it lives as long as this is open.
        instructions: how many the verifier walked; 0 on kernels before 5.16.
    """

    descriptor: int
    instructions: int


class Loaded:
    """Programs and maps in the kernel; nothing runs before `attach()`.

    Attributes:
        events: the table it was made from.
        hooks: "auto", or the family that was forced.
        maps: by name.
        programs: by `Target.program`; only those of a chosen way.
        chosen: event: the way taken, with the targets that work; None if there is none.
        reasons: event: why the ways before it, or optional targets of it, do not work.
        warnings: what the compiler said.
    """

    def __init__(
        self,
        *,
        events: Sequence[Event],
        hooks: str,
        maps: dict[str, Map],
        programs: dict[str, Program],
        chosen: dict[str, Way | None],
        reasons: dict[str, tuple[str, ...]],
        warnings: str,
    ) -> None:
        self.events = tuple(events)
        self.hooks = hooks
        self.maps = maps
        self.programs = programs
        self.chosen = chosen
        self.reasons = reasons
        self.warnings = warnings
        self._links: dict[Target, Link] = {}
        self._walks: dict[str, Link] = {}
        self._missed_before = 0  # by kprobes that are detached
        self._alone = self._without_second()

    def attach(self, names: Iterable[str] | None = None) -> None:
        """Attach the programs of events, in this order; iterators wait for `iterate()`.

        A target that serves two events is attached once. Events without a way are passed over.

        Args:
            names: of events; None for all, in the table's order.

        Raises:
            ProbeError: the kernel, which took them a moment ago, refused; all are detached.
            KeyError: no such event.
        """
        for name in self.chosen if names is None else names:
            way = self.chosen[name]
            for target in way.targets if way else ():
                if target.kind == "tail":
                    self._set_tail(target)
                    continue
                if target.kind == "iter" or replace(target, required=True) in self._links:
                    continue
                try:
                    link = self._attach(target)
                except ProbeError as error:
                    self.detach()
                    raise ProbeError(f"{name} cannot be watched any more: {error}.") from error
                self._links[replace(target, required=True)] = link

    def _set_tail(self, target: Target) -> None:
        table, _, place = target.where.partition(":")
        descriptor = self.programs[target.program].descriptor
        self.maps[table].update(struct.pack("I", int(place)), struct.pack("I", descriptor))

    def _attach(self, target: Target) -> Link:
        maps = {name: table.descriptor for name, table in self.maps.items()}
        return attach(target, self.programs[target.program].descriptor, maps)

    def iterate(self, name: str) -> bytes:
        """Run an event's iterators to their end; return what they wrote.

        Raises:
            ProbeError: the event has no way on this kernel, no iterator in it, or the iterator
                does not run.
            KeyError: no such event.
        """
        way = self.chosen[name]
        walks = [target for target in way.targets if target.kind == "iter"] if way else []
        if not walks:
            raise ProbeError(f"{name}: {'; '.join(self.reasons[name]) or 'it has no iterator'}.")
        written: list[bytes] = []
        for target in walks:
            key = f"{target.where} {target.program}"
            if key not in self._walks:
                self._walks[key] = self._attach(target)
            written.append(run_iterator(self._walks[key]))
        return b"".join(written)

    def run_time_ns(self) -> dict[str, tuple[int, int]]:
        """Return {program: (ns spent, times run)}, both only while statistics were on."""
        told = {
            name: syscalls.program_info(program.descriptor)
            for name, program in self.programs.items()
        }
        return {name: (info.run_time_ns, info.run_count) for name, info in told.items()}

    @property
    def recursion_misses(self) -> int:
        """How often a program was skipped, since loading: events nobody saw.

        A program that is already running on that CPU is skipped, and so is a kprobe that is hit
        inside another kprobe. Where two programs share a tracepoint, each sees what the other
        is skipped for.
        """
        skipped = sum(
            syscalls.program_info(self.programs[name].descriptor).recursion_misses
            for name in self._alone
        )
        return skipped + self._missed_before + sum(link.missed() for link in self._links.values())

    def _without_second(self) -> list[str]:
        targets = [t for way in self.chosen.values() for t in (way.targets if way else ())]
        by_place = Counter((target.kind, target.where) for target in targets)
        alone = {
            target.program
            for target in targets
            if target.kind != "tail"
            and (target.kind != "raw_tracepoint" or by_place[target.kind, target.where] == 1)
        }
        return [name for name in self.programs if name in alone]

    def detach(self) -> None:
        """Stop the programs; maps can still be read, and `attach()` starts them again.

        Kernels before 5.13 attach an fentry program only once; there `attach()` then says so.
        """
        for link in (*self._links.values(), *self._walks.values()):
            self._missed_before += link.missed()
            link.close()
        self._links.clear()
        self._walks.clear()

    def close(self) -> None:
        """Detach, and let go of programs and maps."""
        self.detach()
        for program in self.programs.values():
            os.close(program.descriptor)
        for table in self.maps.values():
            os.close(table.descriptor)
        self.programs.clear()
        self._alone.clear()
        self.maps.clear()

    def __enter__(self) -> Loaded:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def load(
    source: Path | bytes,
    *,
    cflags: Sequence[str],
    events: Sequence[Event],
    hooks: str = "auto",
    strict: bool = True,
    cache: Path | None = None,
) -> Loaded:
    """Compile a source, and load what sees the events; nothing is attached yet.

    Args:
        source: C for BCC; a file, whose directory is searched for headers, or the text itself.
        cflags: for the compiler, as -DNAME=1.
        events: the table; `hooks.check_table` says what it must be like.
        hooks: "auto", or the family to force.
        strict: refuse when a required event has no way; else it is only listed.
        cache: directory of what was compiled before; None: compile.

    Raises:
        ProbeError: no BCC, no BTF, the source does not compile, the kernel's refusal, a required
            event without a way, or a helper that died or took longer than `COMPILE_LIMIT_S`.
        ValueError: a table or a family that cannot be meant.
    """
    check_table(events)
    for event in events:
        ways_of(event, hooks)  # an unknown family is the caller's fault, not the kernel's
    flags = list(cflags)
    if isinstance(source, Path):
        flags.append(f"-I{source.parent}")
        try:
            source = source.read_bytes()
        except OSError as error:
            raise ProbeError(
                f"the eBPF source {error.filename} cannot be read: {error.strerror}. "
                "Install Tailrace again."
            ) from error
    request = {
        "source": source.decode(errors="surrogateescape"),
        "cflags": flags,
        "events": to_data(events),
        "hooks": hooks,
        "cache": None if cache is None else str(cache),
    }
    try:
        said, descriptors, spoken = ask(request)
    except OSError as error:
        raise ProbeError(
            f"the process that compiles the eBPF programs cannot be started: {error.strerror}."
        ) from error
    loaded = _take_over(said, descriptors, events, hooks, spoken)
    lacking = [e.name for e in events if e.required and loaded.chosen[e.name] is None]
    if lacking and strict:
        why = "; ".join(f"{name} ({', '.join(loaded.reasons[name])})" for name in lacking)
        loaded.close()
        remedy = REPORT if hooks == "auto" else f"Try hooks = auto instead of {hooks}."
        raise ProbeError(f"this kernel offers no way to see: {why}. {remedy}")
    return loaded


def _take_over(
    said: Mapping[str, Any],
    descriptors: Sequence[int],
    events: Sequence[Event],
    hooks: str,
    spoken: str,
) -> Loaded:
    after_maps = len(said["maps"])
    maps = {
        shape.pop("name"): Map(descriptor, mapcalls.MapInfo(**shape))
        for shape, descriptor in zip(said["maps"], descriptors[:after_maps], strict=True)
    }
    programs = {
        program["name"]: Program(descriptor, program["instructions"])
        for program, descriptor in zip(said["programs"], descriptors[after_maps:], strict=True)
    }
    chosen: dict[str, Way | None] = {}
    for event in events:
        choice = said["events"][event.name]
        if choice["way"] is None:
            chosen[event.name] = None
            continue
        way = event.ways[choice["way"]]
        chosen[event.name] = Way(way.family, tuple(way.targets[i] for i in choice["targets"]))
    reasons = {event.name: tuple(said["events"][event.name]["reasons"]) for event in events}
    return Loaded(
        events=events,
        hooks=hooks,
        maps=maps,
        programs=programs,
        chosen=chosen,
        reasons=reasons,
        warnings=spoken,
    )
