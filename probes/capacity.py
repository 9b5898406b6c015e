"""How much the kernel's maps hold."""

from __future__ import annotations

from dataclasses import dataclass


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
        held: servers' UDP flows whose client's end is being looked for; beyond, flows through NAT
            may be named by addresses.
        translated: UDP flows through NAT at a time; memory is taken as it is needed.
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
    held: int = 1 << 14
    translated: int = 1 << 16
    connecting: int = 1 << 12
    netns: int = 1 << 10
