"""Five real services, and faults that are one incident each, with the right root first.

`scripts/bench incidents` has all the faults, many times.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.servers.webhook import WebhookServer
from tests.support.daemon import configure, daemon, epoch, webhook_receiver
from tests.support.mixed import first
from tests.support.netns import lone_host
from tests.support.tiers import Fault, tiers
from tests.support.traffic import wait_for

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

LEARNING_S, FAULT_S, OVER_WITHIN_S = 75.0, 20.0, 120.0
ONSET_S = 5.0
"""Beside the other tests; `scripts/bench incidents` has the host for itself and asks for 3 s."""
FAULTS = ("redis stopped", "slow new version")


def _told(hook: WebhookServer, since: float) -> list[dict[str, Any]]:
    """Return the last state of each incident that was told since then."""
    last = {
        received.body["data"]["id"]: received.body["data"]
        for received in list(hook.accepted)
        if received.arrived >= since and received.type.startswith("incident.")
    }
    return list(last.values())


def _problems(fault: Fault, told: list[dict[str, Any]], began: float) -> list[str]:
    if len(told) != 1:
        return [f"{fault.name}: {len(told)} incidents: {[one['title'] for one in told]}"]
    [incident] = told
    root, trigger = incident["roots"][0], incident["trigger"] or {"kind": ""}
    print(f"{fault.name}: {incident['summary']}")
    problems = []
    if root["service"] not in fault.root:
        problems.append(f"{fault.name}: {root['service']} is called the root: {root['why']}")
    if fault.trigger and trigger["kind"] != fault.trigger:
        problems.append(f"{fault.name}: set off by {trigger}")
    if abs(epoch(incident["started"]) - began) > ONSET_S:
        problems.append(f"{fault.name}: since {incident['started']}, began {began}")
    wanted = ("title", "summary", "affected", "symptoms")
    problems += [f"{fault.name}: no {name}" for name in wanted if not incident[name]]
    return problems


def test_each_fault_is_one_incident_with_its_root_first() -> None:
    problems = []
    with (
        # PostgreSQL's own user could not pass through pytest's directories
        tempfile.TemporaryDirectory() as place,
        WebhookServer() as hook,
        first(),
        lone_host() as namespace,
        tiers(namespace, Path(place)) as services,
    ):
        probes = f'[probes]\nnetns = ["{namespace}"]\noverhead_budget = "5%"\n'
        configure(Path(place), webhook_receiver(hook), extra=probes)
        with daemon(Path(place)):
            time.sleep(LEARNING_S)
            problems += [f"before any fault: {one['title']}" for one in _told(hook, 0.0)]
            for fault in (each for each in services.faults() if each.name in FAULTS):
                began = time.time()
                fault.begin()
                time.sleep(FAULT_S)
                fault.end()
                wait_for(
                    lambda since=began: all(
                        one["state"] == "resolved" for one in _told(hook, since)
                    ),
                    within_s=OVER_WITHIN_S,
                    what=f"{fault.name} is over",
                )
                problems += _problems(fault, _told(hook, began), began)
    assert not problems, "\n".join(problems)
