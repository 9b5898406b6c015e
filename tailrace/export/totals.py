"""Totals per service pair since the daemon began: one small table, added to once per window.

What is exported is taken from here, however often it is asked for. A pair has a row as long as it
is in the windows; so many have, and the rest counts in one row for all others.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alerts.words import clean
from probes.histogram import BUCKETS, bucket_of, lower_edge_s
from probes.identity.service import Service
from probes.window import OTHER, Kind, Pair, Window, kind_of
from tailrace.export import columns
from tailrace.export.columns import AT

FORGET_S: Final = 300.0
"""A pair that has been in no window for so long gives its row away."""
LATEST_S: Final = 60.0
"""A median that was not measured again for so long is not exported any more."""
REST: Final = Pair(OTHER, OTHER, 0, OTHER)
"""The pairs that have no row of their own."""
_LOOK_AGAIN: Final = 60
"""Services are asked for again after so many windows: what is known of them grows."""

_EDGES = lower_edge_s(np.arange(BUCKETS + 1))
_MIDDLE = (_EDGES[:-1] + _EDGES[1:]) / 2
_BOUND_OF = np.searchsorted(np.array(columns.BOUNDS_S), _MIDDLE)
"""int64[BUCKETS]: which exported bucket a bucket of the probes goes to; the last has no bound."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Whose(NamedTuple):
    """Whose a row is.

    Attributes:
        pair: the service pair, its names fit for a label.
        client_namespace: what the client belongs to; "" if unknown.
        client_resolution: how its name is known; "" if unknown.
        server_namespace: of the server.
        server_resolution: of the server.
        since: when its totals began, epoch seconds.
    """

    pair: Pair
    client_namespace: str
    client_resolution: str
    server_namespace: str
    server_resolution: str
    since: float


class Snapshot(NamedTuple):
    """The totals at a time, n rows.

    Attributes:
        rows: whose each is.
        value: float64[columns.NAMES, n].
        known: bool[columns.NAMES, n], whether it was ever measured.
        buckets: int64[columns.HISTOGRAMS, n, bounds + 1], numbers, not added up over bounds.
        folded: how many pairs of the last window have no row of their own.
        windows: how many windows were added.
        firing: what fires: (pair, signal, direction).
    """

    rows: tuple[Whose, ...]
    value: Floats
    known: NDArray[np.bool_]
    buckets: Ints
    folded: int
    windows: int
    firing: tuple[tuple[Pair, str, str], ...] = ()


class Totals:
    """The table. Not safe for several threads at once.

    Attributes:
        folded: how many pairs of the latest window have no row of their own.
    """

    def __init__(
        self, most_pairs: int, *, services: Callable[[], Mapping[str, Service]] = dict
    ) -> None:
        """Start empty.

        Args:
            most_pairs: so many pairs have rows of their own.
            services: what is known of the services, by name.
        """
        self._most = most_pairs
        self._services = services
        self._row_of: dict[Pair, int] = {}
        self._whose: list[Whose | None] = []
        self._free: list[int] = []
        self._value = np.zeros((len(columns.NAMES), 0))
        self._known = np.zeros((len(columns.NAMES), 0), np.bool_)
        self._buckets = np.zeros((len(columns.HISTOGRAMS), 0, len(columns.BOUNDS_S) + 1), np.int64)
        self._last = np.zeros(0)
        self._measured = np.zeros((len(columns.LATEST), 0))
        self._windows = 0
        self.folded = 0
        self._rest = -1

    def add(self, window: Window) -> None:
        """Add one window."""
        self._windows += 1
        if not len(window):
            return
        width = next((w for w in (window.width, window.nominal) if w > 0), 1.0)
        now = window.time + width
        self._forget(now)
        rows = self._rows(window, now)
        row = rows[window.pair]
        for number, signal in enumerate(window.signals):
            of = np.flatnonzero(window.signal == number)
            kind = kind_of(signal)
            if not len(of) or signal not in _SIGNALS:
                continue
            if kind in (Kind.COUNT, Kind.SUM):
                self._grow(signal, row[of], np.nan_to_num(window.value[of] * width))
            elif kind is Kind.RATIO:
                count = np.nan_to_num(window.count[of])
                part = np.rint(np.nan_to_num(window.value[of]) * count)
                self._grow(columns.whole(signal), row[of], count)
                self._grow(signal, row[of], part)
            elif signal in columns.LATEST:
                self._keep(signal, row[of], window.value[of], now)
        self._add_latencies(window, row)
        for at, causes in window.causes.items():
            self._add_causes(window.signals[window.signal[at]], int(row[at]), causes)
        self._forget_medians(now)
        if self._windows % _LOOK_AGAIN == 0:
            services = self._services()
            self._whose = [
                each and _described(each.pair, each.since, services) for each in self._whose
            ]

    def snapshot(self) -> Snapshot:
        """Return a copy; the row of all others is the last, if there is one."""
        used = [at for at, whose in enumerate(self._whose) if whose is not None]
        used.sort(key=lambda at: at == self._rest)
        at = np.array(used, np.int64)
        return Snapshot(
            tuple(whose for each in used if (whose := self._whose[each]) is not None),
            self._value[:, at],
            self._known[:, at],
            self._buckets[:, at],
            self.folded,
            self._windows,
        )

    def __len__(self) -> int:
        """Return how many pairs have a row of their own."""
        return len(self._whose) - len(self._free) - (self._rest >= 0)

    def _grow(self, column: str, row: Ints, amount: Floats) -> None:
        np.add.at(self._value[AT[column]], row, amount)
        self._known[AT[column], row] = True

    def _keep(self, signal: str, row: Ints, value: Floats, now: float) -> None:
        there = np.isfinite(value) & (row != self._rest)
        row = row[there]
        self._value[AT[signal], row] = value[there]
        self._known[AT[signal], row] = True
        self._measured[columns.LATEST.index(signal), row] = now

    def _forget_medians(self, now: float) -> None:
        for number, signal in enumerate(columns.LATEST):
            self._known[AT[signal], self._measured[number] < now - LATEST_S] = False

    def _add_latencies(self, window: Window, row: Ints) -> None:
        """Add the histograms; a row that has none counts as so many times its median."""
        signals = np.array(
            [columns.LATENCIES.index(s) if s in columns.LATENCIES else -1 for s in window.signals]
        )[window.signal]
        at, bucket, count = (each.astype(np.int64) for each in window.histograms)
        bare = signals >= 0
        bare[at] = False
        bare &= (window.count > 0) & np.isfinite(window.value)
        if bare.any():
            at = np.concatenate([at, np.flatnonzero(bare)])
            bucket = np.concatenate([bucket, bucket_of(window.value[bare] * 1e9)])
            count = np.concatenate([count, window.count[bare].astype(np.int64)])
        signal_of = signals[at]
        for signal in sorted(set(window.signals) & set(columns.LATENCIES)):
            of = np.flatnonzero(signal_of == columns.LATENCIES.index(signal))
            if not len(of):
                continue
            where = row[at[of]]
            self._grow(columns.total(signal), where, _MIDDLE[bucket[of]] * count[of])
            self._grow(columns.number(signal), where, count[of].astype(np.float64))
            if signal in columns.HISTOGRAMS:
                buckets = self._buckets[columns.HISTOGRAMS.index(signal)]
                np.add.at(buckets, (where, _BOUND_OF[bucket[of]]), count[of])

    def _add_causes(self, signal: str, row: int, causes: Mapping[str, int]) -> None:
        for name, number in causes.items():
            if number > 0 and signal in columns.CAUSES:
                known = name if name in columns.CAUSES[signal] else columns.UNKNOWN
                column = AT[columns.cause(signal, known)]
                self._value[column, row] += number
                self._known[column, row] = True

    # Whose the rows are

    def _rows(self, window: Window, now: float) -> Ints:
        """Return the row of each pair of a window, as int64[its pairs]; of the unused maybe -1."""
        present = np.unique(window.pair)
        known = self._row_of.get
        rows = np.fromiter((known(pair, -1) for pair in window.pairs), np.int64, len(window.pairs))
        for at in present[rows[present] < 0].tolist():
            pair = window.pairs[at]
            rows[at] = self._row_of[pair] = self._row_for(fit(pair), now)
        self.folded = int(np.count_nonzero(rows[present] == self._rest)) if self._rest >= 0 else 0
        self._last[rows[present]] = now
        return rows

    def _row_for(self, pair: Pair, now: float) -> int:
        """Return the row of a pair whose names fit; two names that become one share a row."""
        row = self._row_of.get(pair, -1)
        if row >= 0:
            return row
        if pair == REST or len(self) >= self._most:
            if self._rest < 0:
                self._rest = self._new(REST, now)
            return self._rest
        row = self._row_of[pair] = self._new(pair, now)
        return row

    def _new(self, pair: Pair, now: float) -> int:
        if not self._free:
            self._enlarge()
        row = self._free.pop()
        self._whose[row] = _described(pair, now, self._services())
        return row

    def _enlarge(self) -> None:
        before = len(self._whose)
        more = max(16, before // 2)
        self._free += range(before + more - 1, before - 1, -1)
        self._whose += [None] * more
        self._value = np.pad(self._value, ((0, 0), (0, more)))
        self._known = np.pad(self._known, ((0, 0), (0, more)))
        self._buckets = np.pad(self._buckets, ((0, 0), (0, more), (0, 0)))
        self._last = np.pad(self._last, (0, more), constant_values=math.inf)
        self._measured = np.pad(self._measured, ((0, 0), (0, more)))

    def _forget(self, now: float) -> None:
        """Free the rows of pairs that are gone; look anew, then and now, who has which."""
        gone = np.flatnonzero(self._last < now - FORGET_S)
        gone = gone[gone != self._rest]
        for row in gone.tolist():
            self._whose[row] = None
            self._free.append(row)
            self._last[row] = math.inf
            self._value[:, row] = 0
            self._known[:, row] = False
            self._buckets[:, row] = 0
        if len(gone) or self._windows % _LOOK_AGAIN == 0:
            self._row_of = {each.pair: row for row, each in enumerate(self._whose) if each}


def _described(pair: Pair, since: float, services: Mapping[str, Service]) -> Whose:
    client, server = services.get(pair.client), services.get(pair.server)
    return Whose(
        pair,
        clean(client.namespace) if client else "",
        client.resolution if client else "",
        clean(server.namespace) if server else "",
        server.resolution if server else "",
        since,
    )


_SIGNALS: Final = frozenset(
    (*columns.AMOUNTS, *columns.RATIOS, *columns.LATENCIES, *columns.LATEST)
)


@functools.lru_cache(maxsize=16_384)  # of those without a row it is asked in every window
def fit(pair: Pair) -> Pair:
    """Return a pair whose names fit into labels: no control characters, not too long or empty."""
    client, server, transport = (
        clean(name) or "unknown" for name in (pair.client, pair.server, pair.transport)
    )
    return Pair(client, server, pair.port, transport)
