"""What the engine costs: CPU time per window, bytes of state, snapshots; beside river's ADWIN."""

from __future__ import annotations

import dataclasses
import gc
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from river.drift import ADWIN

from benchmarks.detection_plan import Plan
from detector.engine import Detector
from probes.window import Histograms, Window
from tailrace.simulation.laws import Law
from tailrace.simulation.streams import CountStreams, LatencyStreams, RatioStreams, SumStreams

WIDTH_S = 10.0
WARMUP, TIMED = 30, 20
"""Windows. The baseline learns in blocks of several, so some cost more than others."""
PATIENCE_S = 8.0
"""A size whose windows would take longer is left out."""
ADWIN_STREAMS, ADWIN_WINDOWS = 5_000, 40


def _as_gauge(windows: Iterator[Window]) -> Iterator[Window]:
    for window in windows:
        yield dataclasses.replace(window, signals=("a gauge",))


def _side_by_side(parts: list[Iterator[Window]]) -> Iterator[Window]:
    """Yield windows with all the signals of each pair; the parts have the same pairs."""
    for windows in zip(*parts, strict=True):
        base = np.cumsum([0, *(len(window) for window in windows)])
        pairs = windows[0].pairs
        yield Window(
            time=windows[0].time,
            width=WIDTH_S,
            nominal=WIDTH_S,
            lost=0,
            pairs=pairs,
            signals=tuple(window.signals[0] for window in windows),
            pair=np.concatenate([window.pair for window in windows]),
            signal=np.concatenate(
                [np.full(len(window), i, np.int16) for i, window in enumerate(windows)]
            ),
            value=np.concatenate([window.value for window in windows]),
            count=np.concatenate([window.count for window in windows]),
            histograms=Histograms(
                *(
                    np.concatenate(column)
                    for column in zip(
                        *(
                            (part.row + first, part.bucket, part.number)
                            for part, first in zip(
                                (window.histograms for window in windows),
                                base.astype(np.int32).tolist(),
                                strict=False,
                            )
                        ),
                        strict=True,
                    )
                )
            ),
        )


def _windows(kind: str, streams: int, number: int) -> Iterator[Window]:
    law = Law(mean=20.0, dispersion=20.0)
    if kind == "mixed":
        each = ("counts", "sums", "ratios", "latencies", "gauges")
        return _side_by_side([_windows(one, streams // len(each), number) for one in each])
    if kind == "counts":
        return CountStreams(streams, law, width=WIDTH_S).windows(number)
    if kind == "sums":
        return SumStreams(streams, law, width=WIDTH_S).windows(number)
    if kind == "ratios":
        return RatioStreams(streams, law, share=0.01, width=WIDTH_S).windows(number)
    if kind == "latencies":
        law = Law(mean=8.0)
        return LatencyStreams(streams, law, width=WIDTH_S).windows(number)
    return _as_gauge(CountStreams(streams, law, width=WIDTH_S).windows(number))


KINDS = ("mixed", "counts", "ratios", "sums", "latencies", "gauges")


def state_bytes(detector: Detector) -> int:
    """Return the bytes of all arrays that a detector holds, spare room included."""
    seen: set[int] = set()
    total, waiting = 0, [detector.__dict__]
    while waiting:
        one: Any = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            whole = one if one.base is None else one.base
            if isinstance(whole, np.ndarray) and (whole is one or id(whole) not in seen):
                seen.add(id(whole))
                total += whole.nbytes
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, (list, tuple, set, frozenset)):
            if len(one) < 10_000:  # the names of pairs are no arrays
                waiting += one
        elif type(one).__module__.startswith("detector"):
            waiting.append(getattr(one, "__dict__", {}))
            names = [n for kind in type(one).__mro__ for n in getattr(kind, "__slots__", ())]
            waiting += [getattr(one, name) for name in names if hasattr(one, name)]
    return total


def _memory(key: str) -> int:
    """Return bytes of memory: VmRSS of this process, MemAvailable of the host."""
    path = Path("/proc/self/status" if key == "VmRSS" else "/proc/meminfo")
    found = re.search(rf"^{key}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _one(kind: str, streams: int) -> tuple[dict[str, float], Detector]:
    gc.collect()
    resident, detector, seconds = _memory("VmRSS"), Detector(), []
    for number, window in enumerate(_windows(kind, streams, WARMUP + TIMED)):
        began = time.process_time()
        detector.update(window)
        seconds.append(time.process_time() - began)
        if number == 0:
            rows = len(window)
    timed = np.array(seconds[WARMUP:])
    return {
        "streams": streams,
        "ms": 1e3 * float(timed.mean()),
        "worst_ms": 1e3 * float(timed.max()),
        "first_ms": 1e3 * seconds[0],
        "ns": 1e9 * float(timed.mean()) / rows,
        "state_bytes": state_bytes(detector) / streams,
        "resident_bytes": max(_memory("VmRSS") - resident, 0) / streams,
    }, detector


def _adwin_ns() -> float:
    """Return ns of CPU per update of one ADWIN per stream, in a loop, on the same law."""
    streams = CountStreams(ADWIN_STREAMS, Law(mean=20.0, dispersion=20.0), width=WIDTH_S)
    rows = [window.value.tolist() for window in streams.windows(ADWIN_WINDOWS)]
    models = [ADWIN() for _ in range(ADWIN_STREAMS)]
    began = time.process_time()
    for row in rows:
        for model, value in zip(models, row, strict=True):
            model.update(value)
    return 1e9 * (time.process_time() - began) / (ADWIN_STREAMS * ADWIN_WINDOWS)


def _snapshot(detector: Detector, streams: int) -> dict[str, float]:
    began = time.process_time()
    data = detector.to_bytes()
    saved = time.process_time()
    Detector.from_bytes(data)
    loaded = time.process_time()
    return {
        "streams": streams,
        "bytes": len(data),
        "save_s": saved - began,
        "load_s": loaded - saved,
    }


def measure(plan: Plan) -> dict[str, Any]:
    """Return time, state and snapshots by kind and number of streams."""
    sizes = [10**power for power in range(3, 8) if 10**power <= plan.most_streams]
    adwin, kinds = [_adwin_ns()], {}
    snapshots, skipped = [], []
    for kind in KINDS[:2] if plan.quick else KINDS:
        kinds[kind] = []
        for streams in sizes:
            if kinds[kind]:
                last = kinds[kind][-1]
                needed = 3.0 * last["resident_bytes"] * streams
                slow = last["worst_ms"] * streams / last["streams"] > 1e3 * PATIENCE_S
                if slow or needed > _memory("MemAvailable"):
                    why = "time" if slow else "memory"
                    skipped.append({"kind": kind, "streams": streams, "why": why})
                    break
            plan.say(f"cost: {streams:,} streams, {kind}")
            figures, detector = _one(kind, streams)
            kinds[kind].append(figures)
            if kind == "mixed":
                snapshots.append(_snapshot(detector, streams))
            del detector
    adwin.append(_adwin_ns())
    return {
        "width_s": WIDTH_S,
        "adwin_ns": float(np.mean(adwin)),
        "kinds": kinds,
        "snapshots": snapshots,
        "skipped": skipped,
    }
