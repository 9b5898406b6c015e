"""What the export costs, in CPU time: `scripts/bench export`.

2,000 service pairs, each with all that a pair between hosts has, one in 20 with an error: adding a
window, a scrape in either format, beside the library's own writer, and making the requests of one
OTLP export.
"""

from __future__ import annotations

import argparse
import gzip
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from prometheus_client import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from probes.window import Histograms, Pair, Window
from tailrace.export import attributes, encode, text
from tailrace.export.totals import Totals

NONE = math.nan
SIGNALS = {
    "connections": (2.0, NONE), "requests": (50.0, NONE), "bytes_sent": (5e4, NONE),
    "bytes_received": (2e5, NONE), "connect_errors": (0.01, 100.0), "resets": (0.01, 100.0),
    "retransmits": (0.001, 1000.0), "stalls": (0.0, 3.0), "connect_latency": (1e-3, 2.0),
    "request_latency": (2e-3, 50.0), "rtt": (1e-4, 10.0), "rtt_min": (1e-4, 10.0),
}  # fmt: skip
"""Value and count of each signal of a pair."""


def window(pairs: int, number: int) -> Window:
    """Return a window; each latency has eight buckets."""
    latencies = np.array([name.endswith("latency") for name in SIGNALS])
    with_histogram = np.flatnonzero(np.tile(latencies, pairs)).repeat(8)
    return Window(
        time=1.76e9 + number,
        width=1.0,
        nominal=1.0,
        lost=0,
        pairs=tuple(Pair(f"client-{n}", f"server-{n % 40}", 8080) for n in range(pairs)),
        signals=tuple(SIGNALS),
        pair=np.arange(pairs, dtype=np.int32).repeat(len(SIGNALS)),
        signal=np.tile(np.arange(len(SIGNALS), dtype=np.int16), pairs),
        value=np.tile([value for value, _ in SIGNALS.values()], pairs),
        count=np.tile([count for _, count in SIGNALS.values()], pairs),
        histograms=Histograms(
            with_histogram.astype(np.int32),
            np.tile(np.arange(300, 308, dtype=np.int16), len(with_histogram) // 8),
            np.full(len(with_histogram), 6, np.int64),
        ),
        causes={4 + len(SIGNALS) * n: {"refused": 1} for n in range(0, pairs, 20)},
    )


class _Same(Collector):
    """The same series, as the library's collectors give them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def cpu_ms(what: Callable[[], Any], times: int) -> float:
    """Return the CPU time of one call, the median of some, ms."""
    took = []
    for _ in range(times):
        began = time.process_time()
        what()
        took.append(time.process_time() - began)
    return 1e3 * sorted(took)[times // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--times", type=int, default=7)
    asked = parser.parse_args()
    windows = iter([window(asked.pairs, number) for number in range(asked.times + 2)])
    totals = Totals(asked.pairs)
    totals.add(next(windows))
    add = cpu_ms(lambda: totals.add(next(windows)), asked.times)
    snapshot = totals.snapshot()
    written = text.pairs(snapshot, "tailrace")
    same = _Same(text_string_to_metric_families(written))
    resource = attributes.resource({})

    def otlp() -> list[encode.Batch]:
        return list(
            encode.metrics([], snapshot, "tailrace", resource=resource, started=1.0, now=1.76e9)
        )

    requests = otlp()
    print(f"{asked.pairs} pairs, CPU time, median of {asked.times}")
    lines = {
        "adding a window": add,
        "a copy of the totals": cpu_ms(totals.snapshot, asked.times),
        "a scrape, text": cpu_ms(lambda: text.pairs(snapshot, "tailrace").encode(), asked.times),
        "a scrape, OpenMetrics": cpu_ms(
            lambda: text.pairs(snapshot, "tailrace", openmetrics=True).encode(), asked.times
        ),
        "a scrape, Flowmill's names": cpu_ms(
            lambda: text.pairs(snapshot, "opentelemetry").encode(), asked.times
        ),
        "packing it for another host": cpu_ms(
            lambda: gzip.compress(written.encode(), 1), asked.times
        ),
        "the library's writer, of the same": cpu_ms(lambda: generate_latest(same), asked.times),
        "an OTLP export": cpu_ms(otlp, asked.times),
        "packing it": cpu_ms(lambda: [gzip.compress(b.body, 1) for b in requests], asked.times),
    }
    for name, took in lines.items():
        print(f"{name:36}{took:8.1f} ms")
    items = sum(batch.items for batch in requests)
    print(f"{written.count(chr(10)):,} lines, {len(written) / 1e6:.1f} MB; OTLP: {items:,} points")
    print(f"in {len(requests)} requests, {sum(len(b.body) for b in requests) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
