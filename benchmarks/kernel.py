"""What watching costs, beside other tools in the same run; see docs/overhead.md.

    scripts/bench kernel [PART ...] [--quick] [--pairs N] [--seconds S] [--write]

Parts: programs (ns per event, beside an empty program), throughput (requests served with and
without each tool), sweep (CPU of reading up to 100,000 sockets, beside ss), service (a steady
20,000 requests/s: whole cost, memory, start), idle. All of them without a name. Needs root, and
a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    kernel_programs,
    kernel_service,
    kernel_sweep,
    kernel_throughput,
)
from benchmarks.kernel_child import ROOT, BenchmarkError, busy_s
from benchmarks.kernel_peers import versions
from benchmarks.kernel_plan import Plan
from benchmarks.kernel_sections import SECTIONS
from benchmarks.kernel_watch import Watcher

RESULTS = ROOT / "benchmarks" / "results" / "kernel.json"

PARTS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "programs": kernel_programs.measure,
    "throughput": kernel_throughput.measure,
    "sweep": kernel_sweep.measure,
    "service": kernel_service.measure,
    "idle": kernel_service.measure_idle,
}


def _host() -> dict[str, Any]:
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        # the version without what a vendor appends
        "kernel": re.sub(r"-.*", "", os.uname().release),
        "cores": os.cpu_count(),
        "cpu": cpu.group(1) if cpu else os.uname().machine,
        "memory_gb": int(memory.group(1)) / 1e6 if memory else 0,
        "versions": versions(),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench kernel", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="short, to see that it works")
    parser.add_argument("--pairs", type=int, help="pairs of each comparison (10; quick: 2)")
    parser.add_argument("--seconds", type=float, help="length of a measurement (3; quick: 1)")
    parser.add_argument("--results", type=Path, help="JSON file of the results")
    parser.add_argument("--write", action="store_true", help="write docs/overhead.md, of all parts")
    parser.add_argument(
        "--from-results", action="store_true", help="measure nothing: show, or write, the last run"
    )
    parser.add_argument(
        "--again", action="store_true", help="only these parts; the others are the last run's"
    )
    given = parser.parse_args()
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if given.again and not given.parts:
        parser.error("--again: name the parts to measure")
    if given.write and given.parts and not given.again:
        parser.error("--write is for all parts: name none, or measure some --again")
    if given.results is None:
        # a few parts must not take the place of a whole run
        partial = given.parts and not (given.from_results or given.again)
        given.results = RESULTS.with_name("kernel-parts.json") if partial else RESULTS
    if given.pairs is not None and given.pairs < 1:
        parser.error("--pairs: at least 1")
    if given.seconds is not None and given.seconds < 1:
        parser.error("--seconds: at least 1")
    return given


def _look_for_others(plan: Plan) -> None:
    """Warn when the host is busy before anything is measured."""
    seconds = 3.0
    before, began = busy_s(), time.monotonic()
    time.sleep(seconds)
    busy = (busy_s() - before) / (time.monotonic() - began)
    if busy > 0.05:
        plan.warn(
            f"before anything was measured, this host was busy with {busy:.2f} cores of something "
            "else."
        )


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    if os.geteuid() != 0:
        raise BenchmarkError("watching the kernel, and its meter, need root: run it as root")
    results: dict[str, Any] = {
        "host": _host(),
        "quick": given.quick,
        "failed_starts": Watcher.failed_starts,
        "warnings": [],
        "failed": {},
        "parts": {},
    }
    before: dict[str, Any] = _saved(given.results) if given.again else {"warnings": []}
    results["parts"] |= before.get("parts", {})
    try:  # before an hour of measuring, not after it
        given.results.parent.mkdir(parents=True, exist_ok=True)
        given.results.touch()
    except OSError as error:
        raise BenchmarkError(f"cannot write {given.results}: {error}") from error
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as directory:
        plan = Plan(
            directory=Path(directory),
            quick=given.quick,
            pairs=given.pairs or (2 if given.quick else 10),
            seconds=given.seconds or (1.0 if given.quick else 3.0),
        )
        results["warnings"] = plan.warnings
        plan.warnings.extend(before["warnings"])
        if given.again:
            plan.warn(f"{', '.join(given.parts)}: measured in a run of its own.")
        _look_for_others(plan)
        for name in [part for part in PARTS if part in given.parts or not given.parts]:
            try:
                results["parts"][name] = PARTS[name](plan)
            except (BenchmarkError, AssertionError, subprocess.SubprocessError) as error:
                # the others are still worth having: together they take most of an hour
                results["failed"][name] = str(error)
                plan.say(f"{name} failed: {error}")
            given.results.write_text(json.dumps(results, indent=1) + "\n")
    return results


def _saved(path: Path) -> dict[str, Any]:
    try:
        results: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"cannot read {path}: {error}; measure first") from error
    return results


def main() -> None:
    given = _arguments()
    # what was started is ended on the way out
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        results = _saved(given.results) if given.from_results else _measure(given)
    except BenchmarkError as error:
        sys.exit(f"scripts/bench kernel: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    for warning in results["warnings"]:
        print(f"> {warning}\n")
    for name, result in results["parts"].items():
        if not given.parts or name in given.parts:
            print(SECTIONS[name](result), end="\n\n")
    if given.write:
        missing = [name for name in PARTS if name not in results["parts"]]
        if missing:
            sys.exit(f"scripts/bench kernel: {given.results} has no {', '.join(missing)}")
        # matplotlib is slow to load, and only this needs it
        from benchmarks.kernel_docs import write  # noqa: PLC0415

        for path in write(results):
            print(f"wrote {path.relative_to(ROOT)}")
    if results["failed"]:
        sys.exit("scripts/bench kernel: failed: " + ", ".join(results["failed"]))


if __name__ == "__main__":
    main()
