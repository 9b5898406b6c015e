"""How well the detector keeps its promise, beside other detectors; see docs/detection.md.

    scripts/bench detection [PART ...] [--data DIR] [--quick] [--write]

Parts: curves (labelled ones: recall and delay at the same false alerts), delays (changes of known
size), nulls (realised over requested false alerts where nothing changes), cost. All of them
without a name. DIR has one folder of curves for each set, wsd/ and aiops/, which are not part of
the project; without it the curves are left out. One core, about 40 minutes; --quick about 3.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# one core, as promised; numpy reads it when it is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import detection_cost, detection_curves, detection_delays, detection_nulls
from benchmarks.detection_plan import Plan
from benchmarks.detection_sections import SECTIONS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "detection.json"

PARTS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "curves": detection_curves.measure,
    "delays": detection_delays.measure,
    "nulls": detection_nulls.measure,
    "cost": detection_cost.measure,
}


def _host() -> dict[str, Any]:
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    packages = ("numpy", "scipy", "river")
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "versions": {"Python": platform.python_version()}
        | {name: version(name) for name in packages},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench detection", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--data", type=Path, help="directory with wsd/*.npz and aiops/*.npz")
    parser.add_argument("--quick", action="store_true", help="short, to see that it works")
    parser.add_argument("--most-streams", type=int, help="of the cost (1000000; quick: 10000)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of the results")
    parser.add_argument("--write", action="store_true", help="write docs/detection.md")
    parser.add_argument(
        "--from-results", action="store_true", help="measure nothing: show, or write, the last run"
    )
    given = parser.parse_args()
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if given.data is not None and not given.data.is_dir():
        parser.error(f"--data: {given.data} is no directory")
    if given.most_streams is None:
        given.most_streams = 10_000 if given.quick else 1_000_000
    if given.most_streams < 1_000:
        parser.error("--most-streams: at least 1000")
    return given


def _saved(path: Path) -> dict[str, Any]:
    try:
        results: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"scripts/bench detection: cannot read {path}: {error}; measure first")
    return results


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    plan = Plan(quick=given.quick, data=given.data, most_streams=given.most_streams)
    # parts that are measured again take the place of their last run's; the others stay
    again = bool(given.parts) and given.results.exists()
    results: dict[str, Any] = _saved(given.results) if again else {"parts": {}}
    given.results.parent.mkdir(parents=True, exist_ok=True)
    for name in [part for part in PARTS if part in given.parts or not given.parts]:
        part_began = len(plan.warnings)
        results["parts"][name] = PARTS[name](plan) | {
            "host": _host(),
            "quick": given.quick,
            "warnings": plan.warnings[part_began:],
        }
        given.results.write_text(json.dumps(results, indent=1) + "\n")
    return results


def main() -> None:
    given = _arguments()
    try:
        results = _saved(given.results) if given.from_results else _measure(given)
    except KeyboardInterrupt:
        sys.exit(130)
    for name, result in results["parts"].items():
        if not given.parts or name in given.parts:
            sys.stdout.write(SECTIONS[name](result) + "\n\n")
    if given.write:
        # matplotlib is slow to load, and only this needs it
        from benchmarks.detection_docs import write  # noqa: PLC0415

        for path in write(results):
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
