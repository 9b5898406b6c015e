"""The metrics of service pairs: which column of the totals each comes from, in either vocabulary.

`"tailrace"` calls them by our signals. `"opentelemetry"` calls by the names of Flowmill, which live
on in OpenTelemetry's eBPF collector (opentelemetry-network), what has a name there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from tailrace.export import columns
from tailrace.export.columns import cause, number, total, whole
from tailrace.export.family import Family

Names = Literal["tailrace", "opentelemetry"]
NAMES: Final[tuple[str, ...]] = get_args(Names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Series of a family, one for each pair.

    Attributes:
        family: whose.
        column: of the totals; of a histogram or summary the latency's name.
        less: a column to take away; "" for none.
        over: a column to divide by; "" for none.
        labels: values of the family's own labels.
        transports: only those; all if there is none.
        unless: all but those.
        turned: whether the server is the source.
        sparse: only where it is not zero.
    """

    family: Family
    column: str
    less: str = ""
    over: str = ""
    labels: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    turned: bool = False
    sparse: bool = False


_AMOUNTS: Final = {
    "connections": ("connections", "{connection}", "Connections opened."),
    "requests": ("requests", "{request}", "Requests answered, waits on purpose not among them."),
    "waits": ("waits", "{answer}", "Answers that were waited for on purpose: long polls, pushes."),
    "bytes_sent": ("sent", "By", "Bytes from the client to the server."),
    "bytes_received": ("received", "By", "Bytes from the server to the client."),
    "server_requests": ("server_requests", "{request}", "Requests as the server's end counts."),
    "server_bytes_sent": ("server_sent", "By", "Bytes that the server's end sent."),
    "server_bytes_received": ("server_received", "By", "Bytes that the server's end received."),
}
_RATIOS: Final = {
    "connect_errors": (
        "connect_attempts", "{attempt}", "Attempts to connect; of UDP, datagrams sent.",
        "Attempts to connect that failed; of UDP, datagrams refused.",
    ),
    "resets": (
        "ended_connections", "{connection}", "Connections that ended.",
        "Connections that ended by a reset, or by a time-out.",
    ),
    "retransmits": (
        "segments", "{segment}", "Segments sent, at the ends seen here.",
        "Segments sent again.",
    ),
    "stalls": (
        "active_connections", "{connection}",
        "Connections that moved data, counted anew in each window.",
        "Connections held up by a reader that does not read, counted anew in each window.",
    ),
    "drops": (
        "arrivals", "{arrival}", "Datagrams and connections that arrived.",
        "Datagrams and connections that the receiving host dropped.",
    ),
    "dns_errors": (
        "dns_queries", "{query}", "DNS queries that were answered or timed out.",
        "DNS queries that failed; a name that does not exist is no failure.",
    ),
}  # fmt: skip
_LATENCIES: Final = {
    "request_latency": "From a request to the first of its answer, where it was timed.",
    "dns_latency": "From a DNS query to its answer.",
    "connect_latency": "From the first packet to an established connection.",
    "server_latency": "From a request to its answer, as the server's end sees it.",
    "accept_latency": "From an established connection to its acceptance by the server.",
    "client_read_latency": "How long answers lay unread at the client.",
    "server_read_latency": "How long requests lay unread at the server.",
}
_LATEST: Final = {
    "rtt": "Round-trip time, the median of the latest window that has any.",
    "rtt_min": "Least round-trip time, the median of the latest window that has any.",
}
FIRING: Final = Family(
    name="tailrace.pair.firing",
    type="gauge",
    unit="{finding}",
    help="1 for each finding that fires.",
    labels=("signal", "direction"),
)


def _ours() -> list[Series]:
    found = [
        Series(
            family=Family(name=f"tailrace.pair.{name}", type="counter", unit=unit, help=text),
            column=signal,
        )
        for signal, (name, unit, text) in _AMOUNTS.items()
    ]
    for signal, (name, unit, text, failed) in _RATIOS.items():
        of = Family(name=f"tailrace.pair.{name}", type="counter", unit=unit, help=text)
        part = Family(name=f"tailrace.pair.{signal}", type="counter", unit=unit, help=failed)
        by = Family(
            name=f"tailrace.pair.{signal}_by_cause",
            type="counter",
            unit=unit,
            help=f"{failed.rstrip('.')}, by cause; causes that ever were.",
            labels=("cause",),
        )
        found += [Series(family=of, column=whole(signal)), Series(family=part, column=signal)]
        found += [
            Series(family=by, column=cause(signal, why), labels=(why,), sparse=True)
            for why in (*columns.CAUSES[signal], columns.UNKNOWN)
        ]
    for signal, text in _LATENCIES.items():
        kind: Literal["histogram", "summary"] = (
            "histogram" if signal in columns.HISTOGRAMS else "summary"
        )
        family = Family(name=f"tailrace.pair.{signal}", type=kind, unit="s", help=text)
        found.append(Series(family=family, column=signal))
    found += [
        Series(
            family=Family(name=f"tailrace.pair.{signal}", type="gauge", unit="s", help=text),
            column=signal,
        )
        for signal, text in _LATEST.items()
    ]
    return found


_TCP, _UDP = ("tcp",), ("udp",)


def _counter(name: str, unit: str, text: str) -> Family:
    return Family(name=name, type="counter", unit=unit, help=text)


_TCP_BYTES = _counter("tcp.bytes", "By", "Bytes from the source to the destination.")
_UDP_BYTES = _counter("udp.bytes", "By", "Bytes from the source to the destination.")
_THEIRS: Final = (
    Series(family=_TCP_BYTES, column="bytes_sent", transports=_TCP),
    Series(family=_TCP_BYTES, column="bytes_received", transports=_TCP, turned=True),
    Series(
        family=_counter("tcp.packets", "{packet}", "Segments sent."),
        column=whole("retransmits"),
        transports=_TCP,
    ),
    Series(
        family=_counter("tcp.retrans", "{packet}", "Segments sent again."),
        column="retransmits",
        transports=_TCP,
    ),
    Series(
        family=_counter("tcp.syn_timeouts", "{timeout}", "Attempts to connect without an answer."),
        column=cause("connect_errors", "timed_out"),
        transports=_TCP,
    ),
    Series(
        family=_counter("tcp.new_sockets", "{socket}", "Connections opened."),
        column="connections",
        transports=_TCP,
    ),
    Series(
        family=_counter("tcp.resets", "{reset}", "Connections that ended by a reset."),
        column="resets",
        less=cause("resets", "timed_out"),
        transports=_TCP,
    ),
    Series(
        family=Family(name="tcp.rtt.average", type="gauge", unit="s", help=_LATEST["rtt"]),
        column="rtt",
        transports=_TCP,
    ),
    Series(family=_UDP_BYTES, column="bytes_sent", transports=_UDP),
    Series(family=_UDP_BYTES, column="bytes_received", transports=_UDP, turned=True),
    Series(
        family=_counter("udp.packets", "{packet}", "Datagrams sent."),
        column=whole("connect_errors"),
        transports=_UDP,
    ),
    Series(
        family=_counter("udp.drops", "{packet}", "Datagrams that the receiving host dropped."),
        column="drops",
        transports=_UDP,
    ),
    Series(
        family=_counter("dns.responses", "{response}", "DNS queries that were answered."),
        column=whole("dns_errors"),
        less=cause("dns_errors", "timed_out"),
    ),
    Series(
        family=_counter("dns.timeouts", "{timeout}", "DNS queries without an answer."),
        column=cause("dns_errors", "timed_out"),
    ),
    Series(
        family=Family(
            name="dns.client.duration.average",
            type="gauge",
            unit="s",
            help="From a DNS query to its answer, the mean since the start.",
        ),
        column=total("dns_latency"),
        over=number("dns_latency"),
    ),
)
_REPLACED: Final = {
    "bytes_sent": ("tcp", "udp"),
    "bytes_received": ("tcp", "udp"),
    "connections": _TCP,
    whole("retransmits"): _TCP,
    "retransmits": _TCP,
    "resets": _TCP,
    "rtt": _TCP,
    "drops": _UDP,
}
"""What need not be told twice: column, and the transports of which the other vocabulary has it."""


def series(names: Names) -> list[Series]:
    """Return all series of service pairs, those of a family side by side."""
    ours = _ours()
    if names == "tailrace":
        return ours
    rest = [
        each if each.column not in _REPLACED else _without(each, _REPLACED[each.column])
        for each in ours
    ]
    return [*_THEIRS, *rest]


def _without(of: Series, transports: tuple[str, ...]) -> Series:
    return Series(
        family=of.family, column=of.column, labels=of.labels, sparse=of.sparse, unless=transports
    )


def families(names: Names) -> list[Family]:
    """Return all metrics of service pairs, in their order."""
    return list(dict.fromkeys([*(each.family for each in series(names)), FIRING]))
