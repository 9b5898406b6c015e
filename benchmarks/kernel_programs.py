"""Part `programs`: what one event costs in the kernel, beside a program that does nothing."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import Any

from benchmarks.kernel_child import BenchmarkError, bpf_statistics
from benchmarks.kernel_load import loads
from benchmarks.kernel_peers import Empty
from benchmarks.kernel_plan import Plan, spread
from benchmarks.kernel_watch import Watcher
from probes.hooks import EVENTS

_FEWEST = 100
"""Runs below which a mean says nothing."""

Times = dict[str, tuple[int, int]]

_TRACEPOINTS = {
    target.program: target.where
    for event in EVENTS
    for way in event.ways
    for target in way.targets
    if target.kind == "raw_tracepoint"
}
"""Program: its tracepoint. Only beside those an empty program is attached."""


def _since(before: Times, after: Times) -> Times:
    return {
        name: (spent - before[name][0], runs - before[name][1])
        for name, (spent, runs) in after.items()
    }


class _Tally:
    """The means of one load, a value per round and program."""

    def __init__(self) -> None:
        self.ns: dict[str, list[float]] = defaultdict(list)
        self.empty_ns: dict[str, list[float]] = defaultdict(list)
        self.ratio: dict[str, list[float]] = defaultdict(list)
        self.runs: dict[str, int] = defaultdict(int)
        self.requests = 0
        self.spent_ns = 0

    def add(self, ours: Times, empty: Times, requests: int) -> None:
        self.requests += requests
        for name, (spent, runs) in ours.items():
            self.spent_ns += spent
            self.runs[name] += runs
            if runs < _FEWEST:
                continue
            self.ns[name].append(spent / runs)
            time, times = empty.get(_TRACEPOINTS.get(name, ""), (0, 0))
            if times >= _FEWEST:
                nothing = time / times
                self.empty_ns[name].append(nothing)
                self.ratio[name].append(spent / runs / nothing)

    def result(self) -> dict[str, Any]:
        if not self.ns:
            raise BenchmarkError("no program ran: are bpf statistics available on this kernel?")
        programs = {
            name: {
                "ns": spread(values),
                "empty_ns": spread(self.empty_ns[name]) if self.empty_ns[name] else None,
                "ratio": spread(self.ratio[name]) if self.ratio[name] else None,
                "runs_per_request": self.runs[name] / self.requests,
            }
            for name, values in self.ns.items()
        }
        return {
            "programs": programs,
            "rare": sorted(set(self.runs) - set(programs)),
            "ns_per_request": self.spent_ns / self.requests,
        }


def measure(plan: Plan) -> dict[str, Any]:
    """Return, by load, the ns per event of each program and of an empty one on the same hook.

    Both are attached at once and see the same events; which of the two is attached first, and so
    runs first, changes from round to round.
    """
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    with Watcher() as watcher:
        hooks = sorted({_TRACEPOINTS[p] for p in watcher.programs() if p in _TRACEPOINTS})
    with bpf_statistics(), loads(plan.directory) as all_loads:
        for number in range(plan.rounds):
            plan.say(f"programs: round {number + 1} of {plan.rounds}")
            with contextlib.ExitStack() as stack:
                empty = stack.enter_context(Empty(hooks)) if number % 2 else None
                watcher = stack.enter_context(Watcher())
                empty = empty or stack.enter_context(Empty(hooks))
                for name, load in all_loads.items():
                    ours_before, empty_before = watcher.programs(), empty.programs()
                    served = load(plan.seconds)
                    ours = _since(ours_before, watcher.programs())
                    nothing = _since(empty_before, empty.programs())
                    tallies[name].add(ours, nothing, served.requests)
    return {
        "rounds": plan.rounds,
        "loads": {name: tally.result() for name, tally in tallies.items()},
    }
