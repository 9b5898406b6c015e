"""Cost of the detector per stream and window, as a ratio to river's ADWIN on the same numbers.

    python -m benchmarks.detector_bank [--streams 10000] [--windows 100]

Both see the same counts in the same run, so the ratio says more than the times. ADWIN gets one
`update` call per stream and window, as it would in a loop; the detector gets whole windows. It is
timed while it judges, after its warm-up.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN

from detector.engine import Detector
from probes.histogram import bucket_of
from probes.window import Histograms, Pair, Window, no_histograms

WARMUP = 60


def window(tick: int, signal: str, value: NDArray[np.float64], pairs: tuple[Pair, ...]) -> Window:
    """Return a window with one row per pair."""
    rows = np.arange(len(value), dtype=np.int32)
    histograms, count = no_histograms(), np.full(len(value), np.nan)
    if signal == "request_latency":
        # Eight samples in four buckets around the value
        spread = np.array([0.7, 0.9, 1.1, 1.6])
        bucket = np.sort(bucket_of(value[:, None] * spread * 1e9), axis=1)
        numbers = np.full(4 * len(value), 2, np.int64)
        histograms = Histograms(np.repeat(rows, 4), bucket.ravel().astype(np.int16), numbers)
        count = np.full(len(value), 8.0)
    elif signal == "connect_errors":
        count = np.full(len(value), 20.0)
    return Window(
        time=1.7e9 + tick,
        width=1.0,
        nominal=1.0,
        lost=0,
        pairs=pairs,
        signals=(signal,),
        pair=rows,
        signal=np.zeros(len(value), np.int16),
        value=value,
        count=count,
        histograms=histograms,
    )


def adwin_seconds(values: list[NDArray[np.float64]], streams: int) -> float:
    """Return seconds per stream and window for one ADWIN per stream."""
    models = [ADWIN() for _ in range(streams)]
    rows = [row.tolist() for row in values]
    began = time.perf_counter()
    for row in rows:
        for model, value in zip(models, row, strict=True):
            model.update(value)
    return (time.perf_counter() - began) / (streams * len(values))


def detector_seconds(values: list[NDArray[np.float64]], signal: str) -> float:
    """Return seconds per stream and window of the detector."""
    pairs = tuple(Pair(f"client-{i}", "server", 80) for i in range(len(values[0])))
    windows = [window(tick, signal, row, pairs) for tick, row in enumerate(values)]
    detector = Detector()
    for one in windows[:WARMUP]:
        detector.update(one)
    began = time.perf_counter()
    for one in windows[WARMUP:]:
        detector.update(one)
    return (time.perf_counter() - began) / (len(values[0]) * len(windows[WARMUP:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=50, help="timed, after the warm-up")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (WARMUP + arguments.windows, arguments.streams)
    laws: dict[str, Callable[[], NDArray[np.float64]]] = {
        "requests": lambda: rng.poisson(30.0, shape).astype(float),
        "bytes_sent": lambda: rng.lognormal(10.0, 0.3, shape),
        "connect_errors": lambda: rng.binomial(20, 0.01, shape) / 20.0,
        "request_latency": lambda: 0.002 * rng.lognormal(0.0, 0.1, shape),
        "a gauge": lambda: rng.normal(100.0, 5.0, shape),
    }
    print(f"{arguments.streams} streams, {arguments.windows} windows; ns per stream and window")
    print("signal             detector    ADWIN   detector / ADWIN")
    for signal, law in laws.items():
        values = list(law())
        river = adwin_seconds(values[-arguments.windows :], arguments.streams)
        own = detector_seconds(values, signal)
        print(f"{signal:16}   {1e9 * own:8.0f} {1e9 * river:8.0f}   {own / river:16.2f}")


if __name__ == "__main__":
    main()
