"""Windows made by hand, and what recordings are called and begin with, for the tests here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from probes.histogram import bucket_of
from probes.window import Histograms, Kind, Mark, Pair, Window, kind_of

WEB_API = Pair("web", "api", 8080)
NAMES = ["a.csv", "a.csv.gz", "a.parquet"]  # of recordings, one of each kind
HEADER = "time,client,server,port,signal,value,count\n"

Row = tuple[Pair, str, float, float]


def window(
    rows: Sequence[Row],
    *,
    time: float = 1_760_000_000.0,
    width: float = 1.0,
    nominal: float = 1.0,
    lost: int = 0,
    histograms: Mapping[int, Mapping[int, int]] | None = None,
    causes: Mapping[int, Mapping[str, int]] | None = None,
    marks: Mapping[int, tuple[Mark, ...]] | None = None,
) -> Window:
    pairs = tuple(dict.fromkeys(row[0] for row in rows))
    signals = tuple(dict.fromkeys(row[1] for row in rows))
    entries = [
        (row, bucket, number)
        for row, histogram in sorted((histograms or {}).items())
        for bucket, number in sorted(histogram.items())
    ]
    columns = list(zip(*entries, strict=True)) or [(), (), ()]
    return Window(
        time=time,
        width=width,
        nominal=nominal,
        lost=lost,
        pairs=pairs,
        signals=signals,
        pair=np.array([pairs.index(row[0]) for row in rows], np.int32),
        signal=np.array([signals.index(row[1]) for row in rows], np.int16),
        value=np.array([row[2] for row in rows], np.float64),
        count=np.array([row[3] for row in rows], np.float64),
        histograms=Histograms(
            np.array(columns[0], np.int32),
            np.array(columns[1], np.int16),
            np.array(columns[2], np.int64),
        ),
        causes=causes or {},
        marks=marks or {},
    )


def same(one: Window, other: Window) -> None:
    """Assert that two windows are equal to the last bit."""
    for name in ("time", "lost", "pairs", "signals", "causes", "marks"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("width", "nominal"):
        a, b = getattr(one, name), getattr(other, name)
        assert a == b or (math.isnan(a) and math.isnan(b)), name
    for name in ("pair", "signal", "value", "count"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)
    for a, b in zip(one.histograms, other.histograms, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def traffic(
    seconds: int,
    *,
    start: float = 1_760_000_000.0,
    slow_from: int | None = None,
    slow_until: int | None = None,
    seed: int = 7,
) -> Iterator[Window]:
    """Yield steady traffic of one pair, whose requests become ten times slower for a while."""
    random = np.random.default_rng(seed)
    for second in range(seconds):
        slow = slow_from is not None and slow_from <= second < (slow_until or seconds)
        requests = int(random.poisson(200))
        latency_ns = random.gamma(20.0, (20e6 if slow else 2e6) / 20.0, requests).astype(np.int64)
        buckets, numbers = np.unique(bucket_of(latency_ns), return_counts=True)
        histogram = dict(zip(buckets.tolist(), numbers.tolist(), strict=True))
        median = float(np.median(latency_ns)) * 1e-9
        rows: list[Row] = [
            (WEB_API, "connections", 2.0, math.nan),
            (WEB_API, "requests", float(requests), math.nan),
            (WEB_API, "connect_errors", 0.0, 2.0),
            (WEB_API, "request_latency", median, float(requests)),
        ]
        assert kind_of(rows[3][1]) is Kind.LATENCY
        yield window(rows, time=start + second, histograms={3: histogram})
