"""The engines, and windows that ask everything of one, whichever it is."""

from __future__ import annotations

import dataclasses

import numpy as np
from traffic import PairModel, Rows, Traffic, between, simulate

from detector import engines
from detector.engine import Detector
from detector.engines import Engine
from detector.finding import Finding
from detector.settings import DetectorSettings
from probes.window import Histograms, Pair, Window

MODELS = (
    *engines.KNOWN,
    "river-holt-winters(seasonality=20)",
    "river:anomaly.HalfSpaceTrees(n_trees=3, height=4, window_size=50)",  # with a seed
    "river:anomaly.GaussianScorer",  # supervised
)
PAIR = Pair("web", "api", 8080)
SIGNALS = ("connections", "requests", "bytes_sent", "connect_errors", "request_latency", "cpu")


def fresh(model: str) -> Engine:
    return engines.new(DetectorSettings(model=model))


def restarted(engine: Engine, model: str) -> Engine:
    return engines.restore(engine.to_bytes(), DetectorSettings(model=model))


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


def gross(ticks: int = 320) -> list[Window]:
    """One pair: its requests stop, its latency is twenty times as long, half its connects fail."""
    change = between(200, 260, request_rate=0.0, refused=0.5, latency_s=0.04, connection_rate=20.0)
    normal = Traffic(connection_rate=20.0)
    slow = between(200, 260, latency_s=0.04)
    models = [
        PairModel(pair=PAIR, normal=normal, fault=change),
        PairModel(pair=Pair("cron", "db", 5432), normal=normal, fault=slow),
    ]
    return list(simulate(models, ticks, wobble=0.02, tail=0.2, seed=11))


def constant(ticks: int, *, change: int | None = None) -> list[Window]:
    """Windows without any chance in them; from `change` on all is other than before."""
    windows = []
    for tick in range(ticks):
        now = change is not None and tick >= change
        rows = Rows()
        rows.add(0, "requests", 400.0 if now else 100.0)
        rows.add(0, "connections", 5.0)
        rows.add(0, "bytes_sent", 100.0 if now else 30_000.0)
        rows.add(0, "connect_errors", 0.4 if now else 0.0, 50.0)
        rows.add_latency(0, "request_latency", np.full(100, 0.1 if now else 0.002))
        windows.append(rows.window(1.7e9 + tick, (PAIR,)))
    return windows


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
