"""Sums over groups, per pair: the arithmetic between two sweeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.histogram import BUCKETS, quantile_by_group_s
from probes.waits import Waits
from probes.window import SIGNALS, Histograms, Kind, Pair, Window

NAMES: Final = tuple(name for name, kind in SIGNALS.items() if kind is not Kind.PRESENCE)
"""The signals of a window, in the order in which their rows stand within a pair."""

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
_LATENCIES: Final[dict[str, tuple[str, bool | None]]] = {
    "connect_latency": ("connect", True),
    "request_latency": ("request", True),
    "server_latency": ("request", False),
    "accept_latency": ("accept", None),
    "rtt": ("rtt", True),
    "rtt_min": ("rtt_min", True),
    "dns_latency": ("dns", True),
}
"""Signal: (kind of latency, whether at the end that counts; False: at the other; None: at any)."""

Grouped = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted.

    Attributes:
        rates: {signal: float64[pairs]}, amounts in this window.
        ratios: {signal: (part int64[pairs], whole int64[pairs])}.
        histograms: {signal: (pair int64[k] ascending, bucket int64[k], number int64[k])}.
        causes: {signal: {cause: int64[pairs]}}.
        active: int64[a], pairs that did anything.
        waiting: bool[pairs], those that have ever waited on purpose.
    """

    rates: dict[str, NDArray[np.float64]]
    ratios: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    histograms: dict[str, Grouped]
    causes: dict[str, dict[str, NDArray[np.int64]]]
    active: NDArray[np.int64]
    waiting: NDArray[np.bool_]

    def window(
        self,
        watched: NDArray[np.int64],
        *,
        pairs: tuple[Pair, ...],
        time: float,
        width: float,
        nominal: float,
        lost: int,
    ) -> Window:
        """Return the tally as a window.

        Args:
            watched: pairs that get rate rows even when nothing happened.
            pairs: all pairs, by index.
            time: start, epoch seconds.
            width: seconds.
            nominal: seconds.
            lost: samples.
        """
        pair, signal, value, count = [], [], [], []
        entries = []
        for name, amount in self.rates.items():
            whose = watched[self.waiting[watched]] if name == "waits" else watched
            pair.append(whose)
            signal.append(np.full(len(whose), NAMES.index(name)))
            value.append(amount[whose] / width)
            count.append(np.full(len(whose), np.nan))
        for name, (part, whole) in self.ratios.items():
            known = np.flatnonzero(whole)
            pair.append(known)
            signal.append(np.full(len(known), NAMES.index(name)))
            value.append(part[known] / whole[known])
            count.append(whole[known].astype(np.float64))
        for name, (group, bucket, number) in self.histograms.items():
            known, median, samples = quantile_by_group_s(group, bucket, number, 0.5)
            pair.append(known)
            signal.append(np.full(len(known), NAMES.index(name)))
            value.append(median)
            count.append(samples.astype(np.float64))
            entries.append((group * len(NAMES) + NAMES.index(name), bucket, number))
        row_key = np.concatenate(pair) * len(NAMES) + np.concatenate(signal)
        order = np.argsort(row_key, kind="stable")
        row_key = row_key[order]
        return Window(
            time=time,
            width=width,
            nominal=nominal,
            lost=lost,
            pairs=pairs,
            signals=NAMES,
            pair=np.concatenate(pair)[order].astype(np.int32),
            signal=np.concatenate(signal)[order].astype(np.int16),
            value=np.concatenate(value)[order],
            count=np.concatenate(count)[order],
            histograms=_histograms(entries, row_key),
            causes=self._row_causes(row_key),
        )

    def _row_causes(self, row_key: NDArray[np.int64]) -> dict[int, dict[str, int]]:
        found: dict[int, dict[str, int]] = {}
        for name, causes in self.causes.items():
            for cause, number in causes.items():
                for pair in np.flatnonzero(number):
                    key = pair * len(NAMES) + NAMES.index(name)
                    row = int(np.searchsorted(row_key, key))
                    if row < len(row_key) and row_key[row] == key:
                        found.setdefault(row, {})[cause] = int(number[pair])
        return found


def _histograms(
    entries: list[Grouped],
    row_key: NDArray[np.int64],
) -> Histograms:
    key = np.concatenate([e[0] for e in entries])
    bucket = np.concatenate([e[1] for e in entries])
    number = np.concatenate([e[2] for e in entries])
    row = np.searchsorted(row_key, key)
    order = np.lexsort((bucket, row))
    return Histograms(
        row[order].astype(np.int32), bucket[order].astype(np.int16), number[order].astype(np.int64)
    )


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
    """

    slots: NDArray[np.int64]
    grown: NDArray[np.int64]
    pair: NDArray[np.int64]
    client: NDArray[np.bool_]
    linked: NDArray[np.bool_]
    transport: NDArray[np.uint8]


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
    requests, answered = number(main, "requests"), number(ours & ~main, "requests")
    # nothing tells of a client that reads by splice(2), as proxies do: its server knows
    by_server = (requests == 0) & (answered > 0) & (received > 0)
    rates = {
        "connections": opened,
        "requests": np.where(by_server, answered, requests),
        "bytes_sent": sent,
        "bytes_received": received,
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
    keys = waits.judge(latency_keys, ends.pair[at], streamed > 0, now)
    waited = (keys["kind"] == layout.LATENCIES.index("wait")) & main[at]
    weights = latencies["weight"][waited].astype(np.float64)
    rates["waits"] = streamed + np.bincount(ends.pair[at[waited]], weights, pairs)
    histograms = _histograms_of(ends.pair[at], main[at], by_server, keys, latencies, rtt=rtt)
    moved = ours & (ends.grown[:, _MOVES] > 0).any(axis=1)
    return Tally(
        {name: amount.astype(np.float64) for name, amount in rates.items()},
        ratios,
        histograms,
        causes,
        np.unique(ends.pair[moved & main]),
        waits.given.copy(),
    )


class Door(NamedTuple):
    """A listener in one window, by its pair: connections let in, and turned away by cause."""

    pair: int
    accepted: int
    accept_queue: int = 0
    syn: int = 0


def add_doors(counted: Tally, doors: Iterable[Door]) -> None:
    """Count the connections that listeners turned away as drops, among all that came."""
    part, whole = counted.ratios["drops"]
    causes = counted.causes["drops"]
    accepted, full, syn = (np.zeros_like(part) for _ in range(3))
    for door in doors:
        accepted[door.pair] += door.accepted
        full[door.pair] += door.accept_queue
        syn[door.pair] += door.syn
    counted.ratios["drops"] = (part + full + syn, whole + accepted + full + syn)
    causes["accept_queue"], causes["syn"] = full, syn


def _places(ends: Ends, keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return for each LATENCY_KEY where in `ends` its group is; -1 if it is of no pair."""
    if not len(ends.slots):
        return np.full(len(keys), -1)
    at = np.minimum(np.searchsorted(ends.slots, keys["group"]), len(ends.slots) - 1)
    return np.where((ends.slots[at] == keys["group"]) & (ends.pair[at] >= 0), at, -1)


def _histograms_of(
    pair: NDArray[np.int64],
    mains: NDArray[np.bool_],
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
            mine &= mains | by_server[pair]
        elif which is not None:
            mine &= mains if which else ~mains
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
