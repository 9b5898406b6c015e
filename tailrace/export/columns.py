"""The columns of the table of totals: what is added up for each service pair, window by window."""

from __future__ import annotations

from typing import Final

from probes.window import SIGNALS, Kind

AMOUNTS: Final = tuple(n for n, kind in SIGNALS.items() if kind in (Kind.COUNT, Kind.SUM))
RATIOS: Final = tuple(n for n, kind in SIGNALS.items() if kind is Kind.RATIO)
LATEST: Final = ("rtt", "rtt_min")
"""Latencies of which the latest median is kept, and nothing is added up."""
LATENCIES: Final = tuple(
    n for n, kind in SIGNALS.items() if kind is Kind.LATENCY and n not in LATEST
)
HISTOGRAMS: Final = ("request_latency", "dns_latency")
"""Latencies of which the distribution is kept; of the others sum and number."""

CAUSES: Final = {
    "connect_errors": ("refused", "timed_out", "unreachable", "reset", "aborted", "no_port"),
    "resets": (
        "by_client", "by_server", "by_client_before_data", "by_server_before_data", "timed_out",
    ),
    "retransmits": ("timeout",),
    "stalls": ("by_client", "by_server"),
    "drops": ("buffer", "accept_queue", "syn"),
    "dns_errors": ("servfail", "refused", "other", "timed_out", "nxdomain"),
}  # fmt: skip
"""What the probes tell of each ratio's part; any other cause, of a recording, is "unknown"."""
UNKNOWN: Final = "unknown"

BOUNDS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
)  # fmt: skip
"""Upper bounds of the exported buckets, seconds. A bucket of `probes.histogram` goes where its
midpoint does, so each bound is met within 3.2 %."""


def whole(ratio: str) -> str:
    """Return the column of what a ratio is a share of; its own name has the part."""
    return f"{ratio}/of"


def cause(ratio: str, name: str) -> str:
    """Return the column of a cause."""
    return f"{ratio}/{name}"


def total(latency: str) -> str:
    """Return the column of a latency's sum, seconds."""
    return f"{latency}/sum"


def number(latency: str) -> str:
    """Return the column of a latency's number of samples."""
    return f"{latency}/count"


def _names() -> tuple[str, ...]:
    names = [*AMOUNTS]
    for ratio in RATIOS:
        names += [ratio, whole(ratio)]
        names += [cause(ratio, name) for name in (*CAUSES[ratio], UNKNOWN)]
    for latency in LATENCIES:
        names += [total(latency), number(latency)]
    return (*names, *LATEST)


NAMES: Final = _names()
AT: Final = {name: at for at, name in enumerate(NAMES)}
