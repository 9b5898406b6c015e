"""The programs of `bpf/` on this kernel, and what they gather."""

from __future__ import annotations

import mmap
import platform
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes import bytecode, mapcalls, syscalls
from probes.checks import HookLine
from probes.errors import ProbeError
from probes.hookreport import hook_table
from probes.hooks import EVENTS
from probes.loader import Loaded, load
from probes.maps import MapReader
from probes.offsets import Offsets, read_offsets

_CAP_SYS_ADMIN: Final = 21
_CAP_PERFMON: Final = 38
_CAP_BPF: Final = 39
_OPEN_BEFORE: Final = "open before"
_READ: Final = "connections read"
_CONNECTING: Final = "connects without a route"
_LISTENING: Final = "listeners read"
_UNANSWERED: Final = "queries without an answer"
_PASSES: Final = (0, 1, 2)  # PASS_LISTENERS, PASS_CLIENTS, PASS_SERVERS of bpf/maps.h
_REGISTERS: Final = {"x86_64": "ON_X86_64", "aarch64": "ON_ARM64"}
_ALLOCATED: Final = 1 << 0  # BPF_F_NO_PREALLOC
_PLACES: Final = 8192
_COARSE: Final = 6  # CLOCK_MONOTONIC_COARSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Entries of the maps.

    Attributes:
        connections: TCP connections and listeners' children at a time. Memory is taken as it is
            needed from Linux 6.1 on (210 bytes each), before that at start, for `allocated`. A
            sweep walks all places, taken or not, in 5 ns each: a million would cost 0.5 % of a
            core at windows of 1 s, on an idle host too.
        allocated: the same before Linux 6.1.
        flows: UDP flows and UNIX sockets; the longest unused give way.
        groups: (process, other end) at a time; 440 bytes each, taken at start.
        latencies: buckets in use, over all groups, between two sweeps.
        halves: clients' ends that wait for their server's end to come up.
        listeners: listening sockets.
        queries: of DNS, without an answer yet; 88 bytes each, taken at start.
        streams: connections to DNS servers.
        answers: of DNS, between two drains; 1 kB each, taken at start.
        connecting: TCP sockets that are in the first moment of a connect(2).
        netns: network namespaces that the watching may be limited to.
    """

    connections: int = 1 << 18
    allocated: int = 1 << 17
    flows: int = 1 << 15
    groups: int = 1 << 15
    latencies: int = 1 << 16
    halves: int = 1 << 14
    listeners: int = 1 << 13
    queries: int = 1 << 14
    streams: int = 1 << 12
    answers: int = 1 << 10
    connecting: int = 1 << 12
    netns: int = 1 << 10


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was gathered, at one moment.

    Attributes:
        slots: int64[n], places of the groups in use.
        groups: GROUP[n]; counters only grow.
        details: DETAILS[places], of all places: the kernel's own memory.
        latency_keys: LATENCY_KEY[k], samples since the last sweep.
        latencies: LATENCY[k].
        lost: updates refused and events missed since the last sweep; names (layout.UNCOUNTED) are
            no events.
        backlogs: BACKLOG[m], of every listening socket.
    """

    slots: NDArray[np.int64]
    groups: NDArray[Any]
    latency_keys: NDArray[Any]
    latencies: NDArray[Any]
    lost: int
    details: NDArray[Any]
    backlogs: NDArray[Any] = field(default_factory=lambda: np.empty(0, layout.BACKLOG))


def effective_capabilities() -> int:
    """Return this process's effective capabilities as a bit mask."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def missing_capabilities(effective: int) -> list[str]:
    """Return the names of the capabilities that loading needs and `effective` lacks."""
    if effective >> _CAP_SYS_ADMIN & 1:
        return []
    needed = {"CAP_BPF": _CAP_BPF, "CAP_PERFMON": _CAP_PERFMON}
    return [name for name, bit in needed.items() if not effective >> bit & 1]


def _flags(offsets: Offsets, capacity: Capacity) -> list[str]:
    sizes = {each.name: getattr(capacity, each.name) for each in fields(capacity)}
    allocated = sizes.pop("allocated")
    if not offsets.allocates:
        sizes["connections"] = min(allocated, sizes["connections"])
    flags = [f"-DOFF_{name}={value}" for name, value in offsets.fields.items()]
    flags += [f"-DMAX_{name.upper()}={value}" for name, value in sizes.items()]
    flags.append(f"-DCONNECTION_FLAGS={_ALLOCATED if offsets.allocates else 0}")
    machine = platform.machine()
    if machine in _REGISTERS:
        flags.append(f"-D{_REGISTERS[machine]}")
    if offsets.task_registers:
        flags.append("-DHAVE_TASK_REGISTERS")
    if syscalls.has_exchange():
        flags.append("-DHAVE_EXCHANGE")
    return flags


class Programs:
    """The loaded programs. From `attach()` on, sockets are followed; close it to stop.

    Attributes:
        missing: what this kernel cannot show, in words.
        lost_kinds: what `lost()` said at the last sweep; {} before the first.
    """

    def __init__(
        self, capacity: Capacity | None = None, *, hooks: str = "auto", strict: bool = True
    ) -> None:
        """Compile and load; nothing runs yet.

        Args:
            capacity: sizes of the maps.
            hooks: "auto", or the family of hooks to use: "tracepoint", "fentry", "kprobe".
            strict: refuse when a required event cannot be seen; else it is only listed in `hooks`.

        Raises:
            ProbeError: no BCC, no BTF, a missing capability, or the kernel's refusal.
            ValueError: no such family.
        """
        self.capacity = capacity or Capacity()
        lacking = missing_capabilities(effective_capabilities())
        if lacking:
            raise ProbeError(
                f"loading eBPF programs needs {' and '.join(lacking)}. Run as root, or grant it "
                "(systemd: AmbientCapabilities=CAP_BPF CAP_PERFMON)."
            )
        offsets = read_offsets()
        self.missing = offsets.missing
        self.loaded: Loaded = load(
            layout.source(),
            cflags=_flags(offsets, self.capacity),
            events=EVENTS,
            hooks=hooks,
            strict=strict,
            cache=bytecode.directory(),
        )
        self._lost_before = 0
        self.lost_kinds: dict[str, int] = {}
        self._drained: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._busy = False
        self._table = self._mapped("groups", layout.GROUP)
        self._details = self._mapped("details", layout.DETAILS)
        self._latencies = self._reader("latencies", layout.LATENCY_KEY, layout.LATENCY, drain=True)
        self._answers = self._mapped("answers", layout.ANSWER)
        self._listeners = self._reader("listeners", layout.ENDPOINT, layout.LISTENER)
        self.tune(layout.TUNING_RTT, 1)
        self.tune(layout.TUNING_JIFFY, _tick_ns())
        self._limited: frozenset[int] = frozenset()
        self._given = layout.OVERFLOW + 1  # places below it have been given to the kernel
        self._give(0)
        self._give_answers(np.arange(self.capacity.answers))
        self._table["id"][layout.OVERFLOW] = 1

    def _mapped(self, name: str, record: np.dtype[Any]) -> NDArray[Any]:
        places = self.capacity.answers if name == "answers" else self.capacity.groups
        # kept alive by the array; the kernel's own pages, so a window costs no system call
        pages = mmap.mmap(self.loaded.maps[name].descriptor, places * record.itemsize)
        return np.frombuffer(pages, record)

    def _reader(
        self, name: str, key: np.dtype[Any], value: np.dtype[Any], *, drain: bool = False
    ) -> MapReader:
        return MapReader(
            self.loaded.maps[name].descriptor,
            name=name,
            key=key,
            value=value,
            capacity=getattr(self.capacity, name),
            drain=drain,
        )

    @property
    def hooks(self) -> list[HookLine]:
        """Which hook tells of which event."""
        return hook_table(self.loaded)

    def attach(self) -> None:
        """Start following sockets.

        Raises:
            ProbeError: the kernel refused.
        """
        self.loaded.attach()

    def tune(self, what: int, value: int) -> None:
        """Set one of layout.TUNING_*."""
        self.loaded.maps["tuning"].update(struct.pack("I", what), struct.pack("I", value))

    def limit(self, netns: Iterable[int]) -> None:
        """Meet sockets of these network namespaces only, by their inodes' numbers.

        Raises:
            ProbeError: too many.
        """
        watched, wanted = self.loaded.maps["watched_netns"], frozenset(netns)
        for inode in self._limited - wanted:
            watched.delete(struct.pack("I", inode))
        for inode in wanted - self._limited:
            try:
                watched.update(struct.pack("I", inode), struct.pack("I", 1))
            except OSError as error:
                raise ProbeError(
                    f"cannot limit the watching to {len(wanted)} network namespaces: "
                    f"{error.strerror}. Name at most {self.capacity.netns}."
                ) from error
        self._limited = wanted
        self.tune(layout.TUNING_NETNS, 1)

    def seed(self, *, listeners_only: bool = False) -> None:
        """Find the listeners and connections that are open.

        Before `attach()`, the listeners: by them a connection that is met while it moves data is
        told from its other end. After it, what has come up in between, and the connections: the
        clients' ends first, which the servers' ends look for.

        Args:
            listeners_only: leave the connections for later.

        Raises:
            ProbeError: this kernel does not run the iterator; connections are then met, with
                their owner, when they first move data.
        """
        for number in _PASSES[:1] if listeners_only else _PASSES:
            self.tune(layout.TUNING_PASS, number)
            self.loaded.iterate(_OPEN_BEFORE)

    def sweep(self) -> Snapshot:
        """Read all that was gathered.

        Raises:
            ProbeError: the kernel refused to read a map.
        """
        self.loaded.iterate(_READ)
        for event in (_UNANSWERED, _CONNECTING):
            if self.loaded.chosen[event]:
                self.loaded.iterate(event)
        # before the groups: of one that is born in between, the latencies would be nobody's
        self.drain()
        slots = np.flatnonzero(self._table["id"][: self._given])
        groups = self._table[slots]
        self._table["mark"][slots] = 0
        self._give(len(slots))
        keys = np.concatenate([part[0] for part in self._drained])
        latencies = np.concatenate([part[1] for part in self._drained])
        self._drained.clear()
        self.lost_kinds = self.lost()
        counted = self.lost_kinds.items()
        lost_now = sum(number for kind, number in counted if kind not in layout.UNCOUNTED)
        lost, self._lost_before = lost_now - self._lost_before, lost_now
        told = self.loaded.iterate(_LISTENING) if self.loaded.chosen[_LISTENING] else b""
        backlogs = np.frombuffer(told, layout.BACKLOG)
        return Snapshot(slots, groups, keys, latencies, lost, self._details, backlogs)

    def pace(self, slots: NDArray[np.int64], interval: NDArray[np.uint32]) -> None:
        """Have groups time at most one request in so many, a power of 2."""
        self._table["interval"][slots] = interval

    def drain(self) -> None:
        """Empty the map that only fills up; the next sweep has what was in it."""
        keys, latencies = self._latencies.read()
        self._busy = len(keys) > self.capacity.latencies // 4
        self._drained.append((keys.copy(), latencies.copy()))

    def answers(self) -> NDArray[Any]:
        """Return ANSWER[n], the DNS answers since the last call, in the order they came.

        There are none until TUNING_ANSWERS is set to 1.
        """
        slots = np.flatnonzero(self._answers["at_ns"])
        answers = self._answers[slots]  # a copy
        self._answers["at_ns"][slots] = 0
        self._give_answers(slots)
        self._busy |= len(slots) > self.capacity.answers // 8
        return answers[np.argsort(answers["at_ns"], kind="stable")]

    def _give_answers(self, slots: NDArray[np.int64]) -> None:
        free = self.loaded.maps["free_answers"].descriptor
        for slot in slots.tolist():
            mapcalls.push_element(free, struct.pack("I", slot))

    @property
    def drain_s(self) -> float:
        """How long the latencies may be left alone: short while many groups are busy."""
        return 0.2 if self._busy else 1.0

    def _give(self, used: int) -> None:
        """Give the kernel places for groups, some thousands at a time: each is a system call."""
        if self._given - used < _PLACES // 2:
            until = min(self._given + _PLACES, self.capacity.groups)
            self.release(np.arange(self._given, until))
            self._given = until

    def retire(self, slots: NDArray[np.int64]) -> None:
        """Let new connections have new groups: those at `slots` are found by their key no more."""
        for key in self._table["key"][slots]:
            self.loaded.maps["group_slots"].delete(key.tobytes())

    def release(self, slots: NDArray[np.int64]) -> None:
        """Give the places of groups, retired a while ago, to others."""
        self._table["id"][slots] = 0
        free = self.loaded.maps["free_slots"].descriptor
        for slot in slots.tolist():
            mapcalls.push_element(free, struct.pack("I", slot))

    def listeners(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (ENDPOINT[n], LISTENER[n]): who listens where."""
        return self._listeners.read()

    def lost(self) -> dict[str, int]:
        """Return what was lost since loading: {kind of layout.LOST_KINDS, or "missed": how many}.

        Missed are events that the kernel did not tell, because the program was at work already.
        """
        table = self.loaded.maps["lost"]
        found = {}
        for number, kind in enumerate(layout.LOST_KINDS):
            value = table.lookup(struct.pack("I", number)) or bytes(8)
            (found[kind],) = struct.unpack("Q", value)
        found["missed"] = self.loaded.recursion_misses
        return found

    def run_time_ns(self) -> dict[str, tuple[int, int]]:
        """Return {program: (ns spent, times run)}; zeros unless kernel.bpf_stats_enabled."""
        return self.loaded.run_time_ns()

    def close(self) -> None:
        """Detach and release the programs and maps."""
        # its pages keep the map alive, and a descriptor of it open
        self._table, self._details = np.empty(0, layout.GROUP), np.empty(0, layout.DETAILS)
        self._answers = np.empty(0, layout.ANSWER)
        self.loaded.close()


def _tick_ns() -> int:
    """Return how long a tick is: coarse clocks move with it (kernel/time/timekeeping.c)."""
    return round(time.clock_getres(_COARSE) * 1e9)
