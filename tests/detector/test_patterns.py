"""What comes and goes by itself is learned, and what creeps is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from traffic import PairModel, Traffic, simulate

from detector.engine import Detector
from probes.window import Pair
from tests.program import windows

CALM = 900
PAIR = Pair("caller", "web", 80)


def _job(every: int, lasts: int, at: int) -> PairModel:
    def runs(tick: int, traffic: Traffic) -> Traffic:
        return traffic if (tick + at) % every < lasts else replace(traffic, request_rate=0.0)

    normal = Traffic(request_rate=30.0, connection_rate=0.0)
    return PairModel(pair=Pair(f"every {every} s for {lasts} s", "web", 80), normal=normal,
                     fault=runs)  # fmt: skip


@pytest.mark.parametrize(("every", "lasts"), [(20, 3), (60, 5), (120, 3), (300, 10), (600, 60)])
def test_a_job_that_has_run_three_times_is_no_news(every: int, lasts: int) -> None:
    detector, late = Detector(), []
    model = _job(every, lasts, at=every // 3)
    for tick, window in enumerate(simulate([model], max(8 * every, 1200), seed=every)):
        found = [f for f in detector.update(window) if f.state == "firing"]
        late += found if tick > max(3.5 * every, 120) else []
    assert [(f.signal, f.direction, f.onset - 1.7e9) for f in late] == []


def _bursts(factors: dict[int, float], lasts: int, ticks: int) -> list[tuple[int, str, str]]:
    """Return (window, signal, direction) of what is told of a pair that has bursts, by window."""

    def bursts(tick: int, traffic: Traffic) -> Traffic:
        factor = max((f for at, f in factors.items() if at <= tick < at + lasts), default=1.0)
        return replace(traffic, request_rate=20.0 * factor, connection_rate=5.0 * factor)

    detector, found = Detector(), []
    for tick, window in enumerate(simulate([PairModel(pair=PAIR, fault=bursts)], ticks, seed=4)):
        told = [f for f in detector.update(window) if f.state == "firing"]
        found += [(tick, f.signal, f.direction) for f in told]
    return found


def test_a_burst_that_comes_again_and_again_is_told_once() -> None:
    found = _bursts(dict.fromkeys(range(400, 5000, 600), 5.0), lasts=20, ticks=5000)
    ((tick, signal, direction),) = found  # all its flows together, and at its first time
    assert 400 <= tick < 410
    assert (signal, direction) in {("requests", "up"), ("connections", "up"), ("bytes_sent", "up")}


def test_a_burst_that_is_worse_than_before_is_told() -> None:
    found = _bursts({400: 4.0, 1000: 4.0, 1600: 12.0}, lasts=20, ticks=1700)
    assert [tick // 100 for tick, _, direction in found if direction == "up"] == [4, 16]


@pytest.mark.parametrize("factor", [3.0, 0.4])
@pytest.mark.parametrize("lasted", [30, 60])
def test_a_change_that_once_came_back_by_itself_is_told_when_it_does_not(
    factor: float, lasted: int
) -> None:
    def moves(tick: int, traffic: Traffic) -> Traffic:
        now = factor if 400 <= tick < 400 + lasted or tick >= 1500 else 1.0
        return replace(traffic, request_rate=30.0 * now, connection_rate=5.0 * now)

    detector, told = Detector(), []
    model = PairModel(pair=PAIR, fault=moves)
    for tick, window in enumerate(simulate([model], 1800, seed=2, wobble=0.1)):
        told += [(tick, f) for f in detector.update(window) if f.state == "firing"]
        if tick == 1560:
            detector = Detector.from_bytes(detector.to_bytes())
    late = [(tick, f) for tick, f in told if tick > 500]
    assert len(late) == 1
    tick, finding = late[0]
    assert finding.direction == ("up" if factor > 1.0 else "down")
    # longer than before; up to twice as long, some windows more, and what evidence takes
    assert 1500 + lasted < tick < 1500 + 2 * lasted + 120
    assert abs(finding.onset - 1.7e9 - 1500) <= 30.0


def test_what_was_adopted_says_nothing_of_when_the_next_change_began() -> None:
    def moves(tick: int, traffic: Traffic) -> Traffic:
        now = 3.0 if 400 <= tick < 460 or tick >= 1500 else 1.0
        requests = 30.0 * now * (0.2 if tick >= 3000 else 1.0)
        return replace(traffic, request_rate=requests, connection_rate=5.0 * now)

    detector, told = Detector(), []
    for tick, window in enumerate(simulate([PairModel(pair=PAIR, fault=moves)], 3040, seed=1)):
        told += [(tick, f) for f in detector.update(window)]
    late = [(f.state, f.direction) for tick, f in told if tick > 1500]
    assert late == [("firing", "up"), ("adopted", "up"), ("firing", "down")]
    assert abs(told[-1][1].onset - 1.7e9 - 3000) <= 3.0


def test_what_gets_better_and_is_as_before_again_and_again_is_told_twice() -> None:
    def quick(tick: int, traffic: Traffic) -> Traffic:
        return replace(traffic, latency_s=0.0003 if tick > 400 and tick // 100 % 2 else 0.001)

    model = PairModel(pair=PAIR, normal=Traffic(request_rate=30.0), fault=quick)
    detector, told = Detector(), []
    for tick, window in enumerate(simulate([model], 1700, seed=5)):
        told += [f for f in detector.update(window) if f.signal == "request_latency"]
        if tick == 950:
            detector = Detector.from_bytes(detector.to_bytes())
    assert [(f.direction, f.state) for f in told] == [("down", "firing"), ("down", "resolved")] * 2


@pytest.mark.parametrize(("rate", "per_minute"), [(15.0, 1.02), (100.0, 1.02), (15.0, 1.04)])
def test_a_slow_leak_is_told(rate: float, per_minute: float) -> None:
    def leaks(tick: int, traffic: Traffic) -> Traffic:
        return replace(traffic, latency_s=0.02 * per_minute ** (max(tick - CALM, 0) / 60.0))

    model = PairModel(pair=PAIR, normal=Traffic(request_rate=rate), fault=leaks)
    detector, found = Detector(), []
    for tick, window in enumerate(simulate([model], CALM + 1800, seed=1, wobble=0.1)):
        found += [(tick - CALM, f.signal, f.direction) for f in detector.update(window)]
    assert {each[1:] for each in found} == {("request_latency", "up")}
    # at x1.8 at the latest: 30 minutes of + 2 %
    assert 0 < found[0][0] <= 60.0 * np.log(1.8) / np.log(per_minute)


@pytest.mark.parametrize("seed", range(4))
def test_a_baseline_of_two_minutes_does_not_learn_what_gets_slow_after_them(seed: int) -> None:
    def slows(tick: int, traffic: Traffic) -> Traffic:
        return replace(traffic, latency_s=0.02 * 1.012 ** max(tick - 130, 0))

    model = PairModel(pair=PAIR, normal=Traffic(request_rate=20.0), fault=slows)
    detector, found = Detector(), []
    for tick, window in enumerate(simulate([model], 230, seed=seed, wobble=0.0)):
        found += [(tick - 130, f.signal, f.direction) for f in detector.update(window)]
    assert [each[1:] for each in found] == [("request_latency", "up")]
    assert 0 < found[0][0] <= 90  # at x2.9


@pytest.mark.parametrize("period", [60, 300, 1200])
def test_a_wave_that_has_been_seen_is_no_news(period: int) -> None:
    def wave(tick: int, traffic: Traffic) -> Traffic:
        factor = np.exp(0.5 * np.log(2.0) * np.sin(2.0 * np.pi * tick / period))
        return replace(traffic, request_rate=40.0 * factor)

    detector, late = Detector(), []
    model = PairModel(pair=PAIR, normal=Traffic(connection_rate=0.0), fault=wave)
    for tick, window in enumerate(simulate([model], 4 * period, seed=2, wobble=0.1)):
        late += [f for f in detector.update(window) if tick > period]
    assert late == []


def test_a_job_that_is_late_once_has_not_stopped() -> None:
    """Windows of ten seconds: 20 s of requests in every 150 s, and once 200 s without."""
    rng, detector, found = np.random.default_rng(8), Detector(), []
    for tick in range(900):
        late = 5 if tick >= 600 else 0
        runs = (tick - late) % 15 < 2 and not 600 <= tick < 600 + late
        row = (PAIR, "requests", rng.poisson(300) / 10.0 if runs else 0.0, np.nan)
        at = 1.7e9 + 10.0 * tick
        told = detector.update(windows.window([row], time=at, width=10.0, nominal=10.0))
        found += [(tick, f.direction) for f in told if tick > 100]
    assert found == []


@pytest.mark.parametrize(("empty", "told"), [(4, []), (12, [("bytes_received", "down")])])
def test_a_thin_pair_has_not_stopped_after_a_few_empty_windows(
    empty: int, told: list[tuple[str, str]]
) -> None:
    """Three answers a second, all of one size: one window of twenty has none."""
    rng, detector, found = np.random.default_rng(9), Detector(), []
    answers = np.concatenate([rng.poisson(3.0, 400), np.zeros(empty), rng.poisson(3.0, 30)])
    for tick, number in enumerate(answers):
        row = (PAIR, "bytes_received", 1_000.0 * number, np.nan)
        found += detector.update(windows.window([row], time=1.7e9 + tick))
    assert [(f.signal, f.direction) for f in found][:1] == told


def test_a_stream_that_was_in_trouble_again_and_again_is_soon_well_again() -> None:
    def faults(tick: int, traffic: Traffic) -> Traffic:
        return replace(traffic, latency_s=0.02 if tick >= 120 and tick % 60 < 20 else 0.002)

    detector, lasted = Detector(), []
    for tick, window in enumerate(simulate([PairModel(pair=PAIR, fault=faults)], 620, seed=6)):
        ended = [f for f in detector.update(window) if f.state == "resolved"]
        lasted += [(tick - 20) % 60 for f in ended if f.signal == "request_latency"]
    assert len(lasted) >= 8  # each is a finding of its own
    assert max(lasted) <= 30
