"""The daemon watches what it costs, and does less before it costs too much."""

from __future__ import annotations

import math
import os
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Final

from probes import syscalls
from probes.loader import Loaded


class Level(IntEnum):
    """How much is measured; a higher one costs less."""

    FULL = 0
    SPARSE_RTT = 1
    """Round-trip times are sampled less often."""
    SPARSE_REQUESTS = 2
    """And only 1 in 16 request turn-arounds is timed."""


_SMOOTHING_S: Final = 5.0
_OVER_S: Final = 10.0
_UNDER_S: Final = 60.0
_UNDER_MOST_S: Final = 3600.0
_TAKEN_BACK_S: Final = 600.0
_WORTH, _WORTHLESS = 0.25, 0.0625
"""The programs' part of what is used, from which on a higher level is worth it, and below which a
lower one costs nothing."""


class Budget:
    """Decides the level from what was used. It has no clock of its own.

    The share of a core in use, smoothed over 5 s, raises the level when it stays above the limit
    for 10 s and the programs are more than a quarter of it, and lowers it when it stays below half
    of the limit for 60 s or they are next to nothing of it. A level is judged by its own cost only:
    the average begins anew with each.

    Doing less makes it cost less, which must not be the reason to do more again, or the level
    would swing for ever under a steady load. So a step down that had to be taken back within ten
    minutes doubles the wait before the next, up to an hour.

    Attributes:
        level: the present one.
    """

    def __init__(self, limit: float) -> None:
        """Begin at full measure.

        Args:
            limit: share of one core that the daemon and its programs may use; 0.005 is 0.5 %.

        Raises:
            ValueError: it is not above 0 and at most 1.
        """
        if not 0.0 < limit <= 1.0:  # also refuses NaN
            raise ValueError(
                f"the limit is {limit}, but must be a share of one core above 0 and at most 1 "
                "(0.005 is 0.5 %)."
            )
        self.level = Level.FULL
        self._limit = limit
        self._wait_s = _UNDER_S
        self._last: tuple[float, float, float | None] | None = None
        self._share: float | None = None
        self._programs: float | None = None  # of it, that of the programs
        self._since_s: float | None = None  # since when the share is out of bounds
        self._over = False  # on which side
        self._lowered_s = -math.inf

    @property
    def share(self) -> float | None:
        """The smoothed share of a core in use at this level; None while nothing is known."""
        return self._share

    def update(self, now_s: float, user_cpu_s: float, bpf_run_ns: float | None) -> Level:
        """Take in what was used until now, and return the level from now on.

        Args:
            now_s: of a monotonic clock.
            user_cpu_s: CPU time of this process since it began (os.times: user + system), in s.
            bpf_run_ns: run time of the programs since they were loaded, in ns; None while
                unknown, when the process alone is counted.

        Raises:
            ValueError: a time that went backwards, or is not a number.
        """
        if not (math.isfinite(now_s) and math.isfinite(user_cpu_s)):
            raise ValueError(f"the clock says {now_s} s and the CPU time is {user_cpu_s} s.")
        before = self._last
        if before is None:
            self._last = (now_s, user_cpu_s, bpf_run_ns)
            return self.level
        elapsed_s = now_s - before[0]
        if elapsed_s < 0 or user_cpu_s < before[1]:
            raise ValueError("the time given is before the time given last.")
        if elapsed_s == 0:
            return self.level
        self._last = (now_s, user_cpu_s, bpf_run_ns)
        used_s = user_cpu_s - before[1]
        programs: float | None = None
        if bpf_run_ns is not None and before[2] is not None:
            programs = max(bpf_run_ns - before[2], 0.0) / 1e9 / elapsed_s
            used_s += (bpf_run_ns - before[2]) / 1e9
        share = max(used_s, 0.0) / elapsed_s
        weight = -math.expm1(-elapsed_s / _SMOOTHING_S)
        self._share = _smoothed(self._share, share, weight)
        if programs is not None:
            self._programs = _smoothed(self._programs, programs, weight)
        self._judge(now_s, self._share, self._programs)
        return self.level

    def _judge(self, now_s: float, share: float, programs: float | None) -> None:
        over, under = share > self._limit, share < self._limit / 2
        if programs is not None:
            # A level lessens what the programs do, and nothing else: where this process is what
            # costs, fewer samples would save next to nothing
            over = over and programs > _WORTH * share
            under = under or programs < _WORTHLESS * share
        possible = (over and self.level < max(Level)) or (under and self.level > min(Level))
        if not possible:
            self._since_s = None
            return
        if self._since_s is None or self._over != over:
            self._since_s, self._over = now_s, over
        lasted_s = now_s - self._since_s
        if over and lasted_s >= _OVER_S:
            taken_back = now_s - self._lowered_s < _TAKEN_BACK_S
            self._wait_s = min(self._wait_s * 2, _UNDER_MOST_S) if taken_back else _UNDER_S
            self._lowered_s = -math.inf
            self._step(Level(self.level + 1))
        elif under and lasted_s >= self._wait_s:
            self._lowered_s = now_s
            self._step(Level(self.level - 1))

    def _step(self, level: Level) -> None:
        self.level = level
        self._share = self._programs = None
        self._since_s = None


def _smoothed(before: float | None, value: float, weight: float) -> float:
    """The first value of a level counts as it is."""
    return value if before is None else before + weight * (value - before)


_SPELL_S: Final = 1.0
_EVERY_S: Final = 30.0
_SYSCTL: Final = Path("/proc/sys/kernel/bpf_stats_enabled")


class CostMeter:
    """Estimates the run time of the programs from short spells in which the kernel measures it.

    Measuring costs some tens of ns for each run of every program on the host, so it is on for 1 s
    in 30 only. In between, the time is what an event cost in the last spell, times the events;
    where those are not told, what a second cost, times the seconds.

    Attributes:
        reason: why nothing can be measured; "" while it can.
    """

    def __init__(self, loaded: Loaded) -> None:
        """Measure nothing yet; `update()` does."""
        self.reason = ""
        self._loaded = loaded
        # An iterator runs when we read it, in our own system time, which is counted already
        self._ours = {
            target.program
            for way in loaded.chosen.values()
            if way is not None
            for target in way.targets
            if target.kind == "iter"
        }
        self._statistics: int | None = None
        self._spell: tuple[float, int | None, int] | None = None  # when, events, ns at its start
        self._next_s = -math.inf
        self._last: tuple[float, int | None] | None = None
        self._ns_per_event: float | None = None
        self._ns_per_s: float | None = None
        self._total_ns: float | None = None

    def update(self, now_s: float, events: int | None = None) -> float | None:
        """Go on; call it about once a second, as a spell lasts from one call to another.

        Args:
            now_s: of a monotonic clock.
            events: how often the programs have run since they were loaded, or any number that
                grows with that, as messages seen; None when not known.

        Returns:
            ns the programs have run since the first spell began, an estimate, the iterators
            left out, which run in the time of the process that reads them; None before the
            first spell has ended, and for ever where the kernel does not measure for us: that
            needs CAP_SYS_ADMIN, or kernel.bpf_stats_enabled=1.
        """
        if self._total_ns is not None and self._last is not None:
            self._total_ns += self._spent_ns(now_s, events)
        self._last = (now_s, events)
        if self._spell is not None:
            if now_s - self._spell[0] >= _SPELL_S:
                self._end_spell(now_s, events)
        elif now_s >= self._next_s:
            self._begin_spell(now_s, events)
        return self._total_ns

    def _spent_ns(self, now_s: float, events: int | None) -> float:
        assert self._last is not None
        before_s, before = self._last
        if events is not None and before is not None and self._ns_per_event is not None:
            return max(events - before, 0) * self._ns_per_event
        return max(now_s - before_s, 0.0) * (self._ns_per_s or 0.0)

    def _run_ns(self) -> int:
        told = self._loaded.run_time_ns()
        return sum(spent for name, (spent, _) in told.items() if name not in self._ours)

    def _begin_spell(self, now_s: float, events: int | None) -> None:
        self._next_s = now_s + _EVERY_S
        try:
            self._statistics = syscalls.enable_statistics()
        except OSError as error:
            if not self._always_on():
                self.reason = (
                    "the run time of the eBPF programs is not known "
                    f"({error.strerror}): it needs CAP_SYS_ADMIN, or kernel.bpf_stats_enabled=1"
                )
                return
        self.reason = ""
        self._spell = (now_s, events, self._run_ns())

    def _end_spell(self, now_s: float, events: int | None) -> None:
        assert self._spell is not None
        began_s, before, ns_before = self._spell
        spent_ns = max(self._run_ns() - ns_before, 0)  # 0 once the programs are let go of
        self.close()
        self._ns_per_s = spent_ns / (now_s - began_s)
        if events is not None and before is not None and events > before:
            self._ns_per_event = spent_ns / (events - before)
        if self._total_ns is None:
            self._total_ns = float(spent_ns)

    @staticmethod
    def _always_on() -> bool:
        try:
            return _SYSCTL.read_text().strip() == "1"
        except OSError:
            return False

    def close(self) -> None:
        """End a spell that is under way."""
        if self._statistics is not None:
            os.close(self._statistics)
            self._statistics = None
        self._spell = None

    def __enter__(self) -> CostMeter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
