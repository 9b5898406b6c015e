"""Load programs by what the kernel can do, without LLVM in this process.

A helper (`probes/compiler.py`) compiles the C source, tries the ways to see each event in order,
and hands over the descriptors of the programs that work and of all maps; then it is gone. Here
they are attached, read and let go of.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from bpf import layout
from probes import syscalls
from probes.errors import ProbeError
from probes.hooks import Event, Target, Way, check_table, to_data, ways_of
from probes.links import Link, attach, run_iterator
from probes.table import Map

COMPILE_LIMIT_S: Final = 300.0
"""How long the helper may take; an emulated machine needs a minute or two."""

_LEAVING_S: Final = 5.0
_SAID_LINES: Final = 20
_REPORT: Final = "Please report it with the output of `tailrace doctor -o json`."


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
        by_place = Counter(
            (target.kind, target.where)
            for way in self.chosen.values()
            for target in (way.targets if way else ())
        )
        alone = {
            target.program
            for way in self.chosen.values()
            for target in (way.targets if way else ())
            if target.kind != "tail"
            and (target.kind != "raw_tracepoint" or by_place[target.kind, target.where] == 1)
        }
        skipped = sum(
            syscalls.program_info(self.programs[name].descriptor).recursion_misses
            for name in alone
            if name in self.programs
        )
        return skipped + self._missed_before + sum(link.missed() for link in self._links.values())

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
) -> Loaded:
    """Compile a source, and load what sees the events; nothing is attached yet.

    Args:
        source: C for BCC; a file, whose directory is searched for headers, or the text itself.
        cflags: for the compiler, as -DNAME=1.
        events: the table; `hooks.check_table` says what it must be like.
        hooks: "auto", or the family to force.
        strict: refuse when a required event has no way; else it is only listed.

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
    }
    try:
        said, descriptors, spoken = _ask(request)
    except OSError as error:
        raise ProbeError(
            f"the process that compiles the eBPF programs cannot be started: {error.strerror}."
        ) from error
    loaded = _take_over(said, descriptors, events, hooks, spoken)
    lacking = [e.name for e in events if e.required and loaded.chosen[e.name] is None]
    if lacking and strict:
        why = "; ".join(f"{name} ({', '.join(loaded.reasons[name])})" for name in lacking)
        loaded.close()
        remedy = _REPORT if hooks == "auto" else f"Try hooks = auto instead of {hooks}."
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
        shape.pop("name"): Map(descriptor, syscalls.MapInfo(**shape))
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


def _ask(request: Mapping[str, Any]) -> tuple[dict[str, Any], list[int], str]:
    """Run the helper; return its answer, the descriptors, and what the compiler printed."""
    ours, theirs = socket.socketpair()
    # Files in memory and not pipes: nobody has to read while the other side writes
    asked, spoken = os.memfd_create("request"), os.memfd_create("messages")
    environment = {
        **os.environ,
        "BCC_KERNEL_SOURCE": str(layout.HEADERS),
        # it must see the packages that this process sees
        "PYTHONPATH": os.pathsep.join(os.path.abspath(part) for part in sys.path),  # noqa: PTH100
    }
    descriptors: list[int] = []
    try:
        with open(asked, "wb", closefd=False) as file:
            file.write(json.dumps(request).encode())
        os.lseek(asked, 0, os.SEEK_SET)
        helper = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", "probes.compiler", str(theirs.fileno())],
            stdin=asked,
            stdout=spoken,
            stderr=spoken,
            pass_fds=(theirs.fileno(),),
            env=environment,
        )
        theirs.close()
        try:
            answer = _receive(ours, descriptors)
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(_LEAVING_S)
        finally:
            helper.kill()  # a no-op for one that has ended
            code = helper.wait()
        words = _words(spoken)
        return _judged(answer, code, words), descriptors, words
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    finally:
        ours.close()
        theirs.close()
        os.close(asked)
        os.close(spoken)


def _receive(channel: socket.socket, descriptors: list[int]) -> bytes:
    deadline = time.monotonic() + COMPILE_LIMIT_S
    room = socket.CMSG_SPACE(253 * array.array("i").itemsize)
    said = b""
    try:
        while True:
            channel.settimeout(max(deadline - time.monotonic(), 0.001))
            part, extra, flags, _ = channel.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
            for level, kind, data in extra:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    whole = len(data) - len(data) % array.array("i").itemsize
                    descriptors += array.array("i", data[:whole])
            if flags & socket.MSG_CTRUNC:
                raise ProbeError(
                    "this process may not have as many files open as Tailrace's programs and maps "
                    "need. Raise its limit (ulimit -n; systemd: LimitNOFILE=)."
                )
            if not part:
                return said
            said += part
    except TimeoutError:
        raise ProbeError(
            f"compiling the eBPF programs took longer than {COMPILE_LIMIT_S:g} s. The machine may "
            "be short of CPU time or memory; try again when it is less busy."
        ) from None


def _words(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, errors="replace", closefd=False) as file:
        return file.read()


def _judged(answer: bytes, code: int, words: str) -> dict[str, Any]:
    """Return the answer, unless it is none."""
    last = "\n".join(words.strip().splitlines()[-_SAID_LINES:]) or "nothing"
    try:
        said: dict[str, Any] = json.loads(answer)
    except ValueError:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        short = " It may have run out of memory." if code == -9 else ""
        raise ProbeError(
            f"the process that compiles the eBPF programs {how} without an answer.{short} "
            f"{_REPORT} It said: {last}"
        ) from None
    if "error" in said:
        raise ProbeError(said["error"])
    if "refused" in said:
        if ": error:" in words or ": fatal error:" in words:
            raise ProbeError(f"the eBPF programs do not compile here. {_REPORT}\n{last}")
        raise ProbeError(
            f"the eBPF programs cannot be prepared here: {said['refused']}. They need CAP_BPF and "
            f"CAP_PERFMON, and memory for their maps. BCC said: {last}"
        )
    return said
