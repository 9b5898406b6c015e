"""Part `throughput`: what a busy host serves with and without each tool, in pairs."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.kernel_child import process_cpu_s
from benchmarks.kernel_load import Load, Served, loads
from benchmarks.kernel_peers import Peer, tools
from benchmarks.kernel_plan import Plan, spread

_MEASURES = ("per_s", "p50_us", "p99_us", "p999_us")


@dataclass
class _Pairs:
    """What was measured of one load and one tool, an entry per pair."""

    plain: list[Served] = field(default_factory=list)
    watched: list[Served] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    said: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def result(self) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for measure in _MEASURES:
            without = [getattr(one, measure) for one in self.plain]
            with_it = [getattr(one, measure) for one in self.watched]
            answer[measure] = {
                "without": spread(without),
                "with": spread(with_it),
                "ratio": spread([b / a for a, b in zip(without, with_it, strict=True)]),
                "ratios": [b / a for a, b in zip(without, with_it, strict=True)],
            }
        answer["cpu"] = spread(self.cpu)
        answer["said"] = dict(self.said)
        return answer


def _with(tool: AbstractContextManager[Peer], load: Load, seconds: float, into: _Pairs) -> None:
    with tool as peer:
        before, began = process_cpu_s(peer.pid), time.monotonic()
        into.watched.append(load(seconds))
        into.cpu.append((process_cpu_s(peer.pid) - before) / (time.monotonic() - began))
    for name, number in peer.said.items():
        into.said[name] += number


def measure(plan: Plan) -> dict[str, Any]:
    """Return, by load and tool, rates and latencies without and with it, and their ratios.

    Each run with a tool has a run without any beside it; which comes first changes from pair to
    pair, and so does the order of the tools.
    """
    pairs: dict[str, dict[str, _Pairs]] = defaultdict(lambda: defaultdict(_Pairs))
    with loads(plan.directory) as all_loads:
        known = tools(plan.directory)
        for load in all_loads.values():
            load(1.0)  # caches and clocks warm up
        for number in range(plan.pairs):
            for name, load in all_loads.items():
                plan.say(f"throughput: {name}, pair {number + 1} of {plan.pairs}")
                order = list(known) if number % 2 == 0 else list(reversed(known))
                for tool in order:
                    into = pairs[name][tool]
                    if number % 2 == 0:
                        into.plain.append(load(plan.seconds))
                    _with(known[tool](), load, plan.seconds, into)
                    if number % 2:
                        into.plain.append(load(plan.seconds))
    for name, by_tool in pairs.items():
        if lost := by_tool["tailrace"].said["lost"]:
            plan.warn(f"throughput: Tailrace lost {lost:,.0f} samples under {name}.")
    return {
        "pairs": plan.pairs,
        "seconds": plan.seconds,
        "loads": {
            load: {tool: by_tool[tool].result() for tool in known}
            for load, by_tool in pairs.items()
        },
    }
