"""What the daemon costs, and what follows from it; the meter against the real kernel."""

import math
import os
import time
from collections.abc import Callable, Iterator

import pytest

from probes import budget, syscalls
from probes.budget import Budget, CostMeter, Level
from probes.hooks import Way
from probes.loader import Loaded, load
from tests.support.loading import SOURCE, STATE, event, open_files, talk

_LIMIT = 0.005


class _Run:
    """A budget whose user spends what a function of the level says, second by second."""

    def __init__(self, limit: float = _LIMIT, step_s: float = 1.0) -> None:
        self.budget = Budget(limit)
        self.now_s = 1000.0
        self.changes: list[tuple[float, Level]] = []
        self._step_s = step_s
        self._cpu_s = 3.0
        self._bpf_ns = 0.0
        self._before = Level.FULL

    def spend(
        self, seconds: float, share: Callable[[Level], float] | float, *, bpf: float = 0.5
    ) -> Level:
        """Args: bpf: how much of it the programs use."""
        end = self.now_s + seconds
        while self.now_s < end:
            used_s = (share(self._before) if callable(share) else share) * self._step_s
            self._bpf_ns += used_s * bpf * 1e9
            self._cpu_s += used_s * (1 - bpf)
            self.now_s += self._step_s
            level = self.budget.update(self.now_s, self._cpu_s, self._bpf_ns)
            if level != self._before:
                self.changes.append((self.now_s, level))
                self._before = level
        return self._before


def test_what_the_programs_do_not_use_they_cannot_save() -> None:
    run = _Run()
    assert run.spend(600, _LIMIT * 3, bpf=0.2) == Level.FULL
    assert run.spend(60, _LIMIT * 3, bpf=0.5) == Level.SPARSE_REQUESTS
    # the traffic goes, this process stays as busy as it was
    assert run.spend(300, _LIMIT * 3, bpf=0.02) == Level.FULL


def test_full_measure_within_the_limit() -> None:
    run = _Run()
    assert run.spend(3600, _LIMIT * 0.99) == Level.FULL
    assert run.changes == []
    assert run.budget.share == pytest.approx(_LIMIT * 0.99)


def test_up_after_ten_seconds_above_it_and_again_after_ten_more() -> None:
    run = _Run()
    run.spend(60, _LIMIT * 1.5)
    began = 1000.0
    assert [level for _, level in run.changes] == [Level.SPARSE_RTT, Level.SPARSE_REQUESTS]
    first, second = (when - began for when, _ in run.changes)
    assert 10 <= first <= 13
    assert 10 <= second - first <= 13


def test_a_short_peak_is_forgiven() -> None:
    run = _Run()
    run.spend(60, _LIMIT / 4)
    run.spend(4, _LIMIT * 3)
    run.spend(60, _LIMIT / 4)
    assert run.changes == []


def test_the_programs_count_as_well() -> None:
    run = _Run()
    assert run.spend(60, _LIMIT * 2, bpf=1.0) == Level.SPARSE_REQUESTS


def test_both_together_are_what_counts() -> None:
    used = Budget(_LIMIT)
    for second in range(30):
        used.update(second, second * _LIMIT * 0.6, second * _LIMIT * 0.6e9)
    assert used.share == pytest.approx(_LIMIT * 1.2)
    assert used.level > Level.FULL


def test_programs_that_become_known_late_do_not_count_at_once() -> None:
    used = Budget(_LIMIT)
    for second in range(30):
        used.update(second, 0.0, None)
    used.update(30, 0.0, 1e12)
    assert used.share == 0.0
    used.update(31, 0.0, 1e12 + 1e9)
    assert used.share is not None
    assert used.share > 0.1


def test_down_after_a_minute_below_half() -> None:
    run = _Run()
    run.spend(60, _LIMIT * 1.5)
    quiet = run.now_s
    run.changes.clear()
    assert run.spend(200, _LIMIT * 0.4) == Level.FULL
    first, second = (when - quiet for when, _ in run.changes)
    assert 60 <= first <= 75
    assert 60 <= second - first <= 63


def test_between_half_and_whole_nothing_moves() -> None:
    run = _Run()
    run.spend(12, _LIMIT * 1.5)
    assert run.budget.level == Level.SPARSE_RTT
    assert run.spend(7200, _LIMIT * 0.75) == Level.SPARSE_RTT


def test_a_steady_load_does_not_make_it_swing() -> None:
    """Above the limit at full measure, far below half of it at the next level: the worst case."""
    run = _Run()
    run.spend(86400, lambda level: _LIMIT * (1.5 if level == Level.FULL else 0.2))
    swings = sum(level == Level.FULL for _, level in run.changes)
    # 60 s, 120 s ... 3600 s, then once an hour
    assert 24 <= swings <= 32
    assert {level for _, level in run.changes} == {Level.FULL, Level.SPARSE_RTT}
    gaps = [
        after - before
        for (before, level), (after, _) in zip(run.changes, run.changes[1:], strict=False)
        if level == Level.SPARSE_RTT
    ]
    assert gaps == sorted(gaps)
    assert gaps[0] < 70
    assert gaps[-1] >= 3600


def test_after_a_calm_the_wait_is_short_again() -> None:
    run = _Run()
    run.spend(7200, lambda level: _LIMIT * (1.5 if level == Level.FULL else 0.2))
    run.spend(7200, 0.0)
    assert run.budget.level == Level.FULL
    run.spend(15, _LIMIT * 2)
    run.changes.clear()
    quiet = run.now_s
    run.spend(70, 0.0)
    assert [level for _, level in run.changes] == [Level.FULL]
    assert run.changes[0][0] - quiet <= 70


def test_a_level_is_judged_by_its_own_cost() -> None:
    run = _Run()
    run.spend(300, lambda level: 0.9 if level == Level.FULL else _LIMIT * 0.8)
    assert [level for _, level in run.changes] == [Level.SPARSE_RTT]


def test_rare_updates_need_two_to_tell() -> None:
    run = _Run(step_s=30.0)
    run.budget.update(run.now_s, 3.0, 0.0)
    run.spend(30, _LIMIT * 2)
    assert run.changes == []
    run.spend(30, _LIMIT * 2)
    assert [level for _, level in run.changes] == [Level.SPARSE_RTT]


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.5, math.nan])
def test_a_limit_that_cannot_be_meant(limit: float) -> None:
    with pytest.raises(ValueError, match="share of one core above 0 and at most 1"):
        Budget(limit)


def test_times_that_cannot_be_meant() -> None:
    used = Budget(_LIMIT)
    used.update(10.0, 1.0, None)
    assert used.update(10.0, 1.0, None) == Level.FULL
    for now_s, cpu_s in ((9.0, 1.0), (11.0, 0.5), (math.nan, 1.0), (11.0, math.inf)):
        with pytest.raises(ValueError, match=r"before the time given last|the clock says"):
            used.update(now_s, cpu_s, None)


@pytest.fixture
def watching() -> Iterator[Loaded]:
    with load(SOURCE, cflags=[], events=[event("state", Way("tracepoint", (STATE,)))]) as loaded:
        loaded.attach()
        yield loaded


@pytest.mark.kernel
def test_the_meter_measures_in_spells_only(watching: Loaded) -> None:
    with CostMeter(watching) as meter:
        assert meter.update(0.0, 0) is None
        talk(1)
        assert meter.update(0.5, 6) is None  # not a second yet
        measured = meter.update(1.0, 12)
        assert measured is not None
        spent, runs = watching.run_time_ns()["by_tracepoint"]
        assert runs >= 6
        # the tracepoint serves the whole host, so a little may come after the meter's last look
        assert 0 < measured <= spent
        talk(1)
        assert watching.run_time_ns()["by_tracepoint"] == (spent, runs)
        # in between: what an event cost, times the events
        assert meter.update(2.0, 24) == pytest.approx(2 * measured)
        # where they are not told: what a second cost, times the seconds
        assert meter.update(4.0) == pytest.approx(4 * measured)
        meter.update(30.0)
        talk(1)
        meter.update(31.0)
        assert watching.run_time_ns()["by_tracepoint"][1] > runs


@pytest.mark.kernel
def test_a_meter_leaves_no_spell_behind(watching: Loaded) -> None:
    before = len(open_files())
    with CostMeter(watching) as meter:
        meter.update(0.0)
        assert len(open_files()) == before + 1
    assert len(open_files()) == before
    talk(1)
    assert watching.run_time_ns()["by_tracepoint"] == (0, 0)


@pytest.mark.kernel
def test_a_kernel_that_does_not_measure_for_us(
    watching: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(budget.syscalls, "enable_statistics", refused)
    meter = CostMeter(watching)
    for second in range(40):
        assert meter.update(float(second)) is None
    assert "CAP_SYS_ADMIN" in meter.reason


@pytest.mark.kernel
def test_the_estimate_is_near_the_truth(watching: Loaded) -> None:
    """The kernel measures all the time here, the meter looks at the first second only."""

    def truth() -> tuple[int, int]:
        return watching.run_time_ns()["by_tracepoint"]

    statistics = syscalls.enable_statistics()
    try:
        with CostMeter(watching) as meter:
            began = time.monotonic()
            meter.update(0.0, truth()[1])
            while time.monotonic() - began < 1.0:
                talk(1)
            meter.update(1.0, truth()[1])
            for second in range(2, 5):
                for _ in range(100 * second):
                    talk(1)
                estimate = meter.update(float(second), truth()[1])
        assert estimate == pytest.approx(truth()[0], rel=0.3)
    finally:
        os.close(statistics)
