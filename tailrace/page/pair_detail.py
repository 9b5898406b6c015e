"""One pair: what changed, before and after, and what each of its two ends sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from alerts import words
from detector.finding import Finding
from probes.window import SIGNALS, VIEWS, Kind, Pair
from tailrace.durations import duration_s
from tailrace.errors import TailraceError
from tailrace.history.reader import HistoryReader
from tailrace.page import charts
from tailrace.page.render import NOTHING, latency, quantity, render, short
from tailrace.page.source import Snapshot, Source
from tailrace.page.views import Part, Seldom
from tailrace.pairs import Row

SPANS: Final = ("15m", "1h", "6h", "1d", "7d", "30d")
CHARTS_EVERY_S: Final = 5.0
FINDINGS_SHOWN: Final = 12
BOTH_ENDS: Final[Sequence[tuple[str, str]]] = (
    ("request_latency", "server_latency"),
    ("requests", "server_requests"),
    ("bytes_sent", "server_bytes_received"),
    ("bytes_received", "server_bytes_sent"),
)
"""What the client's end calls what, and what the server's end calls the same."""
FIRST: Final = ("connect_errors", "resets", "retransmits", "rtt", "connections")
"""What is drawn of any pair, in this order, after what both ends see."""
_CLIENT_VIEWS: Final = {"client_read_latency"}
_POINTS: Final = 240

NAMES: Final = {
    "request_latency": "Request latency",
    "server_latency": "Time in the server",
    "server_requests": "Requests that the server saw",
    "server_bytes_received": "Bytes that the server received",
    "server_bytes_sent": "Bytes that the server sent",
    "accept_latency": "Wait until accepted",
    "client_read_latency": "Wait until the client read",
    "server_read_latency": "Wait until the server read",
    "rtt_min": "Least round-trip time",
}


class End(NamedTuple):
    """One line of what both ends see."""

    name: str
    client: str
    server: str
    between: str


class Drawn(NamedTuple):
    """One chart, and whether it shows a change."""

    signal: str
    svg: Markup
    changed: bool
    wrong: str


class PairDetail:
    """A pair's view."""

    template = "pair.html"

    def __init__(self, source: Source, pair: Pair, *, span: str = "") -> None:
        self.pair = pair
        self.span = span if span in SPANS else "15m"
        self.title = words.pair(pair)
        self._source = source
        self._seldom = Seldom(CHARTS_EVERY_S)

    def parts(self, snapshot: Snapshot, now: float) -> Mapping[str, Part]:
        """Return the parts, as `View` says."""
        row = snapshot.rows.get(self.pair, {})
        since = now - duration_s(self.span)
        findings = self._source.findings_of(self.pair, since=since)
        incidents = [i for i in snapshot.incidents if {f.id for f in findings} & set(i.findings)]
        return {
            "pair-state": render(
                "parts/pair_state.html", pair=self.pair, row=row, now=now,
                findings=findings[::-1][:FINDINGS_SHOWN], incidents=incidents, short=short,
                known=bool(row), severity=snapshot.flags().get(self.pair, ""),
            ),
            "ends": render("parts/ends.html", pair=self.pair, ends=both_ends(row),
                           others=others(row)),
            "charts": self._seldom(now, lambda: self._draw(row, findings, since=since, until=now)),
        }  # fmt: skip

    def _draw(self, row: Row, findings: Sequence[Finding], *, since: float, until: float) -> Markup:
        changed = {finding.signal: finding for finding in findings if finding.pair == self.pair}
        shown = []
        try:
            with HistoryReader(self._source.state_dir) as reader:
                known: Sequence[str] = [signal for signal in SIGNALS if signal in row]
                known = known or _signals(reader, self.pair, since=since, until=until)
                for signal in ordered(known, changed):
                    series = reader.series(
                        self.pair, signal, since=since, until=until, points=_POINTS
                    )
                    finding = changed.get(signal)
                    svg = charts.drawn(
                        series, title=name_of(signal), since=since, until=until, finding=finding
                    )
                    wrong = "" if finding is None else short(finding)
                    shown.append(Drawn(signal, svg, finding is not None, wrong))
        except TailraceError as error:
            return render("parts/problem.html", problem=str(error))
        sides = {server: client for client, server in BOTH_ENDS}
        return render("parts/charts.html", charts=shown, name=name_of, sides=sides)


def _signals(reader: HistoryReader, pair: Pair, *, since: float, until: float) -> Sequence[str]:
    """Return what is kept of a pair that has no traffic at the moment."""
    kept = reader.pairs(since=since, until=until)
    return next((each.signals for each in kept if each.pair == pair), ())


def ordered(known: Sequence[str], changed: Mapping[str, Finding]) -> list[str]:
    """Return the signals to draw: what changed first, then what both ends see, then the rest."""
    both = [signal for ends in BOTH_ENDS[:2] for signal in ends]
    first = [signal for signal in changed if SIGNALS.get(signal) is not Kind.PRESENCE]
    return list(dict.fromkeys([*first, *(s for s in (*both, *FIRST) if s in known)]))


def both_ends(row: Row) -> list[End]:
    """Return what the two ends see of the same, side by side."""
    ends = []
    difference: Mapping[str, Any] = row.get("difference", {})
    for client, server in BOTH_ENDS:
        if client not in row and server not in row:
            continue
        if SIGNALS[client] is Kind.LATENCY:
            for quantile, called in (("p50", "median"), ("p99", "99th percentile")):
                between = difference.get(client) if quantile == "p50" else None
                ends.append(End(f"{name_of(client)}, {called}", _at(row, client, quantile),
                                _at(row, server, quantile), quantity(between, client)))  # fmt: skip
        else:
            ends.append(End(name_of(client), quantity(row.get(client), client),
                            quantity(row.get(server), server),
                            quantity(difference.get(client), client)))  # fmt: skip
    for signal in ("client_read_latency", "server_read_latency", "accept_latency"):
        if signal in row:
            seen = [_at(row, signal, "p50"), NOTHING]
            client_end, server_end = seen if signal in _CLIENT_VIEWS else reversed(seen)
            ends.append(End(f"{name_of(signal)}, median", client_end, server_end, NOTHING))
    return ends


def others(row: Row) -> list[tuple[str, str]]:
    """Return the other signals of a pair, by name."""
    paired = {signal for ends in BOTH_ENDS for signal in ends} | VIEWS
    return [
        (name_of(signal), _at(row, signal, "p50"))
        for signal in SIGNALS
        if signal in row and signal not in paired
    ]


def name_of(signal: str) -> str:
    """Return what a signal is called as a heading."""
    called = NAMES.get(signal) or words.subject(signal)
    return called[:1].upper() + called[1:]


def _at(row: Row, signal: str, quantile: str) -> str:
    return quantity(latency(row, signal, quantile), signal)
