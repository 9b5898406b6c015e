"""Windows that ask everything of an engine, whichever it is."""

from __future__ import annotations

import dataclasses

import numpy as np
from traffic import PairModel, Traffic, between, simulate

from detector.engine import Detector
from detector.engines import Engine
from detector.finding import Finding
from probes.window import Histograms, Pair, Window

SIGNALS = ("connections", "requests", "bytes_sent", "connect_errors", "request_latency", "cpu")


def eventful(ticks: int = 260) -> list[Window]:
    """Windows with most kinds of events: faults, a new pair, a silence, flapping, sparse rows."""
    both = {"request_rate": 0.0, "connection_rate": 0.0}
    models = [
        PairModel(pair=Pair("a", "web", 80), fault=between(60, 80, latency_s=0.03)),
        PairModel(pair=Pair("b", "web", 80), fault=between(70, 95, refused=1.0)),
        PairModel(pair=Pair("c", "web", 80), fault=between(90, 130, **both)),
        PairModel(pair=Pair("d", "web", 80), start=75),
        PairModel(pair=Pair("e", "web", 80), normal=Traffic(request_rate=2, connection_rate=0.3)),
    ]
    return list(simulate(models, ticks, seed=3))


def told(detector: Detector | Engine, windows: list[Window]) -> list[Finding]:
    return [f for window in windows for f in detector.update(window)]


def shuffled(window: Window, rng: np.random.Generator) -> Window:
    """Return the same window with its rows, pairs and signals in another order."""
    order = rng.permutation(len(window))
    place = np.argsort(order)
    pair_order = rng.permutation(len(window.pairs))
    entries = window.histograms
    rows = place[entries.row]
    by = np.lexsort((entries.bucket, rows))
    return dataclasses.replace(
        window,
        pairs=tuple(window.pairs[i] for i in pair_order),
        pair=np.argsort(pair_order)[window.pair][order].astype(np.int32),
        signal=window.signal[order],
        value=window.value[order],
        count=window.count[order],
        histograms=Histograms(rows[by].astype(np.int32), entries.bucket[by], entries.number[by]),
        causes={int(place[row]): causes for row, causes in window.causes.items()},
    )


def small(tick: float, value: float, count: float, *, pairs: int = 3, **changes: object) -> Window:
    rows = [(p, s) for p in range(pairs) for s in range(len(SIGNALS))]
    fields: dict[str, object] = {
        "time": 1.7e9 + tick,
        "width": 1.0,
        "nominal": 1.0,
        "lost": 0,
        "pairs": tuple(Pair(f"c{i}", "s", 1) for i in range(pairs)),
        "signals": SIGNALS,
        "pair": np.array([p for p, _ in rows], np.int32),
        "signal": np.array([s for _, s in rows], np.int16),
        "value": np.full(len(rows), value),
        "count": np.full(len(rows), count),
    }
    return Window(**{**fields, **changes})  # type: ignore[arg-type]
