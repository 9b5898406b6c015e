"""Which hooks can tell of which event, as data: the best first.

An event (a connection is made, data is sent) can be seen in several ways. A kernel may lack any
of them: kprobes are compiled out or locked down, fentry is refused, a tracepoint is not there
yet. So each event lists its ways, and the first that loads and attaches on the running kernel is
taken. The kernel's version is never asked.

The C functions take their arguments so: those of raw_tracepoint, tp_btf, fentry and fexit get
`u64 *ctx`, the array of the hook's arguments (fexit: and the result behind them); those of kprobe
and kretprobe get `struct pt_regs *`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

Kind = Literal[
    "raw_tracepoint", "tp_btf", "fentry", "fexit", "kprobe", "kretprobe", "cgroup", "iter"
]
Family = Literal["tracepoint", "fentry", "kprobe", "cgroup", "iterator"]
Hooks = Literal["auto", "tracepoint", "fentry", "kprobe"]

HOOKS: Final[tuple[str, ...]] = get_args(Hooks)
"""The values of the setting `hooks`."""

_ANYWHERE: Final = frozenset({"cgroup", "iterator"})
_PER_TARGET: Final = frozenset({"tp_btf", "fentry", "fexit"})


@dataclass(frozen=True, slots=True)
class Target:
    """One place in the kernel, and the C function that runs there.

    Attributes:
        where: the tracepoint; the kernel's function; a cgroup's attach point (a key of
            `probes.links.CGROUP_POINTS`); an iterator's target, for `bpf_map_elem` with the map
            after a colon ("bpf_map_elem:connections").
        function: name of the C function.
        kind: how it is attached.
        required: without it the way does not count.
    """

    where: str
    function: str
    kind: Kind
    required: bool = True

    @property
    def program(self) -> str:
        """Name of the program it runs, unique among all.

        fentry, fexit and tp_btf programs are bound to their target when they are loaded, so one
        C function makes a program for each: "function@where". Otherwise it is "function".
        """
        return f"{self.function}@{self.where}" if self.kind in _PER_TARGET else self.function

    def __str__(self) -> str:
        return f"{self.kind} {self.where}"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to see an event; it counts if all its required targets load and attach."""

    family: Family
    targets: tuple[Target, ...]

    def __str__(self) -> str:
        return " + ".join(str(target) for target in self.targets)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to a connection, and the ways to see it, the best first.

    Attributes:
        name: in plain words, shown by `tailrace doctor`.
        required: without it nothing can be watched.
        ways: the best first.
    """

    name: str
    required: bool
    ways: tuple[Way, ...]


def ways_of(event: Event, hooks: str) -> tuple[tuple[int, Way], ...]:
    """Return the ways to try, each with its place in the event's own list.

    Args:
        event: the event.
        hooks: "auto", or the family that is forced; cgroup and iterator ways go with any.

    Raises:
        ValueError: no such family.
    """
    if hooks not in HOOKS:
        raise ValueError(f"hooks is {hooks!r}, but must be one of {', '.join(HOOKS)}.")
    return tuple(
        (place, way)
        for place, way in enumerate(event.ways)
        if hooks in ("auto", way.family) or way.family in _ANYWHERE
    )


def check_table(events: Sequence[Event]) -> None:
    """Refuse a table that cannot be meant.

    Raises:
        ValueError: an event twice; a way without a required target; or one C function for two
            kinds of program.
    """
    seen: set[str] = set()
    kinds: dict[str, str] = {}
    for event in events:
        if event.name in seen:
            raise ValueError(f"the event {event.name!r} is in the table twice.")
        seen.add(event.name)
        for way in event.ways:
            if not any(target.required for target in way.targets):
                raise ValueError(f"{event.name!r}: the way {way.family} requires no target.")
            for target in way.targets:
                kind = target.kind.replace("kret", "k")  # one program serves both
                point = f"cgroup {target.where}" if kind == "cgroup" else kind
                if kinds.setdefault(target.program, point) != point:
                    raise ValueError(
                        f"{event.name!r}: {target.function} is {point} here and "
                        f"{kinds[target.program]} elsewhere; a program has one kind."
                    )


def to_data(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Return a table as plain lists and dicts, for JSON."""
    return [asdict(event) for event in events]


def from_data(data: Iterable[Mapping[str, Any]]) -> tuple[Event, ...]:
    """Return the table of `to_data`."""
    return tuple(
        Event(
            event["name"],
            event["required"],
            tuple(
                Way(way["family"], tuple(Target(**target) for target in way["targets"]))
                for way in event["ways"]
            ),
        )
        for event in data
    )


def _tracepoint(name: str, where: str, function: str, *, required: bool) -> Event:
    way = Way("tracepoint", (Target(where, function, "raw_tracepoint"),))
    return Event(name, required, (way,))


EVENTS: Final[tuple[Event, ...]] = (
    _tracepoint("socket destroyed", "tcp_destroy_sock", "on_destroy", required=True),
    _tracepoint("retransmission", "tcp_retransmit_skb", "on_retransmit", required=False),
    _tracepoint("reset received", "tcp_receive_reset", "on_reset_in", required=False),
    _tracepoint("reset sent", "tcp_send_reset", "on_reset_out", required=False),
    _tracepoint("state changed", "inet_sock_set_state", "on_set_state", required=True),
    _tracepoint("data sent", "sock_send_length", "on_send", required=True),
    _tracepoint("data received", "sock_recv_length", "on_receive", required=True),
    Event(
        "open connections",
        required=False,
        ways=(Way("iterator", (Target("task_file", "bpf_iter__task_file", "iter"),)),),
    ),
)
"""In the order of attaching: what ends a connection comes first."""
