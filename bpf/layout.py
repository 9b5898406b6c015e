"""The C structs of `sockets.c` as numpy dtypes, byte for byte, and the source itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

HERE: Final = Path(__file__).parent
HEADERS: Final = HERE
"""What `BCC_KERNEL_SOURCE` points at: holds `include/`, all that BCC needs of a kernel tree."""


def source() -> bytes:
    """Return the programs as one file: BCC translates map operations in the main file only."""
    seen: set[str] = set()

    def inlined(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        text = (HERE / name).read_text()
        return re.sub(r'^#include "(.+)"$', lambda found: inlined(found[1]), text, flags=re.M)

    return inlined("sockets.c").encode()


OWNER: Final = np.dtype(
    [("cgroup", "u8"), ("tgid", "u4"), ("started", "u4"), ("command", "S16"), ("executable", "S32")]
)
"""struct owner: a process; `started` in units of 2**20 ns since boot."""

DETAILS: Final = np.dtype(
    [("cgroup", "S96"), ("arguments", "V128"), ("arguments_length", "u4"), ("pad", "u4")]
)
"""struct details: what else tells who a group's process is."""

COUNTERS: Final = (
    "joined", "left", "attempts", "established", "ended", "bytes_out", "bytes_in", "requests",
    "waits", "segments", "retransmits", "timeouts", "stalls", "active", "refused", "timed_out",
    "unreachable", "connect_reset", "aborted", "no_port", "reset_in", "reset_in_early", "reset_out",
    "reset_out_early", "died", "drops", "datagrams", "dns_answers", "dns_nxdomain",
    "dns_servfail", "dns_refused", "dns_other", "dns_timed_out",
)  # fmt: skip
"""enum counter: what stands where in a group's `counts`; records.h explains them."""

GROUP_KEY: Final = np.dtype(
    [
        ("peer", "u8"),
        ("remote", "V16"),
        ("tgid", "u4"),
        ("started", "u4"),
        ("netns", "u4"),
        ("port", "u2"),
        ("role", "u1"),
        ("transport", "u1"),
        ("self", "u1"),
        ("pad", "V3"),
        ("executed", "u4"),
    ]
)
"""struct group_key."""

GROUP: Final = np.dtype(
    [
        ("id", "u8"),
        ("link", "u8"),
        ("key", GROUP_KEY),
        ("owner", OWNER),
        ("path", "S64"),
        ("interval", "u4"),
        ("pad", "u4"),
        ("mark", "u8"),
        ("counts", "u8", (len(COUNTERS),)),
    ]
)
"""struct group: all connections of one process to or from one other end. Counters only grow."""

ENDPOINT: Final = np.dtype(
    [("address", "V16"), ("netns", "u4"), ("port", "u2"), ("pad", "u2")],
)
"""struct endpoint: where somebody listens; all zeros is the wildcard address."""

LISTENER: Final = np.dtype([("owner", OWNER), ("count", "u8")])
"""struct listener."""

BACKLOG: Final = np.dtype(
    [
        ("socket", "u8"),
        ("at", ENDPOINT),
        ("drops", "u4"),
        ("length", "u4"),
        ("limit", "u4"),
        ("pad", "u4"),
    ]
)
"""struct backlog: a listening socket, what it turned away and what waits for accept(2)."""

ANSWER: Final = np.dtype(
    [
        ("at_ns", "u8"),
        ("netns", "u4"),
        ("tgid", "u4"),
        ("length", "u4"),
        ("copied", "u4"),
        ("message", "V1024"),
    ]
)
"""struct answer: a DNS message that answered a query, or the beginning of it; `at_ns` of the
monotonic clock, 0 in a place that is not written."""
VIEW: Final = np.dtype(
    [("client", "V16"), ("netns", "u4"), ("client_port", "u2"), ("server_port", "u2")]
)
"""struct view: a UDP flow as its server sees it, in whose network namespace that is."""

ASKED: Final = np.dtype(
    [
        ("client", "V16"),
        ("server", "V16"),
        ("netns", "u4"),
        ("client_port", "u2"),
        ("server_port", "u2"),
    ]
)
"""struct asked: the same flow as its client sees it; `netns` is 0 where that is not known."""

LATENCY_KEY: Final = np.dtype([("group", "u4"), ("bucket", "u2"), ("kind", "u2")])
"""struct latency_key: a place in `groups`, a bucket of `probes.histogram` and one of LATENCIES."""

LATENCY: Final = np.dtype([("samples", "u8"), ("weight", "u8")])
"""struct latency: how many were timed, and how many requests they stand for."""

LATENCIES: Final = (
    "request", "connect", "accept", "rtt", "rtt_min", "dns", "wait", "read", "woken",
)  # fmt: skip
"""Kinds of latency by number."""

LOST_KINDS: Final = (
    "connections",
    "groups",
    "latencies",
    "listeners",
    "links",
    "queries",
    "answers",
)
"""What the slots of the map `lost` count: updates that a full map refused."""

UNCOUNTED: Final = frozenset({"answers"})
"""Of these, what costs names, and of what is counted nothing."""

OVERFLOW: Final = 0
"""The place in `groups` of all that found no free one."""

CLIENT: Final = 1
SERVER: Final = 2

TCP: Final = 6
UDP: Final = 17
UNIX: Final = 1
TRANSPORTS: Final = {TCP: "tcp", UDP: "udp", UNIX: "unix"}

TUNING_INTERVAL: Final = 0
TUNING_RTT: Final = 1
TUNING_PASS: Final = 2
TUNING_JIFFY: Final = 3
TUNING_NETNS: Final = 4
TUNING_ANSWERS: Final = 5
TUNING_HOLD: Final = 6
TUNING_TRANSLATED: Final = 7
