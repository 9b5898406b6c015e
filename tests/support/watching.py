"""An Observer in a thread, and sums over the windows it gave."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from probes.histogram import quantile_s
from probes.observer import Observer
from probes.window import Kind, Pair, Window, kind_of


class Watch:
    """Windows as they come, and what they add up to."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.windows: list[Window] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            for window in self.observer.windows():
                self.windows.append(window)
        except BaseException as error:
            self.error = error

    def start(self) -> None:
        """Return when the first window has begun."""
        self._thread.start()
        self.settle(1)

    def settle(self, windows: int = 2) -> None:
        """Wait until so many further windows are complete."""
        have = len(self.windows)
        end = time.monotonic() + 10 + 2 * windows * self.observer.window_s
        while len(self.windows) < have + windows:
            assert self._thread.is_alive(), self.error
            assert time.monotonic() < end, "no window came"
            time.sleep(0.01)

    def stop(self) -> None:
        self.observer.stop()
        self._thread.join()
        if self.error is not None:
            raise self.error

    @property
    def lost(self) -> int:
        return sum(window.lost for window in self.windows)

    def pairs(self) -> set[Pair]:
        """Return the pairs that did anything."""
        return {
            window.pairs[pair]
            for window in self.windows
            for pair, value in zip(window.pair, window.value, strict=True)
            if value > 0
        }

    def pair(self, *, port: int, client: str | None = None) -> Pair:
        """Return the one active pair on a server's port."""
        found = {p for p in self.pairs() if p.port == port and client in (None, p.client)}
        assert len(found) == 1, f"port {port}: {found or self.pairs()}"
        return found.pop()

    def total(self, pair: Pair, signal: str) -> float:
        """Return the amount of a rate over all windows, or the part of a ratio."""
        return self.part_and_whole(pair, signal)[0]

    def part_and_whole(self, pair: Pair, signal: str) -> tuple[float, float]:
        """Return sums of (value x width) for a rate, of (failed, attempted) for a ratio."""
        part = whole = 0.0
        for window, row in self._rows(pair, signal):
            if kind_of(signal) is Kind.RATIO:
                part += window.value[row] * window.count[row]
                whole += window.count[row]
            else:
                part += window.value[row] * window.width
        return round(part, 3), whole

    def causes(self, pair: Pair, signal: str) -> Counter[str]:
        total: Counter[str] = Counter()
        for window, row in self._rows(pair, signal):
            total.update(window.causes.get(row, {}))
        return Counter({cause: n for cause, n in total.items() if n})

    def samples(self, pair: Pair, signal: str) -> int:
        """Return how many samples a latency has had."""
        return int(sum(window.count[row] for window, row in self._rows(pair, signal)))

    def quantile(self, pair: Pair, signal: str, q: float) -> float:
        buckets, numbers = [], []
        for window, row in self._rows(pair, signal):
            mine = window.histograms.row == row
            buckets.append(window.histograms.bucket[mine])
            numbers.append(window.histograms.number[mine])
        assert buckets, f"no {signal} of {pair}"
        return float(quantile_s(np.concatenate(buckets), np.concatenate(numbers), q))

    def _rows(self, pair: Pair, signal: str) -> Iterator[tuple[Window, int]]:
        for window in self.windows:
            if pair not in window.pairs:
                continue
            which = (window.pair == window.pairs.index(pair)) & (
                window.signal == window.signals.index(signal)
            )
            for row in np.flatnonzero(which):
                yield window, int(row)


@contextmanager
def watching(
    window_s: float = 0.25,
    known: Sequence[tuple[Pair, float]] = (),
    netns: Sequence[str] = (),
) -> Iterator[Watch]:
    """Watch this host for the length of a `with`.

    Args:
        window_s: length of a window.
        known: pairs that an earlier observer met, and so many seconds ago.
        netns: network namespaces to look at; all if there is none.
    """
    with Observer(window_s, netns=netns) as observer:
        if known:
            memory = json.loads(observer.memory())
            now = time.time()
            memory["pairs"] = [[*pair, now, now - ago_s, False] for pair, ago_s in known]
            observer.restore(json.dumps(memory).encode())
        watch = Watch(observer)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()
