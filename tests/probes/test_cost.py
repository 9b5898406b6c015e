"""What watching costs, on the real kernel, and what changes when that is too much."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest

from bpf import layout
from probes import budget
from probes.budget import CostMeter, Level
from probes.cost import RTT_EVERY, Cost
from probes.observer import Observer
from probes.programs import Programs
from tests.support import programs
from tests.support.traffic import free_port, hear, python, wait_for
from tests.support.watching import Watch

pytestmark = pytest.mark.kernel
WINDOW_S = 0.2


@contextmanager
def _watching(overhead_budget: float | None) -> Iterator[Watch]:
    with Observer(WINDOW_S, overhead_budget=overhead_budget) as observer:
        watch = Watch(observer)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()


@contextmanager
def _talking() -> Iterator[int]:
    """One connection that asks and is answered 50 times a second; its port."""
    port = free_port()
    with python(programs.HTTP_SERVER, "127.0.0.1", port, 0) as server:
        assert hear(server) == "ready"
        with python(programs.HTTP_CLIENT, "127.0.0.1", port, 50, 30) as client:
            yield port
            client.terminate()


def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a level follow after a second, not ten, and where the programs cost next to nothing."""
    monkeypatch.setattr(budget, "_OVER_S", 1.0)
    monkeypatch.setattr(budget, "_WORTH", 0.0)
    monkeypatch.setattr(budget, "_WORTHLESS", 0.0)


def _samples(watch: Watch, port: int, signal: str, windows: slice) -> list[float]:
    """The samples behind a latency, window by window."""
    found = []
    for window in watch.windows[windows]:
        mine = [i for i, pair in enumerate(window.pairs) if pair.port == port]
        which = np.isin(window.pair, mine) & (window.signal == window.signals.index(signal))
        found.append(float(window.count[which].sum()))
    return found


def test_above_the_budget_less_is_sampled_and_everything_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _impatient(monkeypatch)
    port = free_port()
    with python(programs.BINARY_SERVER, "127.0.0.1", port, 0) as server:
        assert hear(server) == "ready"
        with _watching(1e-9) as watch, _talking():
            wait_for(
                lambda: watch.observer.cost.level == Level.SPARSE_REQUESTS,
                what="the highest level",
            )
            watch.settle()
            with python(programs.BINARY_CLIENT, "127.0.0.1", port, 3000) as client:
                assert hear(client) == "3000"
            watch.settle()
            pair = watch.pair(port=port)
            assert watch.total(pair, "requests") == 3000
            assert watch.total(pair, "bytes_sent") == 3000 * 304
            timed = sum(_samples(watch, port, "request_latency", slice(None)))
            assert 3000 / 64 < timed < 3000 / 8
            assert watch.observer.cost.budget == 1e-9


def test_above_the_budget_round_trips_are_sampled_in_every_fifth_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _impatient(monkeypatch)
    with _talking() as port, _watching(1e-9) as watch:
        watch.settle(3)
        assert all(_samples(watch, port, "rtt", slice(-2, None)))
        wait_for(lambda: watch.observer.cost.level >= Level.SPARSE_RTT, what="a higher level")
        watch.settle(1)
        first = len(watch.windows)
        watch.settle(3 * RTT_EVERY)
        sampled = np.flatnonzero(_samples(watch, port, "rtt", slice(first, None)))
        assert len(sampled) >= 2
        assert set(np.diff(sampled)) == {RTT_EVERY}
        rates = [
            float(window.value[row])
            for window in watch.windows[first:]
            for row in np.flatnonzero(window.signal == window.signals.index("requests"))
            if window.pairs[window.pair[row]].port == port
        ]
        assert min(rates) > 0


def test_without_a_budget_it_is_measured_only() -> None:
    with _talking() as port, _watching(None) as watch:
        wait_for(lambda: watch.observer.cost.kernel is not None, what="the kernel's share")
        watch.settle()
        cost = watch.observer.cost
        assert cost.level == Level.FULL
        assert cost.budget is None
        assert cost.reason == ""
        assert cost.user is not None
        assert cost.kernel is not None
        assert 0 < cost.user < 1.5
        assert 0 < cost.kernel < 2
        assert cost.total == cost.user + cost.kernel
        # in nearly every window, not in every fifth
        assert np.count_nonzero(_samples(watch, port, "rtt", slice(-5, None))) >= 3
        more = {"missed", "malformed", "overruns", "translations"}
        assert set(watch.observer.lost) == {*layout.LOST_KINDS, *more}


def test_a_share_that_is_not_known_is_left_out() -> None:
    cost = Cost(level=Level.FULL, user=0.25, kernel=None, budget=None, reason="not permitted")
    assert cost.total == 0.25
    assert Cost(level=Level.FULL, user=None, kernel=None, budget=0.1, reason="").total is None


def test_the_budget_is_checked_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="share of one core"):
        Observer(1.0, overhead_budget=1.5)


def test_what_runs_in_our_own_time_is_not_counted_twice() -> None:
    with closing(Programs()) as programs_, CostMeter(programs_.loaded) as meter:
        programs_.attach()
        walks = {
            target.program
            for way in programs_.loaded.chosen.values()
            for target in (way.targets if way else ())
            if target.kind == "iter"
        }

        def spent() -> tuple[int, int]:
            """Return what the walks took and what all others did, ns."""
            took = {name: ns for name, (ns, _) in programs_.run_time_ns().items()}
            own = sum(ns for name, ns in took.items() if name in walks)
            return own, sum(took.values()) - own

        with _talking():
            meter.update(0.0)
            began = time.monotonic()
            while time.monotonic() - began < 0.3:
                programs_.sweep()
            own, least = spent()
            counted = meter.update(1.0)
            _, most = spent()
        assert own > 0
        # the programs run for the whole host, and meanwhile too
        assert counted is not None
        assert least <= counted <= most
