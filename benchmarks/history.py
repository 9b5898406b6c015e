"""What the history takes on disk and in time, with 1,000 pairs of 10 signals.

    scripts/bench history [--pairs 1000] [--minutes 20] [--days 30] [--fed 6] [--queries 100]

First windows of one second, as the daemon has them, for `--minutes`: the CPU that one costs, and
the room of the finest tier. Then windows of ten seconds for `--fed` hours through the same writer;
what these hours left is then copied to the hours before until there are `--days` of minutes and a
day of 10 s (a chunk is the same bytes wherever it begins; `--fed 720` writes all of it, in hours).
Then questions to what is on disk, each by a reader of its own.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.histogram import bucket_of
from probes.window import SIGNALS, Histograms, Kind, Pair, Window
from tailrace.history import database
from tailrace.history.keeper import Keeper
from tailrace.history.pack import pack_piece, unpack_piece
from tailrace.history.reader import HistoryReader
from tailrace.history.settings import HistorySettings

NAMES = (
    "connections", "requests", "bytes_sent", "bytes_received", "connect_errors", "resets",
    "retransmits", "connect_latency", "request_latency", "rtt",
)  # fmt: skip
DAY_S = 86_400
START = 20_000 * DAY_S
FLUSH_S = 10.0


class Load:
    """Traffic of many pairs: over-dispersed counts, a daily wave, latencies with a tail."""

    def __init__(self, pairs: int, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self.pairs = tuple(Pair(f"client-{n % 97}", f"service-{n}", 8080) for n in range(pairs))
        self._rate = self._rng.lognormal(np.log(3.0), 1.0, pairs)  # requests per second
        self._middle = self._rng.lognormal(np.log(5e6), 1.0, pairs)  # latency, ns
        self._spread = self._rng.uniform(0.2, 0.6, pairs)
        self._phase = self._rng.uniform(0.0, 0.2, pairs)
        self._signal = np.tile(np.arange(len(NAMES), dtype=np.int16), pairs)
        self._pair = np.repeat(np.arange(pairs, dtype=np.int32), len(NAMES))

    def windows(self, start: float, length: float, number: int) -> Iterator[Window]:
        """Yield so many windows of a length in seconds."""
        for n in range(number):
            yield self._window(start + n * length, length)

    def _window(self, at: float, length: float) -> Window:
        rng, pairs = self._rng, len(self.pairs)
        wave = 1.0 + 0.5 * np.sin(2 * np.pi * (at / DAY_S + self._phase))
        requests = rng.poisson(rng.gamma(20.0, self._rate * wave * length / 20.0))
        made = rng.poisson(np.minimum(self._rate * 0.2, 5.0) * length, pairs)
        packets = rng.poisson(np.minimum(self._rate, 4.0) * length, pairs)
        value, count = np.zeros((pairs, 10)), np.full((pairs, 10), np.nan)
        value[:, 0], value[:, 1] = made / length, requests / length
        value[:, 2] = requests * rng.gamma(50.0, 400 / 50.0, pairs) / length
        value[:, 3] = requests * rng.gamma(5.0, 9000 / 5.0, pairs) / length
        for column, of, share in ((4, made, 0.001), (5, made, 0.002), (6, packets * 8, 0.001)):
            count[:, column] = of
            value[:, column] = rng.binomial(of, share) / np.maximum(of, 1)
        entries = []
        for column, samples, scale in ((7, made, 0.1), (8, requests, 1.0), (9, packets, 0.1)):
            count[:, column] = samples
            of = np.repeat(np.arange(pairs), samples)
            spread = self._spread[of] * rng.standard_normal(len(of))
            slow = np.where(rng.random(len(of)) < 0.01, rng.uniform(2.0, 20.0, len(of)), 1.0)
            bucket = bucket_of((self._middle[of] * scale * np.exp(spread) * slow).astype(np.int64))
            entries.append((of * 10 + column) << 10 | bucket)
            value[:, column] = self._middle * scale * 1e-9
        there = (count > 0) | np.isnan(count)
        rows = np.flatnonzero(there)
        place = np.cumsum(there) - 1
        cells, number = np.unique(np.concatenate(entries), return_counts=True)
        return Window(
            time=at,
            width=length,
            nominal=length,
            lost=0,
            pairs=self.pairs,
            signals=NAMES,
            pair=self._pair[rows],
            signal=self._signal[rows],
            value=value.ravel()[rows],
            count=count.ravel()[rows],
            histograms=Histograms(
                place[cells >> 10].astype(np.int32),
                (cells & 1023).astype(np.int16),
                number.astype(np.int64),
            ),
        )


def feed(keeper: Keeper, windows: Iterator[Window]) -> tuple[NDArray[np.float64], int]:
    """Give windows to the writer as the daemon's thread does; return ms of CPU each, and rows."""
    took, rows, flushed = [], 0, -np.inf
    for window in windows:
        rows += len(window)
        began = time.process_time()
        keeper.add(window)
        if window.time >= flushed + FLUSH_S:
            keeper.flush()
            flushed = window.time
        took.append((time.process_time() - began) * 1e3)
    return np.array(took), rows


def second(directory: Path, load: Load, minutes: int) -> None:
    """Print what windows of a second cost."""
    keeper = Keeper(directory / "seconds.db", HistorySettings())
    list(load.windows(START, 1.0, 3))
    took, rows = feed(keeper, load.windows(START, 1.0, minutes * 60))
    keeper.close()
    db = database.open_writer(directory / "seconds.db")
    size, chunks = db.execute("SELECT sum(length(data)), count(*) FROM chunks").fetchone()
    used, _ = database.size(db)
    db.close()
    print(
        f"a window of a second, {rows / len(took):,.0f} rows: {took.mean():.2f} ms of CPU, storing "
        f"included (p50 {np.median(took):.2f}, p99 {np.quantile(took, 0.99):.1f}, "
        f"most {took.max():.1f}); {took.mean() / 10:.2f} % of a core"
    )
    hours = chunks * 0.1 / len(load.pairs)
    print(
        f"the finest tier: {size / 1e6 / hours:.1f} MB an hour; all in use after {minutes} minutes:"
        f" {used / 1e6:.1f} MB"
    )


def copied(directory: Path, fed_s: int, days: int) -> None:
    """Copy the chunks of the hours that were fed to the hours before."""
    db = database.open_writer(directory / database.FILE)
    for step, reach in ((10, DAY_S), (60, days * DAY_S)):
        for back in range(fed_s, reach, fed_s):
            of = {"step": step, "back": back, "first": START, "end": START + fed_s}
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(
                    "INSERT INTO chunks SELECT step, start - :back, pair, data FROM chunks"
                    " WHERE step = :step AND start >= :first AND start < :end",
                    of,
                )
                copies = db.execute(
                    "SELECT start, shard, whole, data FROM summaries"
                    " WHERE step = :step AND start >= :first AND start < :end",
                    of,
                ).fetchall()
                for start, shard, whole, data in copies:
                    rows = unpack_piece(data)
                    moved = pack_piece(rows._replace(step=rows.step - back))
                    db.execute(
                        "INSERT INTO summaries VALUES (?, ?, ?, ?, ?)",
                        (step, start - back, shard, whole, moved),
                    )
        first = START + fed_s - reach
        db.execute("UPDATE tiers SET first = ? WHERE step = ?", (first, step))
    db.close()


def month(directory: Path, load: Load, given: argparse.Namespace) -> None:
    """Print what many days take on disk, and how long questions to them take."""
    keeper = Keeper(directory / database.FILE, HistorySettings(max_size=10**12))
    number = given.fed * 360 + 181  # and a while, so that the last chunks are complete
    took, _ = feed(keeper, load.windows(START, 10.0, number))
    for _ in range(100):  # the work of closing chunks is spread over flushes
        keeper.flush()
    keeper.close()
    copied(directory, given.fed * 3600, given.days)
    db = database.open_writer(directory / database.FILE)
    print(f"a window of ten seconds: {took.mean():.2f} ms of CPU, storing included")
    for step, chunks, size in db.execute(
        "SELECT step, count(*), sum(length(data)) FROM chunks GROUP BY step"
    ):
        cells = chunks * 360 * len(NAMES)
        print(
            f"tier of {step} s: {chunks} chunks, {size / 1e6:.1f} MB, {size / cells:.2f} B a step"
        )
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    size = database.on_disk(directory / database.FILE)
    print(f"{given.days} days of {given.pairs} pairs on disk: {size / 1e6:,.0f} MB")
    questions(directory, load, given)


def questions(directory: Path, load: Load, given: argparse.Namespace) -> None:
    """Print how long questions take."""
    rng = np.random.default_rng(3)
    until = START + given.fed * 3600 + 1800
    spans = {"1 hour": 3600, "1 day": DAY_S, f"{given.days} days": given.days * DAY_S}
    for name, span in spans.items():
        for kind in (Kind.COUNT, Kind.RATIO, Kind.LATENCY):
            signals = [each for each in NAMES if SIGNALS[each] is kind]
            wall, cpu = [], []
            for _ in range(given.queries):
                pair = load.pairs[rng.integers(given.pairs)]
                began, used = time.perf_counter(), time.process_time()
                with HistoryReader(directory) as reader:
                    signal = signals[rng.integers(len(signals))]
                    series = reader.series(pair, signal, since=until - span, until=until)
                wall.append((time.perf_counter() - began) * 1e3)
                cpu.append((time.process_time() - used) * 1e3)
                assert np.isfinite(next(iter(series.values.values()))).sum() > len(series.time) / 2
            print(
                f"one {kind.value} over {name}: p50 {np.median(wall):.1f} ms, p99 "
                f"{np.quantile(wall, 0.99):.1f} ms ({np.median(cpu):.1f} and "
                f"{np.quantile(cpu, 0.99):.1f} of CPU)"
            )
        began, used = time.perf_counter(), time.process_time()
        with HistoryReader(directory) as reader:
            number = len(reader.pairs(since=until - span, until=until))
        print(
            f"a summary of {number} pairs over {name}: {(time.perf_counter() - began) * 1e3:.0f} ms"
            f" ({(time.process_time() - used) * 1e3:.0f} of CPU)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--minutes", type=int, default=20, help="of windows of a second")
    parser.add_argument("--days", type=int, default=30, help="to have on disk")
    parser.add_argument("--fed", type=int, default=6, help="hours to write, a multiple of 6")
    parser.add_argument("--queries", type=int, default=100, help="of each sort")
    given = parser.parse_args()
    if given.fed % 6:
        parser.error("--fed: chunks of minutes have six hours")
    with tempfile.TemporaryDirectory() as place:
        load = Load(given.pairs)
        second(Path(place), load, given.minutes)
        month(Path(place), load, given)
    print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
