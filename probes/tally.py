"""Sums over groups, per pair: the arithmetic between two sweeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.counted import Grouped, Tally
from probes.histogram import BUCKETS
from probes.waits import Waits
from probes.window import Mark

_AT: Final = {name: place for place, name in enumerate(layout.COUNTERS)}
_CONNECT_CAUSES: Final = {
    "refused": ("refused",),
    "timed_out": ("timed_out",),
    "unreachable": ("unreachable",),
    "reset": ("connect_reset",),
    # the caller gave up before the kernel did: its own time-out
    "aborted": ("aborted",),
    "no_port": ("no_port",),
}
_FAILURES: Final = tuple(name for names in _CONNECT_CAUSES.values() for name in names)
_DNS_CAUSES: Final = ("servfail", "refused", "other", "timed_out")
"""What makes a query a failed one. A name that does not exist (NXDOMAIN) is an answer: every search
domain of resolv.conf(5) that is tried in vain gives one. It is told among the causes."""
_MOVES: Final = tuple(
    _AT[name] for name in ("established", "bytes_out", "bytes_in", "datagrams", *_FAILURES)
)
_LATENCIES: Final = {
    "connect_latency": ("connect", "main"),
    "request_latency": ("request", "main"),
    "server_latency": ("request", "other"),
    "accept_latency": ("accept", "any"),
    "client_read_latency": ("read", "client"),
    "server_read_latency": ("read", "server"),
    "rtt": ("rtt", "main"),
    "rtt_min": ("rtt_min", "main"),
    "dns_latency": ("dns", "main"),
}
"""Signal: (kind of latency, at which end: the one that counts, the other, whose it is, or any)."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Groups, and what they have grown by.

    Attributes:
        slots: int64[n], places, ascending.
        grown: int64[n, counters], since the last sweep.
        pair: int64[n], IGNORED for none.
        client: bool[n].
        linked: bool[n], a server's end whose client is on this host and counts.
        transport: uint8[n], layout.TCP, UDP or UNIX.
        mark: uint64[n], the highest of its connections, 0 for none that should be told.
        served_per_s: float64[n], requests that their processes answer.
    """

    slots: NDArray[np.int64]
    grown: NDArray[np.int64]
    pair: NDArray[np.int64]
    client: NDArray[np.bool_]
    linked: NDArray[np.bool_]
    transport: NDArray[np.uint8]
    mark: NDArray[np.uint64]
    served_per_s: NDArray[np.float64]


def tally(
    ends: Ends,
    latency_keys: NDArray[Any],
    latencies: NDArray[Any],
    *,
    waits: Waits,
    pairs: int,
    now: float,
    rtt: bool,
    segments: bool,
) -> Tally:
    """Count what happened between two sweeps.

    A pair with both ends on this host is counted at the client's end; the server's end adds what
    the client cannot see. A pair whose client is elsewhere is counted at the server's end, its
    directions turned round.

    Args:
        ends: groups.
        latency_keys: LATENCY_KEY[k].
        latencies: LATENCY[k].
        waits: what is known of the pairs; learns from what is counted.
        pairs: how many pairs there are.
        now: end of the window, epoch seconds.
        rtt: whether round-trip times may be used.
        segments: whether segment counters may be used.
    """
    ours = ends.pair >= 0
    main = ours & ~ends.linked
    others = ours & ends.linked
    client = ends.client
    tcp = ends.transport == layout.TCP

    def number(which: NDArray[np.bool_], *names: str) -> NDArray[np.int64]:
        total = np.zeros(int(which.sum()), np.int64)
        for name in names:
            total += ends.grown[which, _AT[name]]
        summed = np.bincount(ends.pair[which], total.astype(np.float64), pairs)
        return summed.astype(np.int64)

    failed = number(main, *_FAILURES)
    opened = number(main, "established")
    attempted = number(main & client, "established")
    datagrams = number(main & ~tcp, "datagrams")
    sent = number(main & client, "bytes_out") + number(main & ~client, "bytes_in")
    received = number(main & client, "bytes_in") + number(main & ~client, "bytes_out")
    requests, answered = number(main, "requests"), number(others, "requests")
    # nothing tells of a client that reads by splice(2), as proxies do: its server knows
    by_server = (requests == 0) & (answered > 0) & (received > 0)
    rates = {
        "connections": opened,
        "requests": np.where(by_server, answered, requests),
        "bytes_sent": sent,
        "bytes_received": received,
        "server_requests": answered,
        "server_bytes_sent": number(others, "bytes_out"),
        "server_bytes_received": number(others, "bytes_in"),
    }
    resets = {
        "by_client": number(main & client, "reset_out") + number(main & ~client, "reset_in"),
        "by_server": number(main & client, "reset_in") + number(main & ~client, "reset_out"),
        "by_client_before_data": number(main & client, "reset_out_early")
        + number(main & ~client, "reset_in_early"),
        "by_server_before_data": number(main & client, "reset_in_early")
        + number(main & ~client, "reset_out_early"),
        "timed_out": number(main, "died"),
    }
    was_reset = sum(resets.values(), np.zeros(pairs, np.int64))
    stalls = {
        # whoever cannot send is held up by the other, who does not read
        "by_server": number(ours & client, "stalls"),
        "by_client": number(ours & ~client, "stalls"),
    }
    stalled = stalls["by_server"] + stalls["by_client"]
    dropped = number(ours & ~tcp, "drops")
    arrived = number(ours & ~tcp, "datagrams")
    dns_failed = number(main, *(f"dns_{cause}" for cause in _DNS_CAUSES))
    ratios = {
        "connect_errors": (failed, failed + attempted * (datagrams == 0) + datagrams),
        "resets": (was_reset, np.maximum(number(main, "ended"), was_reset)),
        "stalls": (stalled, number(ours, "active")),
        "drops": (dropped, dropped + arrived),
        "dns_errors": (dns_failed, number(main, "dns_answers", "dns_timed_out")),
    }
    causes = {
        "connect_errors": {
            cause: number(main, *counters) for cause, counters in _CONNECT_CAUSES.items()
        },
        "resets": resets,
        "stalls": stalls,
        "drops": {"buffer": dropped},
        "dns_errors": {cause: number(main, f"dns_{cause}") for cause in (*_DNS_CAUSES, "nxdomain")},
    }
    if segments:
        again = number(ours, "retransmits")
        # a repeated SYN is a retransmission but no data segment
        ratios["retransmits"] = (again, np.maximum(number(ours, "segments"), again))
        causes["retransmits"] = {"timeout": number(ours, "timeouts")}
    at = _places(ends, latency_keys)
    known = at >= 0
    latency_keys, latencies, at = latency_keys[known], latencies[known], at[known]
    streamed = number(main, "waits")
    keys = waits.judge(
        latency_keys,
        latencies["samples"].astype(np.int64),
        ends.pair[at],
        streaming=streamed > 0,
        served_per_s=np.where(client, np.nan, ends.served_per_s)[at],
        now=now,
    )
    waited = (keys["kind"] == layout.LATENCIES.index("wait")) & main[at]
    weights = latencies["weight"][waited].astype(np.float64)
    rates["waits"] = streamed + np.bincount(ends.pair[at[waited]], weights, pairs)
    seen_at = {
        "main": main[at],
        "other": ~main[at],
        "client": client[at],
        "server": ~client[at],
        "any": ours[at],
    }
    histograms = _histograms_of(ends.pair[at], seen_at, by_server, keys, latencies, rtt=rtt)
    moved = ours & (ends.grown[:, _MOVES] > 0).any(axis=1)
    both = np.zeros(pairs, np.bool_)
    both[ends.pair[others]] = True
    marked = np.flatnonzero(main & (ends.mark > 0))
    return Tally(
        {name: amount.astype(np.float64) for name, amount in rates.items()},
        ratios,
        histograms,
        causes,
        np.unique(ends.pair[moved & main]),
        waits.given.copy(),
        both,
        [
            (pair, Mark(seen, mark))
            for pair, seen, mark in zip(
                ends.pair[marked].tolist(),
                client[marked].tolist(),
                ends.mark[marked].tolist(),
                strict=True,
            )
        ],
    )


def _places(ends: Ends, keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return for each LATENCY_KEY where in `ends` its group is; -1 if it is of no pair."""
    if not len(ends.slots):
        return np.full(len(keys), -1)
    at = np.minimum(np.searchsorted(ends.slots, keys["group"]), len(ends.slots) - 1)
    return np.where((ends.slots[at] == keys["group"]) & (ends.pair[at] >= 0), at, -1)


def _histograms_of(
    pair: NDArray[np.int64],
    seen_at: dict[str, NDArray[np.bool_]],
    by_server: NDArray[np.bool_],
    keys: NDArray[Any],
    latencies: NDArray[Any],
    *,
    rtt: bool,
) -> dict[str, Grouped]:
    found = {}
    for name, (kind, which) in _LATENCIES.items():
        if kind.startswith("rtt") and not rtt:
            continue
        mine = keys["kind"] == layout.LATENCIES.index(kind)
        if name == "request_latency":
            mine &= seen_at["main"] | by_server[pair]
        else:
            mine &= seen_at[which]
        found[name] = _grouped(
            pair[mine],
            keys["bucket"][mine].astype(np.int64),
            latencies["samples"][mine].astype(np.int64),
            latencies["weight"][mine].astype(np.int64),
        )
    return found


def _grouped(
    pair: NDArray[np.int64],
    bucket: NDArray[np.int64],
    samples: NDArray[np.int64],
    weight: NDArray[np.int64],
) -> Grouped:
    """Return (pair, bucket, number) with each (pair, bucket) once, ascending.

    Busy connections have some of their requests timed, each of which stands for several. The
    histogram has the shape that the weights give, and as many entries as there were samples:
    what was not timed must not be taken for evidence.
    """
    key, inverse = np.unique(pair * BUCKETS + bucket, return_inverse=True)
    number = np.bincount(inverse, samples, len(key))
    heavy = np.bincount(inverse, weight, len(key))
    group = key // BUCKETS
    if (number != heavy).any():
        _, first, of = np.unique(group, return_index=True, return_inverse=True)
        timed = np.add.reduceat(number, first)
        meant = np.add.reduceat(heavy, first)
        # round the running sum, so that the whole comes out exactly
        reached = np.cumsum(heavy) - (np.cumsum(meant) - meant)[of]
        until = np.rint(reached * (timed / meant)[of])
        before = np.concatenate(([0.0], until[:-1]))
        before[first] = 0.0
        number = until - before
    there = number > 0
    return group[there], (key % BUCKETS)[there], number[there].astype(np.int64)
