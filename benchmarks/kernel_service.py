"""Parts `service` and `idle`: the whole cost on a host with a steady load, and on one without."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.kernel_child import Child, bpf_statistics, busy_s, process_cpu_s
from benchmarks.kernel_child import pss_bytes as pss_of
from benchmarks.kernel_load import REQUEST, answer_bytes, build_traffic, drive, progress, serve
from benchmarks.kernel_peers import tools
from benchmarks.kernel_plan import Plan, spread
from benchmarks.kernel_watch import Watcher, cpu_share
from probes.bytecode import CACHE_VARIABLE
from tests.support.daemon import configure, daemon
from tests.support.traffic import answers, nginx

CONNECTIONS = 1_000
RATE = 20_000
_NAMES, _PORTS = 10, 1_000  # 10,000 pairs
_PAIRS_RATE = 10_000
_FIRST_PORT = 17_000


def _answered(client: Child, since: tuple[int, int, int], seconds: float) -> float:
    """Return the requests answered per second; a busy host may not keep the pace."""
    return (progress(client)[1] - since[1]) / seconds


def _steady(plan: Plan, client: Child) -> dict[str, Any]:
    """Measure the kernel's and the observing process's share of a core, segment by segment."""
    kernel, process, rates = [], [], []
    lost = 0
    windows = 4 if plan.quick else 10
    with bpf_statistics(), Watcher() as watcher:
        watcher.windows(3)
        for _ in range(plan.rounds):
            sent_before, before = progress(client), watcher.programs()
            began = time.monotonic()
            seen = watcher.windows(windows + 1)
            after, seconds = watcher.programs(), time.monotonic() - began
            rates.append(_answered(client, sent_before, seconds))
            spent = sum(after[name][0] - before[name][0] for name in after)
            kernel.append(spent / 1e9 / seconds)
            process.append(cpu_share(seen))
            lost += sum(one.lost for one in seen)
        memory = watcher.pss_bytes()
    if lost:
        plan.warn(f"service: {lost:,} samples were lost at {CONNECTIONS:,} connections.")
    if min(rates) < 0.95 * RATE:
        plan.warn(
            f"service: at times only {min(rates):,.0f} of {RATE:,} requests/s were answered: this "
            "host is too slow, or busy with something else."
        )
    whole = [k + p for k, p in zip(kernel, process, strict=True)]
    return {
        "connections": CONNECTIONS,
        "rate": spread(rates),
        "kernel": spread(kernel),
        "process": spread(process),
        "whole": spread(whole),
        "lost": lost,
        "pss_bytes": memory,
    }


def _host(plan: Plan, client: Child, port: int) -> dict[str, Any]:
    """Measure by how much each tool makes the whole host busier, in cores, in pairs."""
    known = tools(plan.directory)
    without: list[float] = []
    more: dict[str, list[float]] = defaultdict(list)
    plain_rates: list[float] = []
    rates: dict[str, list[float]] = defaultdict(list)
    seconds = plan.seconds

    def busy(rates: list[float]) -> float:
        sent, before, began = progress(client), busy_s(), time.monotonic()
        time.sleep(seconds)
        taken, cpu = time.monotonic() - began, busy_s() - before
        rates.append(_answered(client, sent, taken))
        return cpu / taken

    for number in range(plan.rounds):
        plan.say(f"service: the whole host, pair {number + 1} of {plan.rounds}")
        for name in list(known) if number % 2 == 0 else list(reversed(known)):
            plain = busy(plain_rates) if number % 2 == 0 else 0.0
            with known[name]():
                watched = busy(rates[name])
                answers(port)  # the two that count connections tell of those that have ended
            plain = plain or busy(plain_rates)
            without.append(plain)
            more[name].append(watched - plain)
    return {
        "without": spread(without),
        "more": {name: spread(more[name]) for name in known},
        "rate": spread(plain_rates),
        "rates": {name: spread(rates[name]) for name in known},
        "pairs": plan.rounds,
        "seconds": seconds,
    }


def _daemon(plan: Plan, client: Child) -> dict[str, Any]:
    """Measure the whole daemon, which also detects and stores, under the same load."""
    directory = plan.directory / "daemon"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    configure(directory)
    shares, rates = [], []
    with daemon(directory) as running:
        pid = running.process.pid
        time.sleep(3.0)
        for _ in range(plan.rounds):
            sent, before, began = progress(client), process_cpu_s(pid), time.monotonic()
            time.sleep(5.0)
            seconds = time.monotonic() - began
            shares.append((process_cpu_s(pid) - before) / seconds)
            rates.append(_answered(client, sent, seconds))
        memory = pss_of(pid)
    return {"process": spread(shares), "pss_bytes": memory, "rate": spread(rates)}


def _many_pairs(plan: Plan, program: Path) -> dict[str, Any]:
    """Measure the observing process with 10,000 service pairs: ten clients of a thousand ports."""
    address = "127.77.1.1"
    with contextlib.ExitStack() as stack:
        stack.enter_context(serve(program, address, _FIRST_PORT, _PORTS, len(REQUEST)))
        for number in range(_NAMES):
            # a service is named after its program
            copy = plan.directory / f"client{number}"
            shutil.copy(program, copy)
            stack.enter_context(
                drive(
                    copy,
                    address,
                    _FIRST_PORT,
                    ports=_PORTS,
                    connections=_PORTS,
                    rate=_PAIRS_RATE / _NAMES,
                    reply_bytes=len(REQUEST),
                )
            )
        with Watcher() as watcher:
            watcher.windows(3)
            seen = watcher.windows(6 if plan.quick else 20)
            pairs = round(statistics.median(one.pairs for one in seen))
            lost = sum(one.lost for one in seen)
            if lost or abs(pairs - _NAMES * _PORTS) > _NAMES * _PORTS / 50:
                plan.warn(
                    f"service: of {_NAMES * _PORTS:,} pairs {pairs:,} were seen, and {lost:,} "
                    "samples lost."
                )
            return {
                "pairs": pairs,
                "most_pairs": max(one.pairs for one in seen),
                "rate": _PAIRS_RATE,
                "process": cpu_share(seen),
                "lost": lost,
                "pss_bytes": watcher.pss_bytes(),
            }


def _starts(rounds: int) -> dict[str, Any]:
    ready, first, cpu = [], [], []
    for _ in range(rounds):
        with Watcher() as watcher:
            ready.append(watcher.ready_s)
            first.append(watcher.first_window_s)
            cpu.append(watcher.start_cpu_s)
    return {"ready_s": spread(ready), "first_window_s": spread(first), "cpu_s": spread(cpu)}


def _start(plan: Plan) -> dict[str, Any]:
    """Measure starts that have to compile, and starts that do not."""
    again = _starts(plan.rounds)
    before = os.environ.get(CACHE_VARIABLE)
    try:
        # no directory can be made under a file: nothing is kept
        os.environ[CACHE_VARIABLE] = f"{__file__}/none"
        return {"first": _starts(plan.rounds), "again": again}
    finally:
        if before is None:
            del os.environ[CACHE_VARIABLE]
        else:
            os.environ[CACHE_VARIABLE] = before


def measure(plan: Plan) -> dict[str, Any]:
    """Return the cost at 1,000 connections and 20,000 requests/s, memory, and the start's time."""
    program = build_traffic(plan.directory)
    plan.say("service: start-up")
    start = _start(plan)
    with nginx(plan.directory) as server:
        reply = answer_bytes(server.port)
        with drive(
            program,
            "127.0.0.1",
            server.port,
            connections=CONNECTIONS,
            rate=RATE,
            reply_bytes=reply,
        ) as client:
            plan.say(f"service: {CONNECTIONS:,} connections, {RATE:,} requests/s")
            steady = _steady(plan, client)
            plan.say("service: the daemon")
            whole_daemon = _daemon(plan, client)
            host = _host(plan, client, server.port)
    plan.say(f"service: {_NAMES * _PORTS:,} pairs")
    pairs = _many_pairs(plan, program)
    return {
        "steady": steady,
        "daemon": whole_daemon,
        "host": host,
        "many_pairs": pairs,
        "start": start,
    }


def measure_idle(plan: Plan) -> dict[str, Any]:
    """Return the CPU of the observing process while nothing happens, as a share of a core."""
    windows = 5 if plan.quick else 15
    with Watcher() as watcher:
        watcher.windows(2)
        plan.say(f"idle: {plan.rounds * windows} s")
        seen = [watcher.windows(windows + 1) for _ in range(plan.rounds)]
        return {"process": spread([cpu_share(part) for part in seen]), "windows": windows}
