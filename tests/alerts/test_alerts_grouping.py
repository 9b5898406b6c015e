"""Which findings are one incident and which are several, at one time and one after another."""

import dataclasses
import json
import random
from pathlib import Path

import pytest

from probes.window import Pair
from tailrace.cli import main
from tests.alerts.shop import (
    API1_POSTGRES,
    API1_REDIS,
    API2_REDIS,
    CLIENT_WEB,
    T0,
    WEB_API1,
    WEB_API2,
    WORKER_REDIS,
    busy,
    change,
    failing,
    fallen,
    learned,
    over,
    slow,
)

UNRELATED = {
    "api2 is slow, and worker asks redis for more": [
        ([slow(WEB_API2), slow(CLIENT_WEB)], "api2"),
        ([busy(WORKER_REDIS)], "worker"),
    ],
    "postgres is slow, and worker has no ports left": [
        ([slow(API1_POSTGRES), slow(WEB_API1), slow(CLIENT_WEB)], "postgres"),
        ([failing(WORKER_REDIS, "no_port")], "worker"),
    ],
    "api1 is down, and api2 is slow: web feels both": [
        ([failing(WEB_API1)], "api1"),
        ([slow(WEB_API2)], "api2"),
    ],
    "two clients of redis, each for reasons of its own": [
        ([busy(WORKER_REDIS)], "worker"),
        ([busy(API2_REDIS)], "api2"),
    ],
    "postgres is slow and redis asked for more by api2": [
        ([slow(API1_POSTGRES), slow(WEB_API1)], "postgres"),
        ([busy(API2_REDIS)], "api2"),
    ],
}


@pytest.mark.parametrize("name", UNRELATED)
@pytest.mark.parametrize("seed", range(6))
def test_unrelated_faults_at_one_time_stay_apart(name, seed):
    parts = UNRELATED[name]
    findings = [f for some, _ in parts for f in some]
    random.Random(seed).shuffle(findings)
    incidents = learned()
    for number, finding in enumerate(findings):
        incidents.step([finding], now=T0 + 3 + 0.1 * number)
    found = {i.root.service: set(i.findings) for i in incidents.current()}
    assert found == {root: {f.id for f in some} for some, root in parts}


@pytest.mark.parametrize("seed", range(12))
def test_a_caller_that_feels_two_faults_ties_them_not(seed):
    findings = [failing(WEB_API1), slow(WEB_API2), slow(CLIENT_WEB)]
    random.Random(seed).shuffle(findings)
    incidents = learned()
    for number, finding in enumerate(findings):
        incidents.step([finding], now=T0 + 3 + 0.1 * number)
    roots = [i.root.service for i in incidents.current()]
    assert sorted(roots) == ["api1", "api2"]


def test_roll_ups_of_two_servers_share_no_client():
    incidents = learned()
    first = change(
        Pair("*", "api1", 80), "connect_errors", unit="ratio", after=0.3, cause="refused"
    )
    second = fallen(CLIENT_WEB)
    second = dataclasses.replace(second, pair=Pair("*", "redis", 6379), id="rolled-up")
    incidents.step([first, second], now=T0 + 3)
    assert len(incidents) == 2


def test_what_begins_much_later_is_another_incident():
    incidents = learned()
    incidents.step([slow(WEB_API1)], now=T0 + 3)
    incidents.step([slow(API2_REDIS, onset=T0 + 100)], now=T0 + 103)
    incidents.step([failing(WEB_API1, onset=T0 + 400)], now=T0 + 403)  # of the very same pair
    assert sorted(len(i.findings) for i in incidents.current()) == [1, 2]


def test_a_fault_after_another_is_over_is_an_incident_of_its_own():
    incidents = learned()
    lasting, first = slow(CLIENT_WEB), slow(WEB_API1)
    incidents.step([lasting, first, failing(API1_REDIS)], now=T0 + 3)
    ends = [over(f, after_s=30.0) for f in (first, failing(API1_REDIS))]
    incidents.step(ends, now=T0 + 33)
    assert len(incidents) == 1  # its callers still feel it
    lost = change(WEB_API1, "retransmits", unit="ratio", after=0.3, side="network", onset=T0 + 80)
    incidents.step([lost], now=T0 + 83)
    assert len(incidents) == 2


def test_what_became_better_is_no_part_of_what_fails_later():
    incidents = learned()
    better = change(WEB_API1, "request_latency", "down", ratio=0.02, after=4e-5)
    incidents.step([better], now=T0 + 3)
    incidents.step([failing(WEB_API1, onset=T0 + 50)], now=T0 + 53)
    assert len(incidents) == 2


def test_who_fails_at_once_answers_sooner():
    incidents = learned()
    better = change(WEB_API1, "request_latency", "down", ratio=0.02, after=4e-5)
    incidents.step([better, failing(API1_REDIS)], now=T0 + 3)
    [incident] = incidents.current()
    assert incident.root.service == "redis"


def test_a_cause_that_is_found_later_makes_two_incidents_one():
    incidents = learned()
    [one] = incidents.step([slow(WEB_API1)], now=T0 + 3)
    [two] = incidents.step([slow(WEB_API2)], now=T0 + 4)
    assert one.incident.id != two.incident.id
    firing = [c for n in range(5, 20) for c in incidents.step([], now=T0 + n)]
    assert [c.event for c in firing] == ["firing", "firing"]
    changes = incidents.step([slow(API1_REDIS, detected=T0 + 20)], now=T0 + 20)
    assert [(c.event, c.incident.root.service) for c in changes] == [(None, "redis")]
    changes = incidents.step([slow(API2_REDIS, detected=T0 + 21)], now=T0 + 21)
    [merged] = [c for c in changes if c.event == "resolved"]
    assert merged.incident.id == two.incident.id
    assert (merged.incident.ended_as, merged.incident.part_of) == ("merged", one.incident.id)
    assert f"Part of the incident {one.incident.id}" in merged.incident.summary
    [left] = incidents.current()
    assert (left.id, len(left.findings), left.root.service) == (one.incident.id, 4, "redis")
    assert [c for n in range(22, 90) for c in incidents.step([], now=T0 + n) if c.event] == []


def test_simulated_traffic_with_two_faults_at_once(tmp_path, capsys):
    """Through the detector: what it finds of either fault is one incident each."""
    recording = tmp_path / "shop.csv"
    scenario = Path(__file__).with_name("shop.toml")
    assert main(["simulate", str(scenario), "-o", str(recording)]) == 0
    outputs = []
    for _ in range(2):
        capsys.readouterr()
        assert main(["replay", str(recording), "--incidents", "-o", "jsonl"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    found = [json.loads(line) for line in outputs[0].splitlines()]
    events = {}
    for each in found:
        events.setdefault(each["roots"][0]["service"], []).append(each["event"])
    assert events == {"postgres": ["firing", "resolved"], "worker": ["firing", "resolved"]}
    pairs = {
        root: {(f["client"], f["server"]) for i in found for f in i["symptoms"]
               if i["roots"][0]["service"] == root}
        for root in events
    }  # fmt: skip
    assert pairs["postgres"] == {("client", "web"), ("web", "api1"), ("api1", "postgres")}
    assert pairs["worker"] == {("worker", "redis")}
