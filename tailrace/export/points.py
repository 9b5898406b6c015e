"""From the totals to numbers under names: what both ways out, `/metrics` and OTLP, say of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailrace.export import columns, pair_families
from tailrace.export.columns import AT
from tailrace.export.family import Family
from tailrace.export.pair_families import Names, Series
from tailrace.export.totals import Snapshot, Whose

PAIR_LABELS: Final = {
    "tailrace": ("client", "server", "port", "transport"),
    "opentelemetry": (
        "source_workload_name", "source_namespace_name", "source_resolution_type",
        "dest_workload_name", "dest_namespace_name", "dest_resolution_type",
        "server_port", "network_transport",
    ),
}  # fmt: skip
"""The labels of a service pair at Prometheus, in either vocabulary."""


class Points(NamedTuple):
    """Numbers of one family and one set of its own labels, for n of the snapshot's rows.

    Attributes:
        series: which.
        rows: int64[n], rows of the snapshot.
        value: float64[n]; of a histogram or summary the sum.
        samples: int64[n], of a histogram or summary, else empty.
        buckets: int64[n, bounds + 1], of a histogram, not added up over bounds, else empty.
    """

    series: Series
    rows: NDArray[np.int64]
    value: NDArray[np.float64]
    samples: NDArray[np.int64]
    buckets: NDArray[np.int64]


def labels(whose: Whose, names: Names, *, turned: bool = False) -> tuple[str, ...]:
    """Return the values of `PAIR_LABELS`; `turned`: the server is the source."""
    pair, port = whose.pair, str(whose.pair.port)
    if names == "tailrace":
        return pair.client, pair.server, port, pair.transport
    ends = (
        (pair.client, whose.client_namespace, whose.client_resolution),
        (pair.server, whose.server_namespace, whose.server_resolution),
    )
    return (*ends[turned], *ends[not turned], port, pair.transport)


def points(snapshot: Snapshot, names: Names) -> Iterator[tuple[Family, list[Points]]]:
    """Yield each family of service pairs that has a series, with all its numbers."""
    transport = np.array([whose.pair.transport for whose in snapshot.rows], dtype=object)
    found: dict[Family, list[Points]] = {}
    for each in pair_families.series(names):
        of = _points(snapshot, each, transport)
        if len(of.rows):
            found.setdefault(each.family, []).append(of)
    yield from found.items()


def _points(snapshot: Snapshot, series: Series, transport: NDArray[np.object_]) -> Points:
    none = np.empty(0, np.int64)
    latency = series.family.type in ("histogram", "summary")
    column = AT[columns.number(series.column) if latency else series.column]
    there = snapshot.known[column]
    if series.column in _PARTS:  # what has not failed yet has failed no time
        there = snapshot.known[AT[columns.whole(_PARTS[series.column])]]
        if series.sparse:
            there = there & (snapshot.value[column] > 0)
    if series.transports:
        there = there & np.isin(transport, series.transports)
    if series.unless:
        there = there & ~np.isin(transport, series.unless)
    rows = np.flatnonzero(there)
    if latency:
        buckets = none
        if series.family.type == "histogram":
            buckets = snapshot.buckets[columns.HISTOGRAMS.index(series.column)][rows]
        count = snapshot.value[column, rows].astype(np.int64)
        return Points(
            series, rows, snapshot.value[AT[columns.total(series.column)], rows], count, buckets
        )
    value = snapshot.value[column, rows]
    if series.less:
        value = np.maximum(value - snapshot.value[AT[series.less], rows], 0.0)
    if series.over:
        value = value / snapshot.value[AT[series.over], rows]
    return Points(series, rows, value, none, none)


_PARTS: Final = {
    columns.cause(ratio, why): ratio
    for ratio in columns.RATIOS
    for why in (*columns.CAUSES[ratio], columns.UNKNOWN)
}


def firing(snapshot: Snapshot) -> list[tuple[Whose, tuple[str, str]]]:
    """Return what fires: whose row it is of, signal and direction, each once."""
    rows = {whose.pair: whose for whose in snapshot.rows}
    found = {
        (rows[pair], (signal, direction)): None
        for pair, signal, direction in snapshot.firing
        if pair in rows
    }
    return list(found)
