"""What watching costs: nginx under wrk, with and without the probes, in pairs in one run.

Prints the ratio of requests served, what one event costs in the kernel (the kernel's own
bpf_stats, whose two clock readings of some 30 ns are included), and the CPU of user space.

    scripts/bench probe_overhead [pairs of runs] [seconds each]
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from probes.observer import Observer
from tests.support.traffic import Nginx, nginx, wrk
from tests.support.watching import Watch

_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
_CONNECTIONS = 50


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    before = _STATS.read_text()
    _STATS.write_text("1")
    try:
        yield
    finally:
        _STATS.write_text(before)


def _served(directory: Path, server: Nginx, *, seconds: int, close: bool) -> float:
    url = f"http://127.0.0.1:{server.port}/"
    load = wrk(directory, url, connections=_CONNECTIONS, seconds=seconds, close=close)
    return load.requests / seconds


def _watched(directory: Path, server: Nginx, *, seconds: int, close: bool) -> tuple[float, float]:
    """Return (requests per second, CPU seconds of user space per second)."""
    with Observer(1.0) as observer:
        watch = Watch(observer)
        watch.start()
        before, began = time.process_time(), time.monotonic()
        served = _served(directory, server, seconds=seconds, close=close)
        cpu = (time.process_time() - before) / (time.monotonic() - began)
        watch.stop()
        return served, cpu


def _compare(directory: Path, server: Nginx, *, pairs: int, seconds: int, close: bool) -> None:
    ratios, cpus = [], []
    for number in range(pairs):
        # in turns, so that neither is always the one that finds the machine warm
        first = number % 2 == 0
        plain = _served(directory, server, seconds=seconds, close=close) if first else 0.0
        served, cpu = _watched(directory, server, seconds=seconds, close=close)
        plain = plain or _served(directory, server, seconds=seconds, close=close)
        ratios.append(served / plain)
        cpus.append(cpu)
    what = "a connection per request" if close else "keep-alive"
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"{what}: requests served, watched / unwatched")
    print(f"  median {middle:.3f}, least {low:.3f}, most {high:.3f} ({pairs} pairs)")
    print(f"  user space: {100 * statistics.median(cpus):.1f} % of a core under this load")


def _per_event(directory: Path, server: Nginx) -> None:
    with _counted(), Observer(1.0) as observer:
        watch = Watch(observer)
        watch.start()
        for close in (False, True):
            _served(directory, server, seconds=2, close=close)
        costs = observer.run_time_ns()
        watch.stop()
    print("kernel: ns per event, the meter included")
    for tracepoint, (spent_ns, times) in sorted(costs.items()):
        if times:
            print(f"  {tracepoint:22} {spent_ns / times:7.0f} ns  x {times:,}")


def _idle() -> None:
    with Observer(1.0) as observer:
        watch = Watch(observer)
        watch.start()
        before = time.process_time()
        time.sleep(10)  # not settle(): it looks a hundred times a second
        cpu = (time.process_time() - before) / 10
        watch.stop()
    print(f"idle host: {100 * cpu:.2f} % of a core")


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    with tempfile.TemporaryDirectory() as name, nginx(Path(name)) as server:
        directory = Path(name)
        _idle()
        _per_event(directory, server)
        for close in (False, True):
            _compare(directory, server, pairs=pairs, seconds=seconds, close=close)


if __name__ == "__main__":
    main()
