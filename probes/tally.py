"""Sums over connections, per pair: the arithmetic between two snapshots."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.histogram import BUCKETS, bucket_of, quantile_by_group_s
from probes.window import SIGNALS, Histograms, Kind, Pair, Window

NAMES: Final = tuple(name for name, kind in SIGNALS.items() if kind is not Kind.PRESENCE)
"""The signals of a window, in the order in which their rows stand within a pair."""

_RATES: Final = ("connections", "requests", "bytes_sent", "bytes_received")
_CAUSES: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timed_out",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ECONNRESET: "reset",
}
_OTHER_CAUSE: Final = "aborted"
"""The caller gave up before the kernel did (its own time-out), or no local port was free."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted.

    Attributes:
        rates: {signal: float64[pairs]}, amounts in this window.
        ratios: {signal: (part int64[pairs], whole int64[pairs])}.
        histograms: {signal: (pair int64[k] ascending, bucket int64[k], number int64[k])}.
        causes: {signal: {cause: int64[pairs]}}.
        active: int64[a], pairs that did anything.
    """

    rates: dict[str, NDArray[np.float64]]
    ratios: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    histograms: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]
    causes: dict[str, dict[str, NDArray[np.int64]]]
    active: NDArray[np.int64]

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
        nothing = np.full(len(watched), np.nan)
        for name, amount in self.rates.items():
            pair.append(watched)
            signal.append(np.full(len(watched), NAMES.index(name)))
            value.append(amount[watched] / width)
            count.append(nothing)
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
    entries: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]],
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


def tally(
    rows: NDArray[Any],
    now: NDArray[Any],
    before: NDArray[Any],
    latencies: NDArray[Any],
    *,
    pairs: int,
    rtt: bool,
    segments: bool,
) -> Tally:
    """Count what happened to connections between two snapshots.

    A pair with both ends on this host is counted at the client's end; the server's end adds its
    own segments and retransmissions, which the client cannot see. A pair whose client is
    elsewhere is counted at the server's end, its directions turned round.

    Args:
        rows: CONNECTION[n].
        now: the tracker's state of each at this snapshot.
        before: and at the one before.
        latencies: (id, bucket, number) of request turn-arounds.
        pairs: how many pairs there are.
        rtt: whether round-trip times may be used.
        segments: whether segment counters may be used.
    """
    pair = now["pair"].astype(np.int64)
    client = rows["role"] == layout.CLIENT
    ours = pair >= 0
    main = ours & (client | ~now["matched"])

    def total(which: NDArray[np.bool_], amount: NDArray[Any] | None = None) -> NDArray[np.float64]:
        weights = None if amount is None else amount[which].astype(np.float64)
        return np.bincount(pair[which], weights, pairs).astype(np.float64)

    def number(which: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(pair[which], minlength=pairs)

    def grown(name: str) -> NDArray[np.int64]:
        return now[name].astype(np.int64) - before[name].astype(np.int64)

    out, in_ = grown("bytes_out"), grown("bytes_in")
    opened = now["established"] & ~before["established"]
    failed = main & now["failed"] & ~before["failed"]
    over = main & now["over"] & ~before["over"]
    reset_in = rows["flags"] & layout.FLAG_RESET_IN > 0
    reset_out = rows["flags"] & layout.FLAG_RESET_OUT > 0
    by_client = np.where(client, reset_out, reset_in)
    was_reset = over & (reset_in | reset_out)
    attempted = main & client
    rates = {
        "connections": total(main & opened),
        "requests": total(main, grown("turnarounds")),
        "bytes_sent": total(main, np.where(client, out, in_)),
        "bytes_received": total(main, np.where(client, in_, out)),
    }
    ratios = {
        "connect_errors": (number(failed), number(failed | (attempted & opened))),
        "resets": (number(was_reset), number(over)),
    }
    if segments:
        sent, again = total(ours, grown("segments_out")), total(ours, grown("retransmits"))
        again_n = again.astype(np.int64)
        # a repeated SYN is a retransmission but no data segment
        ratios["retransmits"] = (again_n, np.maximum(sent.astype(np.int64), again_n))
    connect_ns = rows["established_ns"].astype(np.int64) - rows["opened_ns"].astype(np.int64)
    measured = attempted & opened
    histograms = {"connect_latency": _grouped(pair[measured], bucket_of(connect_ns[measured]))}
    histograms["request_latency"] = _request_latency(rows, pair, main, latencies)
    if rtt:
        sampled = main & (now["sampled_ns"] > before["sampled_ns"]) & (rows["srtt_us"] > 0)
        srtt_ns = rows["srtt_us"][sampled].astype(np.int64) * 1000
        histograms["rtt"] = _grouped(pair[sampled], bucket_of(srtt_ns))
    causes = {
        "connect_errors": _failures(rows["error"], pair, failed, pairs),
        "resets": {
            "by_client": number(was_reset & by_client),
            "by_server": number(was_reset & ~by_client),
        },
    }
    moved = main & (opened | now["failed"] & ~before["failed"] | (out > 0) | (in_ > 0))
    return Tally(rates, ratios, histograms, causes, np.unique(pair[moved]))


def _failures(
    error: NDArray[np.uint16], pair: NDArray[np.int64], failed: NDArray[np.bool_], pairs: int
) -> dict[str, NDArray[np.int64]]:
    causes: dict[str, NDArray[np.int64]] = {}
    for code in np.unique(error[failed]):
        cause = _CAUSES.get(int(code), _OTHER_CAUSE)
        of = np.bincount(pair[failed & (error == code)], minlength=pairs)
        causes[cause] = causes.get(cause, np.zeros(pairs, np.int64)) + of
    return causes


def _grouped(
    pair: NDArray[np.int64], bucket: NDArray[np.int64], number: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (pair, bucket, number) with each (pair, bucket) once, ascending."""
    key, inverse = np.unique(pair * BUCKETS + bucket, return_inverse=True)
    count = np.bincount(inverse, number, len(key)).astype(np.int64)
    return key // BUCKETS, key % BUCKETS, count


def _request_latency(
    rows: NDArray[Any],
    pair: NDArray[np.int64],
    main: NDArray[np.bool_],
    latencies: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    if not len(rows):
        return _grouped(np.empty(0, np.int64), np.empty(0, np.int64))
    at = np.minimum(np.searchsorted(rows["id"], latencies["id"]), len(rows) - 1)
    mine = (rows["id"][at] == latencies["id"]) & main[at]
    return _grouped(
        pair[at[mine]],
        latencies["bucket"][mine].astype(np.int64),
        latencies["number"][mine].astype(np.int64),
    )
