"""The list of pairs: what is wrong first, searched, sorted and paged by the server."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from alerts import words
from alerts.severity import Severity, rank
from detector.finding import Finding
from probes.window import Pair
from tailrace.page import views
from tailrace.page.render import key_of, latency, quantity, render, short
from tailrace.page.source import Snapshot
from tailrace.page.views import Part, Rows
from tailrace.pairs import Row

PAGE: Final = 50
SORTS: Final[Mapping[str, str]] = {
    "": "what is wrong first",
    "requests": "requests",
    "latency": "latency",
    "failed": "failed",
    "odd": "odd",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of the list.

    Attributes:
        pair: it.
        severity: of the worst that fires; "" for nothing.
        wrong: what that is, in words.
        row: its current values.
    """

    pair: Pair
    severity: Severity | str
    wrong: str
    row: Row

    @property
    def key(self) -> str:
        """What tells it from others."""
        return key_of(self.pair)

    @property
    def requests(self) -> str:
        """Requests per second; of a pair without any, connections."""
        if self.row.get("requests") or "connections" not in self.row:
            return quantity(self.row.get("requests"), "requests")
        return quantity(self.row["connections"], "connections")

    @property
    def median(self) -> str:
        """Median of the requests' latency."""
        return quantity(latency(self.row, "request_latency", "p50"), "request_latency")

    @property
    def p99(self) -> str:
        """Their 99th percentile."""
        return quantity(latency(self.row, "request_latency", "p99"), "request_latency")

    @property
    def failed(self) -> str:
        """Share of connections that failed or were reset."""
        value = _failed(self.row)
        return "" if value is None else quantity(value, "connect_errors")

    def line(self) -> views.Row:
        """Return it as a line of a part."""
        return views.Row(
            html=render("parts/pair_row.html", each=self),
            cells=(self.requests, self.median, self.p99, self.failed),
            rest=f"{self.severity} {self.wrong}",
        )


class PairList:
    """The list, by what was asked for."""

    title = "Pairs"
    template = "pairs.html"

    def __init__(self, *, search: str = "", sort: str = "", page: int = 1) -> None:
        self.search, self.page = search[:200], max(1, page)
        self.sort = sort if sort in SORTS else ""

    def parts(self, snapshot: Snapshot, now: float) -> Mapping[str, Part]:
        """Return the parts, as `View` says."""
        del now
        found = listed(snapshot, search=self.search, sort=self.sort)
        pages = max(1, math.ceil(len(found) / PAGE))
        page = min(self.page, pages)
        shown = found[(page - 1) * PAGE : page * PAGE]
        return {
            "pairs": rows(shown),
            "count": render("parts/pair_count.html", found=len(found), shown=shown,
                            snapshot=snapshot, first=(page - 1) * PAGE + 1, search=self.search),
            "pages": render("parts/pages.html", page=page, pages=pages, href=self.href),
        }  # fmt: skip

    def href(self, **changed: Any) -> str:
        """Return the address of the same list with something changed."""
        asked = {"q": self.search, "sort": self.sort, "page": self.page} | changed
        kept = {key: value for key, value in asked.items() if value and (key, value) != ("page", 1)}
        return f"/pairs?{urlencode(kept)}" if kept else "/pairs"


def listed(snapshot: Snapshot, *, search: str = "", sort: str = "") -> list[Listed]:
    """Return the pairs that have all words searched for, in the order that was asked for."""
    flags, wrong = snapshot.flags(), _wrong(snapshot)
    asked = search.lower().split()
    found = [
        Listed(pair=pair, severity=flags.get(pair, ""), wrong=wrong.get(pair, ""),
               row=snapshot.rows.get(pair, {}))
        for pair in {**snapshot.rows, **flags}
        if all(word in _searched(pair) for word in asked)
    ]  # fmt: skip
    return sorted(found, key=_ORDERS.get(sort, _by_severity))


def rows(shown: Sequence[Listed]) -> Rows:
    """Return lines of the list as a part."""
    return Rows({each.key: each.line() for each in shown})


def _wrong(snapshot: Snapshot) -> dict[Pair, str]:
    """Return what fires, by pair, each pair's most significant first."""
    found: dict[Pair, Finding] = {}
    for finding in sorted(snapshot.findings, key=lambda f: -f.significance):
        for pair in snapshot.pairs_of(finding.pair):
            found.setdefault(pair, finding)
    return {pair: short(finding) for pair, finding in found.items()}


def _searched(pair: Pair) -> str:
    return words.pair(pair).lower()


def _failed(row: Row) -> float | None:
    known = [row[name] for name in ("connect_errors", "resets") if name in row]
    return max(known) if known else None


def _by_severity(each: Listed) -> tuple[object, ...]:
    return (rank(each.severity) if each.severity else 9, each.pair)  # type: ignore[arg-type]


def _by_size(value: Callable[[Row], object]) -> Callable[[Listed], tuple[object, ...]]:
    """Return an order by a value, the largest first, in steps: the list must not jump about."""

    def order(each: Listed) -> tuple[object, ...]:
        found = value(each.row)
        known = isinstance(found, int | float) and found > 0
        return (-round(2.0 * math.log2(float(found))) if known else math.inf, each.pair)  # type: ignore[arg-type]

    return order


_ORDERS: Final[Mapping[str, Callable[[Listed], tuple[object, ...]]]] = {
    "requests": _by_size(lambda row: row.get("requests")),
    "latency": _by_size(lambda row: latency(row, "request_latency", "p50")),
    "failed": _by_size(_failed),
    "odd": _by_size(lambda row: row.get("oddity")),
}
