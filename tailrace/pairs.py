"""The current pairs: what the last windows say about each, and the file that shows it."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.calibration import Calibration
from detector.finding import rfc3339
from detector.oddity import Habits
from probes.histogram import quantile_by_group_s
from probes.identity.service import Service
from probes.window import Kind, Pair, Window, kind_of
from tailrace import calibration as calibrations
from tailrace.condition import Condition
from tailrace.errors import TailraceError

SCHEMA = "tailrace.pairs/1"
WINDOWS = 10
"""How many windows a row sums up."""
STALE_S = 10.0
"""A file that was not replaced for this long, and for five windows, has no daemon behind it."""
_OTHER_ENDS = {
    "requests": "server_requests",
    "bytes_sent": "server_bytes_received",
    "bytes_received": "server_bytes_sent",
}
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

Row = dict[str, Any]


class PairTable:
    """The last windows, and one row for every pair in them."""

    def __init__(
        self,
        windows: int = WINDOWS,
        *,
        services: Callable[[], Mapping[str, Service]] = dict,
        asked: Callable[[Pair], Sequence[str]] = lambda _: (),
    ) -> None:
        """Start without windows.

        Args:
            windows: how many to keep.
            services: what is known of the services, by name.
            asked: where a pair's clients asked for its server.
        """
        self._asked = asked
        self._windows: deque[Window] = deque(maxlen=windows)
        self._services = services
        self._habits = Habits()

    def add(self, window: Window) -> None:
        """Take one more window; the oldest is forgotten."""
        self._windows.append(window)
        self._habits.update(window)

    def __len__(self) -> int:
        return len({pair for window in self._windows for pair in window.pairs})

    def rows(self) -> list[Row]:
        """Return one row per pair, by name.

        Rates are means per second, ratios are pooled with their denominators, and latencies are
        the quantiles of all samples together. What is known of the two services stands under
        `client_resolution`, `client_namespace`, `client_version` and the server's; `asked` has
        the addresses that the clients asked for, before any were translated. Where both ends are
        seen, `difference` is what the client's end has more than the server's. Once a pair's
        habits are known, `oddity` and `deviation` are as `detector.oddity.Odd`.
        """
        sums = _sum(self._windows)
        services = self._services()
        rows: dict[Pair, Row] = {}
        for pair, signal, value in _values(sums):
            row = rows.get(pair)
            if row is None:
                row = rows[pair] = {
                    "client": pair.client,
                    "server": pair.server,
                    "port": pair.port,
                    "transport": pair.transport,
                    **_known("client", services.get(pair.client)),
                    **_known("server", services.get(pair.server)),
                }
                if asked := self._asked(pair):
                    row["asked"] = list(asked)
            row[signal] = value
        for row in rows.values():
            if difference := _difference(row):
                row["difference"] = difference
        for pair, odd in self._habits.odd().items():
            if pair in rows:
                rows[pair]["oddity"] = round(odd.distance, 2)
                rows[pair]["deviation"] = {k: round(v, 2) for k, v in odd.deviations.items()}
        return [rows[pair] for pair in sorted(rows)]


def _difference(row: Row) -> dict[str, float]:
    """Return what the client's end has more than the server's: what is between the two.

    Of latencies the median's, less what lay unread at either end: the network and its queues.
    """
    found = {
        signal: row[signal] - row[other]
        for signal, other in _OTHER_ENDS.items()
        if signal in row and other in row
    }
    if "request_latency" in row and "server_latency" in row:
        ends = ("server_latency", "client_read_latency", "server_read_latency")
        explained = sum(row[name]["p50"] for name in ends if name in row)
        found["request_latency"] = max(row["request_latency"]["p50"] - explained, 0.0)
    return found


def _known(end: str, service: Service | None) -> dict[str, str]:
    if service is None:
        return {}
    said = {
        "resolution": service.resolution,
        "namespace": service.namespace,
        "version": service.version,
    }
    return {f"{end}_{name}": value for name, value in said.items() if value}


@dataclass(frozen=True, slots=True)
class _Sums:
    """All rows of some windows, each with the stream it belongs to."""

    pairs: Sequence[Pair]
    signals: Sequence[str]
    stream: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.float64]
    width: NDArray[np.float64]
    histogram_stream: NDArray[np.int64]
    bucket: NDArray[np.int64]
    number: NDArray[np.int64]


def _sum(windows: Sequence[Window] | deque[Window]) -> _Sums:
    pairs: dict[Pair, int] = {}
    signals: dict[str, int] = {}
    for window in windows:
        for signal in window.signals:
            signals.setdefault(signal, len(signals))
    stream, width, histogram_stream = [], [], []
    for window in windows:
        pair = np.array([pairs.setdefault(p, len(pairs)) for p in window.pairs], np.int64)
        kind = np.array([signals[s] for s in window.signals], np.int64)
        of_row = pair[window.pair] * len(signals) + kind[window.signal]
        stream.append(of_row)
        width.append(np.full(len(window), _width_s(window)))
        histogram_stream.append(of_row[window.histograms.row])
    return _Sums(
        pairs=tuple(pairs),
        signals=tuple(signals),
        stream=np.concatenate([*stream, np.empty(0, np.int64)]),
        value=np.concatenate([*(w.value for w in windows), np.empty(0)]),
        count=np.concatenate([*(w.count for w in windows), np.empty(0)]),
        width=np.concatenate([*width, np.empty(0)]),
        histogram_stream=np.concatenate([*histogram_stream, np.empty(0, np.int64)]),
        bucket=np.concatenate([*(w.histograms.bucket for w in windows), np.empty(0, np.int64)]),
        number=np.concatenate([*(w.histograms.number for w in windows), np.empty(0, np.int64)]),
    )


def _values(sums: _Sums) -> Iterator[tuple[Pair, str, float | Mapping[str, float | None]]]:
    kinds = [kind_of(signal) for signal in sums.signals]
    by_kind = np.array([k in (Kind.RATIO, Kind.LATENCY) for k in kinds], bool)
    streams, row = np.unique(sums.stream, return_inverse=True)
    if not len(streams):
        return
    counted = by_kind[sums.stream % len(sums.signals)] & (sums.count > 0)
    weight = np.where(counted, np.nan_to_num(sums.count), sums.width)
    mean = np.bincount(row, weight * sums.value) / np.bincount(row, weight)
    latencies = _quantiles(sums)
    for stream, value in zip(streams.tolist(), mean.tolist(), strict=True):
        pair, signal = divmod(stream, len(sums.signals))
        result: float | Mapping[str, float | None] = value
        if kinds[signal] is Kind.LATENCY:
            # a recording of somebody else's: the medians are all there is
            result = latencies.get(stream) or {"p50": value, "p90": None, "p99": None}
        yield sums.pairs[pair], sums.signals[signal], result


def _quantiles(sums: _Sums) -> dict[int, dict[str, float | None]]:
    """Return by stream the quantiles of its histograms together, seconds."""
    order = np.lexsort((sums.bucket, sums.histogram_stream))
    streams, values, _ = quantile_by_group_s(
        sums.histogram_stream[order],
        sums.bucket[order],
        sums.number[order],
        list(_QUANTILES.values()),
    )
    rows = zip(streams.tolist(), values.T.tolist(), strict=True)
    return {stream: dict(zip(_QUANTILES, row, strict=True)) for stream, row in rows}


def _width_s(window: Window) -> float:
    return next((w for w in (window.width, window.nominal) if not math.isnan(w) and w > 0), 1.0)


def publish(
    path: Path,
    table: PairTable,
    *,
    now: float,
    window_s: float,
    condition: Condition,
    calibration: Sequence[Calibration] = (),
) -> None:
    """Replace the file that `tailrace pairs` and `tailrace doctor` read, at once and as a whole."""
    data = {
        "schema": SCHEMA,
        "time": now,
        "window_s": window_s,
        "condition": condition.to_json(),
        "calibration": calibrations.to_json(calibration),
        "pairs": table.rows(),
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".pairs-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(data, separators=(",", ":")))  # in C, unlike json.dump
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def published(path: Path, *, now: float) -> list[Row] | None:
    """Return the rows that a running daemon published; None when none runs.

    Raises:
        TailraceError: as `published_by`.
    """
    found = published_by(path, now=now)
    return None if found is None else found.rows


class Published(NamedTuple):
    """What a running daemon tells: its pairs, how it does, and whether detection does as well."""

    rows: list[Row]
    condition: Condition
    calibration: list[Calibration]


def published_by(path: Path, *, now: float) -> Published | None:
    """Return what a running daemon published; None when none runs.

    Raises:
        TailraceError: a daemon ran and did not end by itself, or the file cannot be read.
    """
    remedy = "restart `tailrace run`, or look for yourself with `tailrace pairs --live`"
    try:
        data = json.loads(path.read_bytes())
        found = Published(
            data["pairs"],
            Condition.from_json(data["condition"]),
            calibrations.from_json(data.get("calibration", ())),
        )
        age = now - float(data["time"])
        limit = max(STALE_S, 5 * float(data["window_s"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not the daemon's file"
        raise TailraceError(f"cannot read it: {reason}", where=str(path), remedy=remedy) from error
    if age > limit:
        raise TailraceError(
            f"the daemon has stopped working; the last it wrote is of {rfc3339(now - age)}",
            where=str(path),
            remedy=remedy,
        )
    return found
