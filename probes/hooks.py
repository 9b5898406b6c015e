"""Which hooks can tell of which event, as data: the best first.

An event (a connection is made, data is sent) can be seen in several ways. A kernel may lack any
of them: kprobes are compiled out or locked down, fentry is refused, a tracepoint is not there
yet. So each event lists its ways, and the first that loads and attaches on the running kernel is
taken. The kernel's version is never asked.

The C functions get, of raw_tracepoint, tp_btf, fentry and fexit, `u64 *ctx`, the hook's arguments
(fexit: and the result behind them); of kprobe and kretprobe, `struct pt_regs *`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

Kind = Literal[
    "raw_tracepoint", "tp_btf", "fentry", "fexit", "kprobe", "kretprobe", "cgroup", "iter", "tail"
]
Family = Literal["tracepoint", "fentry", "kprobe", "cgroup", "iterator"]
Hooks = Literal["auto", "tracepoint", "fentry", "kprobe"]

HOOKS: Final[tuple[str, ...]] = get_args(Hooks)
"""The values of the setting `hooks`."""

_ANYWHERE: Final = frozenset({"cgroup", "iterator"})
_PER_TARGET: Final = frozenset({"tp_btf", "fentry", "fexit", "cgroup", "tail"})


@dataclass(frozen=True, slots=True)
class Target:
    """One place in the kernel, and the C function that runs there.

    Attributes:
        where: the tracepoint; the kernel's function; a cgroup's attach point (a key of
            `probes.links.CGROUP_POINTS`); an iterator's target, for `bpf_map_elem` with the map
            after a colon ("bpf_map_elem:connections"); of a program that others go on to, the map
            of programs and its place there ("rest:0").
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

        fentry, fexit, tp_btf and cgroup programs are bound to their target when loaded, so one
        C function makes a program for each: "function@where". What others go on to must be a
        program that nothing else runs: from Linux 6.13 on a program has a stack of its own per
        CPU, in place of the thread's, and only the kernel's check at attached programs keeps two
        runs out of it. Otherwise it is "function".
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
        shown = [str(target) for target in self.targets if target.kind != "tail"]
        return " + ".join(dict.fromkeys(shown))


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
                # one program serves both
                kind = target.kind.replace("kret", "k")
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


def _raw(where: str, function: str, again: str = "", place: int = 0) -> Way:
    """Return the way of a raw tracepoint.

    Args:
        where: the tracepoint.
        function: the C function.
        again: a second, which goes on to a copy of the first if that was skipped.
        place: of the copy in the map `rest`.
    """
    targets = [Target(where, function, "raw_tracepoint")]
    if again:
        targets.insert(0, Target(f"rest:{place}", function, "tail"))
        targets.append(Target(where, again, "raw_tracepoint"))
    return Way("tracepoint", tuple(targets))


def _one(name: str, tracepoint: tuple[str, str], function: tuple[str, str], **kinds: bool) -> Event:
    """Return an event that a tracepoint, or one function's entry, tells of.

    Args:
        name: of the event.
        tracepoint: its name, and the C function for it.
        function: the kernel's function, and the C function for it; with _k for a kprobe.
        kinds: `required`.
    """
    where, handler = function
    return Event(
        name,
        kinds["required"],
        (
            _raw(*tracepoint),
            Way("fentry", (Target(where, handler, "fentry"),)),
            Way("kprobe", (Target(where, f"{handler}_k", "kprobe"),)),
        ),
    )


def _cgroup(function: str, *points: str) -> Way:
    return Way("cgroup", tuple(Target(point, function, "cgroup") for point in points))


EVENTS: Final[tuple[Event, ...]] = (
    Event(
        "closed",
        required=True,
        ways=(
            _raw("tcp_destroy_sock", "on_destroy", "on_destroy_again", 2),
            Way("fentry", (Target("tcp_v4_destroy_sock", "on_destroy", "fentry"),)),
            Way("kprobe", (Target("tcp_v4_destroy_sock", "on_destroy_k", "kprobe"),)),
        ),
    ),
    _one(
        "retransmitted",
        ("tcp_retransmit_skb", "on_retransmit"),
        ("__tcp_retransmit_skb", "on_retransmit"),
        required=False,
    ),
    _one(
        "reset received",
        ("tcp_receive_reset", "on_reset_in"),
        ("tcp_reset", "on_reset_in"),
        required=False,
    ),
    _one(
        "reset sent",
        ("tcp_send_reset", "on_reset_out"),
        ("tcp_send_active_reset", "on_reset_out"),
        required=False,
    ),
    Event(
        "connect, established, failed, listen",
        required=True,
        ways=(
            _raw("inet_sock_set_state", "tp_set_state", "tp_set_state_again", 1),
            Way(
                "fentry",
                (
                    Target("tcp_set_state", "on_set_state", "fentry"),
                    Target("inet_csk_listen_start", "on_listen", "fentry"),
                ),
            ),
            Way(
                "kprobe",
                (
                    Target("tcp_set_state", "on_set_state_k", "kprobe"),
                    Target("inet_csk_listen_start", "on_listen_k", "kprobe"),
                ),
            ),
        ),
    ),
    Event(
        "accepted",
        required=False,
        ways=(
            _cgroup("on_accept", "getpeername4", "getpeername6"),
            Way("kprobe", (Target("inet_csk_accept", "on_accepted_k", "kretprobe"),)),
        ),
    ),
    Event(
        "datagram's peer",
        required=False,
        ways=(
            Way(
                "cgroup",
                (
                    Target("sendmsg4", "on_named4", "cgroup"),
                    Target("recvmsg4", "on_named4", "cgroup"),
                    Target("sendmsg6", "on_named6", "cgroup"),
                    Target("recvmsg6", "on_named6", "cgroup"),
                ),
            ),
        ),
    ),
    _one(
        "datagram refused",
        ("inet_sk_error_report", "on_error"),
        ("sock_def_error_report", "on_error"),
        required=False,
    ),
    Event(
        "datagram dropped",
        required=False,
        ways=(
            _raw("udp_fail_queue_rcv_skb", "tp_udp_drop"),
            Way("fentry", (Target("__udp_enqueue_schedule_skb", "on_udp_queued", "fexit"),)),
        ),
    ),
    Event(
        "sent",
        required=True,
        ways=(
            Way(
                "tracepoint",
                (
                    Target("rest:0", "tp_data", "tail"),
                    Target("sock_send_length", "tp_send", "raw_tracepoint"),
                ),
            ),
            Way(
                "fentry",
                (
                    Target("tcp_sendmsg", "on_send", "fentry"),
                    Target("udp_sendmsg", "on_send", "fentry"),
                    Target("udpv6_sendmsg", "on_send", "fentry", required=False),
                    Target("mptcp_sendmsg", "on_send", "fentry", required=False),
                    Target("unix_stream_sendmsg", "on_unix_send", "fentry", required=False),
                    Target("unix_dgram_sendmsg", "on_unix_send", "fentry", required=False),
                ),
            ),
            Way(
                "kprobe",
                (
                    Target("tcp_sendmsg", "on_send_k", "kprobe"),
                    Target("udp_sendmsg", "on_send_k", "kprobe"),
                    Target("udpv6_sendmsg", "on_send_k", "kprobe", required=False),
                    Target("mptcp_sendmsg", "on_send_k", "kprobe", required=False),
                    Target("unix_stream_sendmsg", "on_unix_send_k", "kprobe", required=False),
                    Target("unix_dgram_sendmsg", "on_unix_send_k", "kprobe", required=False),
                ),
            ),
        ),
    ),
    Event(
        "received",
        required=True,
        ways=(
            Way(
                "tracepoint",
                (
                    Target("rest:3", "tp_data", "tail"),
                    Target("sock_recv_length", "tp_receive", "raw_tracepoint"),
                ),
            ),
            Way(
                "fentry",
                (
                    Target("tcp_cleanup_rbuf", "on_receive", "fentry"),
                    Target("skb_consume_udp", "on_datagram", "fentry"),
                    Target("unix_stream_recvmsg", "on_unix_receive", "fexit", required=False),
                    Target("unix_dgram_recvmsg", "on_unix_receive", "fexit", required=False),
                ),
            ),
            Way(
                "kprobe",
                (
                    Target("tcp_cleanup_rbuf", "on_receive_k", "kprobe"),
                    Target("skb_consume_udp", "on_datagram_k", "kprobe"),
                    Target("unix_stream_recvmsg", "on_unix_receive_k", "kprobe", required=False),
                    Target(
                        "unix_stream_recvmsg", "on_unix_received_k", "kretprobe", required=False
                    ),
                    Target("unix_dgram_recvmsg", "on_unix_receive_k", "kprobe", required=False),
                    Target("unix_dgram_recvmsg", "on_unix_received_k", "kretprobe", required=False),
                ),
            ),
        ),
    ),
    Event(
        "connections read",
        required=True,
        ways=(Way("iterator", (Target("bpf_map_elem:connections", "on_sweep", "iter"),)),),
    ),
    Event(
        "connects without a route",
        required=False,
        ways=(
            Way(
                "cgroup",
                (
                    Target("connect4", "on_connect4", "cgroup"),
                    Target("connect6", "on_connect6", "cgroup"),
                    Target("bpf_map_elem:connecting", "on_connecting", "iter"),
                ),
            ),
        ),
    ),
    Event(
        "listeners read",
        required=False,
        ways=(Way("iterator", (Target("bpf_map_elem:listening_at", "on_listener", "iter"),)),),
    ),
    Event(
        "queries without an answer",
        required=False,
        ways=(Way("iterator", (Target("bpf_map_elem:dns_pending", "on_query", "iter"),)),),
    ),
    Event(
        "flows that wait",
        ways=(Way("iterator", (Target("bpf_map_elem:held", "on_held", "iter"),)),),
        required=False,
    ),
    Event(
        "open before",
        required=False,
        ways=(
            Way("iterator", (Target("task_file", "on_file", "iter"),)),
            Way("iterator", (Target("task_file", "on_file_by_link", "iter"),)),
        ),
    ),
)
"""In the order of attaching: what ends a connection comes first."""
