"""What watching costs, measured as it goes, and kept within a budget."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final

from bpf import layout
from probes.budget import Budget, CostMeter, Level
from probes.programs import Programs

RTT_EVERY: Final = 5
"""From `Level.SPARSE_RTT` on, round-trip times are sampled in every fifth window."""
REQUESTS_EVERY: Final = 16
"""At `Level.SPARSE_REQUESTS`, one request in so many is timed."""
_SMOOTHING_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What watching costs, and what it does about it.

    What is counted (requests, bytes, connections, errors) is exact at every level; a higher one
    has fewer samples of round-trip times and of request latencies.

    Attributes:
        level: how much is measured.
        user: share of one core that this process uses, user and system time, over some seconds;
            None while unknown.
        kernel: the same of the eBPF programs that run in other processes' time, an estimate;
            None while unknown.
        budget: what both may come to; None for no limit.
        reason: why `kernel` stays unknown; "" while it does not.
    """

    level: Level
    user: float | None
    kernel: float | None
    budget: float | None
    reason: str

    @property
    def total(self) -> float | None:
        """Share of one core, as far as it is known; None while nothing is."""
        return None if self.user is None else self.user + (self.kernel or 0.0)


class _Share:
    """A smoothed rate: of ns per ns, so a share of a core."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._last: tuple[float, float] | None = None

    def update(self, now_s: float, used_s: float | None) -> None:
        if used_s is None:
            return
        if self._last is not None and now_s > self._last[0]:
            elapsed_s = now_s - self._last[0]
            share = max(used_s - self._last[1], 0.0) / elapsed_s
            weight = 1.0 if self.value is None else -math.expm1(-elapsed_s / _SMOOTHING_S)
            self.value = share + (1.0 - weight) * ((self.value or 0.0) - share)
        self._last = (now_s, used_s)


class CostKeeper:
    """Meters what the programs and this process use, and tells the programs how much to do."""

    def __init__(self, programs: Programs, budget: float | None) -> None:
        """Begin at full measure.

        Args:
            programs: loaded.
            budget: share of one core that may be used; None to measure it only.

        Raises:
            ValueError: a budget that is not above 0 and at most 1.
        """
        self._programs = programs
        self._limit = budget
        self._budget = None if budget is None else Budget(budget)
        self._meter = CostMeter(programs.loaded)
        self._user, self._kernel = _Share(), _Share()
        self._windows = 0
        self._tuned = (1, 0)  # what `Programs` begins with

    @property
    def cost(self) -> Cost:
        """What it costs now."""
        return Cost(
            level=Level.FULL if self._budget is None else self._budget.level,
            user=self._user.value,
            kernel=self._kernel.value,
            budget=self._limit,
            reason=self._meter.reason,
        )

    def update(self, events: int | None) -> None:
        """Take in what was used until now; call it about once a second.

        Args:
            events: any number that grows with the events that the programs see; None if unknown.
        """
        now_s, cpu_s = time.monotonic(), time.process_time()
        bpf_ns = self._meter.update(now_s, events)
        self._user.update(now_s, cpu_s)
        self._kernel.update(now_s, None if bpf_ns is None else bpf_ns / 1e9)
        if self._budget is not None:
            self._budget.update(now_s, cpu_s, bpf_ns)

    def begin_window(self) -> None:
        """Tell the programs what to measure until the next sweep, the sweep included."""
        self._windows += 1
        level = self.cost.level
        rtt = level < Level.SPARSE_RTT or self._windows % RTT_EVERY == 0
        wanted = int(rtt), REQUESTS_EVERY if level >= Level.SPARSE_REQUESTS else 0
        if wanted == self._tuned:
            return
        self._programs.tune(layout.TUNING_RTT, wanted[0])
        self._programs.tune(layout.TUNING_INTERVAL, wanted[1])
        self._tuned = wanted

    def close(self) -> None:
        """End a measurement that is under way."""
        self._meter.close()
