"""Faults of five real services, and whether each is one incident that names its root.

    scripts/bench incidents [--runs 10] [--healthy 45] [--record FILE]

The services (`tests/support/tiers.py`) run in a network namespace of their own under load. One
fault at a time, `--runs` times each, in turn: how many incidents were told, whether the right
service is the first root, by how much the onset is off, whether the trigger was named. Then
`--healthy` minutes with a wave, a scale-out and a rolling restart, in which nothing may be told.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.servers.webhook import WebhookServer
from tests.support.daemon import configure, daemon, epoch, webhook_receiver
from tests.support.mixed import first
from tests.support.netns import lone_host
from tests.support.tiers import Fault, Tiers, tiers

LEARNING_S, FAULT_S = 90.0, 25.0
SETTLE_S = 150.0
"""Longest wait for an incident to be over before the next fault begins."""
ONSET_S = 3.0


class Judge:
    """What was told of each fault, and how right it was."""

    def __init__(self, hook: WebhookServer) -> None:
        self._hook = hook
        self.told: dict[str, Counter[str]] = defaultdict(Counter)

    def incidents(self, since: float) -> list[dict[str, Any]]:
        """Return the last state of each incident told since then."""
        last: dict[str, dict[str, Any]] = {}
        for received in list(self._hook.accepted):
            if received.arrived >= since and received.type.startswith("incident."):
                last[received.body["data"]["id"]] = received.body["data"]
        return [one for one in last.values() if epoch(one["started"]) >= since - 5.0]

    def over(self, since: float) -> bool:
        """Return whether nothing told since then still fires."""
        return all(one["state"] == "resolved" for one in self.incidents(since))

    def judge(self, fault: Fault, began: float) -> None:
        """Print and count what was told of one fault."""
        found = self.incidents(began)
        told = self.told[fault.name]
        told["runs"] += 1
        told["one incident"] += len(found) == 1
        main = min(found, key=lambda one: str(one["detected"]), default=None)
        if main is None:
            print(f"  {fault.name}: NOT TOLD", flush=True)
            return
        off_s = epoch(main["started"]) - began
        root = main["roots"][0]
        told["root first"] += root["service"] in fault.root
        told["onset"] += abs(off_s) <= ONSET_S
        told["complete"] += _complete(main)
        kind = (main["trigger"] or {}).get("kind", "")
        told["trigger"] += kind == fault.trigger
        late_s = epoch(main["detected"]) - began
        print(
            f"  {fault.name}: {len(found)} incident(s); root {root['service']} ({root['side']},"
            f" {root['score']:.2f}); onset {off_s:+.1f} s, found after {late_s:.1f} s; trigger"
            f" {kind or 'none'}; {main['severity']}; {main['title']}",
            flush=True,
        )
        for other in found:
            if other is not main:
                print(f"      also: {other['title']} ({other['severity']}, {other['started']})")


def _complete(incident: dict[str, Any]) -> bool:
    """Return whether a message has all that a person asks first."""
    wanted = ("title", "summary", "severity", "started", "roots", "affected", "symptoms")
    return all(incident[key] for key in wanted) and bool(incident["roots"][0]["why"])


def _faults(given: argparse.Namespace, services: Tiers, judge: Judge) -> None:
    for run in range(given.runs):
        print(f"run {run + 1}", flush=True)
        for fault in services.faults():
            if given.only and given.only not in fault.name:
                continue
            began = time.time()
            fault.begin()
            time.sleep(FAULT_S)
            fault.end()
            ended = time.time()
            while time.time() < ended + SETTLE_S:
                time.sleep(2.0)
                if time.time() > ended + 15.0 and judge.over(began):
                    break
            judge.judge(fault, began)
            print(f"      truth: {began:.1f} to {ended:.1f}", flush=True)


def _healthy(minutes: float, services: Tiers, judge: Judge) -> None:
    began = time.time()
    events = [(0.3, services.scale_out), (0.7, services.roll)]
    while (passed := (time.time() - began) / 60.0) < minutes:
        while events and passed >= events[0][0] * minutes:
            events.pop(0)[1]()
        time.sleep(2.0)
    found = judge.incidents(began)
    print(f"{minutes:g} healthy minutes: {len(found)} incidents told, all wrong")
    for one in found:
        print(f"  {one['started']} {one['severity']}: {one['summary']}")


def _table(told: dict[str, Counter[str]]) -> None:
    for name, counted in told.items():
        runs = counted.pop("runs")
        print(f"{name}: " + ", ".join(f"{what} {many}/{runs}" for what, many in counted.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="of each fault")
    parser.add_argument("--only", default="", help="only faults whose name has this in it")
    parser.add_argument("--healthy", type=float, default=45.0, help="minutes without a fault")
    parser.add_argument("--record", type=Path, help="keep the recording here (.csv, .parquet)")
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("incidents: a network namespace of its own needs root")
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        directory = Path(place)
        stack.enter_context(first())
        hook = stack.enter_context(WebhookServer())
        namespace = stack.enter_context(lone_host())
        services = stack.enter_context(tiers(namespace, directory))
        extra = f'[probes]\nnetns = ["{namespace}"]\noverhead_budget = "5%"\n'
        configure(directory, webhook_receiver(hook), extra=extra)
        words = ("--record", given.record) if given.record else ()
        with daemon(directory, *words):
            judge = Judge(hook)
            time.sleep(LEARNING_S)
            for one in judge.incidents(0.0):
                print(f"before any fault: {json.dumps(one['title'])}")
            _faults(given, services, judge)
            _table(judge.told)
            if given.healthy:
                _healthy(given.healthy, services, judge)


if __name__ == "__main__":
    main()
