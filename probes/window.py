"""The contract between probes and detector: what was seen of every service pair in one window.

A window is a small table. Each row is one (service pair, signal) with a value; rows refer to
pairs and signals by index, so that everything over all rows at once is a numpy operation.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Pair(NamedTuple):
    """A service pair: who calls whom, on which port of the server, over which transport."""

    client: str
    server: str
    port: int
    transport: str = "tcp"

    def __str__(self) -> str:
        return f"{self.client} -> {self.server}:{self.port}/{self.transport}"


OTHER: Final = "other"
"""Stands for many that are not told apart, as there are too many."""


def is_other(pair: Pair) -> bool:
    """Return whether a pair is of many that are not told apart."""
    return OTHER in (pair.client, pair.server)


ANY: Final = "any"
"""Stands for the clients that a listener turned away, before anybody could tell who they were."""


EVERY: Final = "*"
"""Stands for all clients of a server port, or all servers of a client, in a roll-up's pair."""


def is_rollup(pair: Pair) -> bool:
    """Return whether a pair is of several that the detector takes together; no probe has such."""
    return EVERY in (pair.client, pair.server)


class Kind(enum.Enum):
    """How a signal is measured, which decides how it is tested."""

    COUNT = "count"
    """Events per second; `count` is empty."""
    SUM = "sum"
    """Amount per second (bytes), not a number of independent events; `count` is empty."""
    RATIO = "ratio"
    """Share in [0, 1]; `count` is the attempts it is a share of."""
    LATENCY = "latency"
    """Median in seconds; `count` is the samples behind it, the histogram holds them."""
    GAUGE = "gauge"
    """Any other number; `count` is empty or ignored."""
    PRESENCE = "presence"
    """Made by the detector from the others; never a row of a window."""


SIGNALS: Mapping[str, Kind] = {
    "connections": Kind.COUNT,
    "requests": Kind.COUNT,
    "waits": Kind.COUNT,
    "bytes_sent": Kind.SUM,
    "bytes_received": Kind.SUM,
    "connect_errors": Kind.RATIO,
    "resets": Kind.RATIO,
    "retransmits": Kind.RATIO,
    "stalls": Kind.RATIO,
    "drops": Kind.RATIO,
    "dns_errors": Kind.RATIO,
    "connect_latency": Kind.LATENCY,
    "request_latency": Kind.LATENCY,
    "dns_latency": Kind.LATENCY,
    "rtt": Kind.LATENCY,
    "server_latency": Kind.LATENCY,
    "accept_latency": Kind.LATENCY,
    "client_read_latency": Kind.LATENCY,
    "server_read_latency": Kind.LATENCY,
    "rtt_min": Kind.LATENCY,
    "server_requests": Kind.COUNT,
    "server_bytes_sent": Kind.SUM,
    "server_bytes_received": Kind.SUM,
    "new_pair": Kind.PRESENCE,
    "silent_pair": Kind.PRESENCE,
}
"""Every signal by its public name. A name that is not here is a GAUGE."""

VIEWS: frozenset[str] = frozenset(
    {
        "server_latency", "accept_latency", "client_read_latency", "server_read_latency",
        "rtt_min", "server_requests", "server_bytes_sent", "server_bytes_received",
    }
)  # fmt: skip
"""Signals that say where the time of another goes, or what the other end saw of it; shown, and
not judged for themselves."""

UNITS: Mapping[str, str] = {
    "connections": "1/s",
    "requests": "1/s",
    "waits": "1/s",
    "bytes_sent": "B/s",
    "bytes_received": "B/s",
    "connect_errors": "ratio",
    "resets": "ratio",
    "retransmits": "ratio",
    "stalls": "ratio",
    "drops": "ratio",
    "dns_errors": "ratio",
    "connect_latency": "s",
    "request_latency": "s",
    "dns_latency": "s",
    "rtt": "s",
    "server_latency": "s",
    "accept_latency": "s",
    "client_read_latency": "s",
    "server_read_latency": "s",
    "server_requests": "1/s",
    "server_bytes_sent": "B/s",
    "server_bytes_received": "B/s",
    "rtt_min": "s",
}
"""The unit of each signal's value; a name that is not here has none ("")."""


def kind_of(signal: str) -> Kind:
    """Return how `signal` is measured."""
    return SIGNALS.get(signal, Kind.GAUGE)


class Mark(NamedTuple):
    """What tells one connection from all others, the same wherever it is seen.

    Attributes:
        client: whether it was seen at the client's end.
        value: 64 bits.
    """

    client: bool
    value: int


class Histograms(NamedTuple):
    """The latency histograms of a window's rows, as coordinates: one entry per non-empty bucket.

    Attributes:
        row: int32[k], which row of the window; ascending.
        bucket: int16[k], index as in `probes.histogram`; ascending within a row.
        number: int64[k], samples in that bucket, > 0.
    """

    row: NDArray[np.int32]
    bucket: NDArray[np.int16]
    number: NDArray[np.int64]


def no_histograms() -> Histograms:
    """Return histograms without an entry."""
    return Histograms(np.empty(0, np.int32), np.empty(0, np.int16), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Window:
    """What was seen of every service pair in [time, time + width).

    A rate row (COUNT, SUM) is present in every window for every pair that is being watched, 0
    included; of `waits`, the answers that were waited for on purpose (long polls, messages that
    nobody asked for), for pairs that ever had any. RATIO and LATENCY rows are present when
    `count` > 0. A row that is absent means "not measured": it is never read as 0.

    Attributes:
        time: start of the window, epoch seconds.
        width: length of the window as measured, seconds; NaN when unknown (a foreign recording:
            then each stream's own spacing counts).
        nominal: length the window was asked to have, seconds; NaN when unknown. A width well
            above it means that the daemon or the host was paused.
        lost: samples known to be lost in this window (full maps, failed updates); 0 is the
            normal case. Rates and ratios of such a window are lower bounds.
        pairs: pairs that rows refer to.
        signals: names of signals that rows refer to.
        pair: int32[n], index into `pairs`.
        signal: int16[n], index into `signals`.
        value: float64[n], as `Kind` says.
        count: float64[n], NaN when empty.
        histograms: of the LATENCY rows; a latency row may have none (foreign recordings).
        causes: for rows of ratios, by row: how many of each cause (connect_errors: "refused",
            "timed_out", "unreachable", "reset", "aborted", "no_port"; resets and stalls:
            "by_client", "by_server", ...; drops: "buffer", "accept_queue", "syn"; dns_errors:
            "servfail", "refused", "other", "timed_out", and "nxdomain", which is no failure).
        marks: for rows of "connections" whose other end was not seen here, by row: marks of some
            of their connections, as `Mark` says.
    """

    time: float
    width: float
    nominal: float
    lost: int
    pairs: tuple[Pair, ...]
    signals: tuple[str, ...]
    pair: NDArray[np.int32]
    signal: NDArray[np.int16]
    value: NDArray[np.float64]
    count: NDArray[np.float64]
    histograms: Histograms = field(default_factory=no_histograms)
    causes: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    marks: Mapping[int, tuple[Mark, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.value)
