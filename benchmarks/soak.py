"""The daemon beside an hour of healthy load that varies: what it tells, costs, and says of itself.

    scripts/bench soak [--minutes 60] [--record FILE] [--no-slow] [--starve]

The load (`tests/support/mixed.py`) runs in a network namespace of its own, on its loopback: nginx
by kept and by single connections, Redis with a queue and a worker that pauses, PostgreSQL, DNS, a
UNIX socket, jobs; rates follow a random walk, some of them a wave that doubles them. Every finding
about it is wrong. Two pairs beside it change slowly: from a quarter of the time on, one's latency
grows by 2 % a minute; at half time, the other becomes 15 % slower for good.

All this runs before other programs of the host, because a service that waits for a CPU is slow, and
told; with --starve it takes its turn.

The recording is what `tailrace replay` judges again, and what `tailrace simulate` can start from.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.kernel_child import process_cpu_s, pss_bytes
from detector.engine import Detector
from detector.finding import Finding
from detector.settings import DetectorSettings
from tailrace import recording
from tests.support.daemon import configure, daemon, epoch, tailrace
from tests.support.mixed import Namespace, first, mixed
from tests.support.netns import lone_host
from tests.support.traffic import say

LEAK_PER_MINUTE, STEP = 1.02, 1.15
MEDIAN_S = 0.02
SENSITIVE = 0.05
LEAKING, DEPLOYED = "leaking.py", "deployed.py"


class Slow:
    """The two pairs that change slowly, or by little."""

    def __init__(self, at: Namespace) -> None:
        self._leaking = self._pair(at, "leaking", "127.0.0.1:8101")
        self._deployed = self._pair(at, "deployed", "127.0.0.1:8102")
        self.leak_s = self.step_s = math.inf

    @staticmethod
    def _pair(at: Namespace, name: str, where: str) -> subprocess.Popen[str]:
        server = at.serve(name, where, "--median", MEDIAN_S)
        at.service(f"to-{name}", "call", "http", where, "--rate", 15, "--threads", 2,
                   "--walk", 0.1)  # fmt: skip
        return server

    def move(self, share: float) -> None:
        """Set both to what they are after this share of the whole time."""
        now = time.time()
        if share >= 0.25:
            self.leak_s = min(self.leak_s, now)
            minutes = (now - self.leak_s) / 60.0
            say(self._leaking, str(MEDIAN_S * LEAK_PER_MINUTE**minutes))
        if share >= 0.5 and self.step_s > now:
            self.step_s = now
            say(self._deployed, str(MEDIAN_S * STEP))


class Pressure:
    """How much of the time somebody had to wait for a CPU: whose fault a slow answer may be.

    Source: /proc/pressure/cpu, Documentation/accounting/psi.rst of the kernel.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []

    def look(self) -> None:
        """Take note of it now."""
        file = Path("/proc/pressure/cpu")
        if file.exists():
            total_us = int(file.read_text().split("total=")[1].split()[0])
            self._seen.append((time.time(), total_us / 1e6))

    def between(self, start: float, end: float) -> float:
        """Return the share of [start, end] (epoch s) and up to 10 s around it; NaN: unknown."""
        before = [seen for seen in self._seen if seen[0] <= start]
        after = [seen for seen in self._seen if seen[0] >= end]
        if not before or not after:
            return math.nan
        (since, least), (until, most) = before[-1], after[0]
        return (most - least) / max(until - since, 1e-9)


def _findings(directory: Path) -> dict[str, dict[str, Any]]:
    run = tailrace(
        "report", "--since", "1d", "--state-dir", directory / "state", "-o", "jsonl",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return {found["id"]: found for found in map(json.loads, run.stdout.splitlines())}


def _line(finding: dict[str, Any], began: float) -> str:
    minute = (epoch(finding["detected"]) - began) / 60.0
    late_s = epoch(finding["detected"]) - epoch(finding["onset"])
    change = f"{finding['before']} -> {finding['after']} {finding['unit']}"
    pair = f"{finding['client']} -> {finding['server']}:{finding['port']}"
    return (
        f"  minute {minute:5.1f}: {pair} {finding['signal']} {finding['direction']} {change}, "
        f"1 in 10^{finding['significance'] or math.inf:.1f}, {late_s:.0f} s after its onset, "
        f"{finding['state']}, {finding['id']}"
    )


def _tell(title: str, findings: Iterable[dict[str, Any]], began: float, pressure: Pressure) -> None:
    found = sorted(findings, key=lambda finding: str(finding["detected"]))
    print(f"\n{title}: {len(found)}")
    for finding in found:
        waited = pressure.between(epoch(finding["onset"]), epoch(finding["detected"]))
        print(f"{_line(finding, began)}; somebody waited for a CPU in {waited:.0%} of that time")


def _judged(path: Path, settings: DetectorSettings) -> tuple[Detector, list[Finding]]:
    """Judge a recording once more; return the detector as it is then, and what it found."""
    detector, found = Detector(settings), list[Finding]()
    for window in recording.load([path]):
        found += detector.update(window)
    return detector, found


def _calibration(detector: Detector) -> None:
    print("\ncalibration (false alarms that the budget allowed, alarms that came)")
    for each in detector.calibration():
        print(
            f"  {each.kind.value:9} {each.streams:4} streams, {each.stream_weeks:.4f} stream-weeks:"
            f" {each.expected:.4f} expected, {each.realised} realised, e-value {each.e_value:.3f},"
            f" {each.threshold} (+{each.raised_nats:.1f} nats)"
        )


def _news_of_deploy(found: Iterable[Finding], began: float) -> None:
    print(f"\nthe same deploy where {SENSITIVE:.0%} of latency is news")
    for finding in found:
        if finding.pair.server == DEPLOYED:
            at = finding.detected if finding.state == "firing" else finding.ended
            minute = ((at or math.nan) - began) / 60.0
            print(
                f"  minute {minute:.1f}: {finding.signal} {finding.direction} {finding.before:.4f}"
                f" -> {finding.after:.4f}, {finding.state}"
            )


def _soak(given: argparse.Namespace, directory: Path, stack: ExitStack) -> None:
    namespace = stack.enter_context(lone_host())
    at = stack.enter_context(mixed(namespace, directory))
    slow = Slow(at) if given.slow else None
    budget = f'overhead_budget = "{given.overhead_budget}"' if given.overhead_budget else ""
    configure(directory, extra=f'[probes]\nnetns = ["{namespace}"]\n{budget}\n')
    with daemon(directory, "--record", given.record) as running:
        pid, began = running.process.pid, running.started
        pressure = Pressure()
        cpu_before, since, told = process_cpu_s(pid), time.monotonic(), set[str]()
        while (minutes := (time.monotonic() - since) / 60.0) < given.minutes:
            if slow:
                slow.move(minutes / given.minutes)
            pressure.look()
            findings = _findings(directory)
            for number in findings.keys() - told:
                print(_line(findings[number], began), flush=True)
            told |= findings.keys()
            time.sleep(min(10.0, 60.0 * (given.minutes - minutes)))
        pressure.look()
        share = (process_cpu_s(pid) - cpu_before) / (time.monotonic() - since)
        memory = pss_bytes(pid) / 1e6
    findings = _findings(directory)
    mine: dict[str, list[dict[str, Any]]] = {LEAKING: [], DEPLOYED: []}
    wrong = []
    for finding in findings.values():
        mine.get(finding["server"], wrong).append(finding)
    print(f"\n{given.minutes:g} minutes, {share:.2%} of a core in the daemon, {memory:.0f} MB")
    for line in running.said().splitlines():
        if "level=warning" in line and "event=incident" not in line:
            print(line)
    _tell("findings about the healthy load, all wrong", wrong, began, pressure)
    if slow:
        leak, step = ((each - began) / 60.0 for each in (slow.leak_s, slow.step_s))
        _tell(f"latency + 2 % a minute from minute {leak:.1f} on", mine[LEAKING], began, pressure)
        _tell(f"15 % slower from minute {step:.1f} on", mine[DEPLOYED], began, pressure)
        sensitive = DetectorSettings(min_change={"request_latency": SENSITIVE})
        _news_of_deploy(_judged(given.record, sensitive)[1], began)
    _calibration(_judged(given.record, DetectorSettings())[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--record", type=Path, help="keep the recording here (.csv, .parquet)")
    parser.add_argument("--slow", action=argparse.BooleanOptionalAction, default=True,
                        help="with the two pairs that change slowly")  # fmt: skip
    parser.add_argument("--overhead-budget", default="", help="as in [probes], such as 5%%")
    parser.add_argument("--starve", action="store_true",
                        help="let the services wait for a CPU like all others")  # fmt: skip
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("soak: a network namespace of its own needs root")
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        directory = Path(place)
        given.record = given.record or directory / "soak.csv"
        if not given.starve:
            stack.enter_context(first())
        _soak(given, directory, stack)


if __name__ == "__main__":
    main()
