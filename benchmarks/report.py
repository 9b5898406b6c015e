"""What a report takes on a host with many service pairs: scripts/bench report [PAIRS].

A state directory with an hour of history of all pairs, twelve incidents that are going on and
240 findings, is made; then `tailrace report` runs in each format, as a user runs it, each in
a process of its own. CPU is what counts; the wall clock is that of this machine at this moment.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alerts.grouping import Change
from alerts.store import Store
from detector.finding import finding_id
from probes.window import Pair, Window
from tailrace import pairs, state
from tailrace.condition import Condition
from tailrace.history.database import FILE
from tailrace.history.keeper import Keeper
from tailrace.history.settings import HistorySettings
from tests.alerts.examples import finding, incident

PAIRS, INCIDENTS, SYMPTOMS = 2_000, 12, 20
HOUR_S, WINDOW_S = 3600, 10.0
SIGNALS = ("requests", "request_latency", "connect_errors", "bytes_sent")
FORMATS = ("table", "html", "markdown", "json", "csv")
RUNS = 5


def the_pairs(number: int) -> list[Pair]:
    """Return pairs of a mesh: each service calls ten others."""
    services = max(number // 10, 2)
    return [
        Pair(f"service-{n % services}", f"service-{(n % services + n // services + 1) % services}",
             8080)
        for n in range(number)
    ]  # fmt: skip


def windows(every: list[Pair], begin: float) -> Iterator[Window]:
    """Yield an hour of them."""
    rng = np.random.default_rng(1)
    rows = len(every) * len(SIGNALS)
    signal = np.tile(np.arange(len(SIGNALS), dtype=np.int16), len(every))
    base = np.tile([50.0, 0.004, 0.001, 9000.0], len(every))
    count = np.where(np.isin(signal, [1, 2]), 500.0, np.nan)
    for number in range(int(HOUR_S / WINDOW_S)):
        yield Window(
            time=begin + number * WINDOW_S,
            width=WINDOW_S,
            nominal=WINDOW_S,
            lost=0,
            pairs=tuple(every),
            signals=SIGNALS,
            pair=np.repeat(np.arange(len(every), dtype=np.int32), len(SIGNALS)),
            signal=signal,
            value=base * rng.gamma(50.0, 0.02, rows),
            count=count,
        )


def fill(directory: Path, number: int) -> None:
    """Make the state directory."""
    every = the_pairs(number)
    now = time.time()
    keeper = Keeper(directory / FILE, HistorySettings())
    table = pairs.PairTable()
    for count, window in enumerate(windows(every, now - HOUR_S), start=1):
        keeper.add(window)
        table.add(window)
        if count % 30 == 0:
            keeper.flush()
    keeper.close()
    pairs.publish(directory / state.PAIRS, table, now=now + 600, window_s=WINDOW_S,
                  condition=Condition())  # fmt: skip
    with Store.open(directory) as store:
        store.register_receivers(["team"])
        for group in range(INCIDENTS):
            onset = now - 900 + group
            some = every[group * SYMPTOMS % number :][:SYMPTOMS]
            found = [
                finding(pair=p, onset=onset, id=finding_id(p, "request_latency", "up", onset))
                for p in some
            ]
            store.commit(found, snapshot=None, now=now,
                         incidents=[Change(incident(*found), "firing")])  # fmt: skip


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(directory: Path, output: str) -> tuple[float, float, int]:
    """Return CPU seconds and wall seconds of one run, and how many bytes it wrote."""
    cpu, wall = cpu_s(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tailrace", "report", "--since", "1h", "--state-dir", directory,
         "-o", output],
        check=True, capture_output=True,
    )  # fmt: skip
    return cpu_s() - cpu, time.monotonic() - wall, len(done.stdout)


def main() -> None:
    """Measure every format, and print the median of each."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        fill(directory, number)
        print(f"{number} pairs, {INCIDENTS} incidents, {INCIDENTS * SYMPTOMS} findings; "
              f"median of {RUNS} runs, the start of the program included")  # fmt: skip
        print(f"{'format':<10}{'CPU s':>8}{'wall s':>8}{'kB':>8}")
        for output in FORMATS:
            runs = [measured(directory, output) for _ in range(RUNS)]
            cpu, wall, size = (float(np.median(each)) for each in zip(*runs, strict=True))
            print(f"{output:<10}{cpu:>8.2f}{wall:>8.2f}{size / 1000:>8.0f}")


if __name__ == "__main__":
    main()
