"""A fault at any place of a system is one incident, and its root is where the fault is."""

import dataclasses
import itertools
import json
import random

import pytest

from alerts.incident import Trigger, incident_from_json
from probes.window import ANY, Pair
from tests.alerts.shop import (
    API1_POSTGRES,
    API1_REDIS,
    API2_REDIS,
    CLIENT_WEB,
    RATES,
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
    run,
    silent,
    slow,
)

FAULTS = {
    "postgres is slow": (
        [slow(API1_POSTGRES), slow(WEB_API1, onset=T0 + 1), slow(CLIENT_WEB, onset=T0 + 2)],
        ("postgres", "server"),
    ),
    "postgres is slow, and everybody asks less": (
        [
            slow(API1_POSTGRES), slow(WEB_API1), slow(CLIENT_WEB), fallen(API1_POSTGRES, 0.4),
            fallen(API1_REDIS, 0.4), fallen(WEB_API1, 0.4), fallen(WEB_API2, 0.5),
            fallen(API2_REDIS, 0.5), fallen(CLIENT_WEB, 0.5),
        ],
        ("postgres", "server"),
    ),
    "redis is slow": (
        [
            slow(API1_REDIS), slow(API2_REDIS, onset=T0 + 2), slow(WORKER_REDIS, onset=T0 + 1),
            slow(WEB_API1, ratio=3.0), slow(WEB_API2, onset=T0 + 4), slow(CLIENT_WEB, ratio=2.0),
        ],
        ("redis", "server"),
    ),
    "redis is slow, by latencies of one end only": (
        [slow(API1_REDIS, side=""), slow(API2_REDIS, side=""), slow(WORKER_REDIS, side="")],
        ("redis", "server"),
    ),
    "redis is down": (
        [
            failing(API1_REDIS), failing(API2_REDIS), failing(WORKER_REDIS),
            slow(WEB_API1, onset=T0 + 3), slow(CLIENT_WEB, onset=T0 + 3),
        ],
        ("redis", "server"),
    ),
    "redis is down for thin clients, and who fails at once answers sooner": (
        [
            failing(Pair("*", "redis", 6379)),
            change(WEB_API1, "request_latency", "down", ratio=0.02, onset=T0 + 1),
            change(CLIENT_WEB, "request_latency", "down", ratio=0.02, onset=T0 + 1),
        ],
        ("redis", "server"),
    ),
    "web refuses a client that asks every 20 s": (
        [
            failing(CLIENT_WEB, onset=T0 + 24, detected=T0 + 24),
            fallen(CLIENT_WEB, detected=T0 + 25),
            silent(CLIENT_WEB, onset=T0 + 4, detected=T0 + 30),
        ],
        ("web", "server"),
    ),
    "postgres does not answer": (
        [failing(API1_POSTGRES, "timed_out"), fallen(API1_POSTGRES), slow(WEB_API1)],
        ("postgres", "server"),
    ),
    "api1 is slow by itself": ([slow(WEB_API1), slow(CLIENT_WEB, ratio=4.0)], ("api1", "server")),
    "api2 is down": (
        [failing(WEB_API2), fallen(API2_REDIS), silent(API2_REDIS, onset=T0 + 5)],
        ("api2", "server"),
    ),
    "api1 is slow, in the words of a foreign recording": (
        [
            change(WEB_API1, "p95_latency_ms", before=2.0, after=20.0, unit=""),
            change(CLIENT_WEB, "Availability", "down", before=1.0, after=0.6, ratio=0.6, unit=""),
        ],
        ("api1", "server"),
    ),
    "web is slow by itself": ([slow(CLIENT_WEB)], ("web", "server")),
    "web does not read": (
        [slow(WEB_API1, side="client"), slow(WEB_API2, side="client"), slow(CLIENT_WEB)],
        ("web", "client"),
    ),
    "worker asks for more": (
        [busy(WORKER_REDIS), change(WORKER_REDIS, "bytes_sent", side="client", ratio=5.0)],
        ("worker", "client"),
    ),
    "worker asks for so much that redis is slow": (
        [
            busy(WORKER_REDIS), slow(WORKER_REDIS), slow(API1_REDIS, onset=T0 + 1),
            slow(API2_REDIS, onset=T0 + 2), slow(WEB_API1), slow(WEB_API2), slow(CLIENT_WEB),
        ],
        ("worker", "client"),
    ),
    "client asks for more": (
        [
            busy(CLIENT_WEB, 3.0), busy(WEB_API1, 3.0), busy(WEB_API2, 3.0), busy(API1_REDIS, 3.0),
            busy(API1_POSTGRES, 3.0), busy(API2_REDIS, 3.0),
        ],
        ("client", "client"),
    ),
    "worker has no ports left": ([failing(WORKER_REDIS, "no_port")], ("worker", "client")),
    "worker stops": ([silent(WORKER_REDIS), fallen(WORKER_REDIS)], ("worker", "client")),
    "the network to postgres loses, and only one end is seen": (
        [
            change(API1_POSTGRES, "retransmits", side="network", unit="ratio"),
            slow(API1_POSTGRES, side=""),
        ],
        ("postgres", "network"),
    ),
    "the network to postgres loses": (
        [
            change(API1_POSTGRES, "retransmits", side="network", unit="ratio"),
            slow(API1_POSTGRES, side="network"), slow(WEB_API1), slow(CLIENT_WEB),
        ],
        ("postgres", "network"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_incident_whose_root_is_where_it_is(name):
    findings, expected = FAULTS[name]
    changes, incidents = run(findings)
    [incident] = incidents.current()
    assert {c.incident.id for c in changes if c.event == "firing"} == {incident.id}
    assert set(incident.findings) == {f.id for f in findings}
    root = incident.root
    assert (root.service, root.side) == expected, incident.roots
    assert incident.symptoms[0].pair.server == expected[0] or (
        incident.symptoms[0].pair.client == expected[0]
    )
    assert sum(each.score for each in incident.roots) <= 1.0 + 1e-9
    first = next(c.incident for c in changes if c.event == "firing")
    assert first.root.service == expected[0]  # the first message has it already


@pytest.mark.parametrize("name", FAULTS)
def test_the_order_in_which_findings_arrive_does_not_matter(name):
    findings, expected = FAULTS[name]
    chance = random.Random(1)
    orders = itertools.permutations(findings)
    for order in itertools.islice(orders, 24) if len(findings) < 5 else (
        chance.sample(findings, len(findings)) for _ in range(30)
    ):  # fmt: skip
        incidents = learned()
        for number, finding in enumerate(order):
            incidents.step([finding], now=T0 + 3 + 0.1 * number)
        [incident] = incidents.current()
        assert (incident.root.service, incident.root.side) == expected
        assert set(incident.findings) == {f.id for f in findings}


def test_nobody_can_tell_a_caller_that_stopped_from_its_only_server_that_did():
    pairs = (CLIENT_WEB, WEB_API1, WEB_API2, API1_REDIS, API1_POSTGRES, API2_REDIS)
    _, incidents = run([fallen(pair) for pair in pairs])
    [incident] = incidents.current()
    first, second = incident.roots[:2]
    assert {first.service, second.service} == {"client", "web"}
    assert first.score - second.score < 0.2


def test_within_a_window_the_order_changes_nothing_at_all():
    findings, _ = FAULTS["redis is slow"]
    seen = set()
    for order in itertools.permutations(findings):
        incidents = learned()
        changes = incidents.step(order, now=T0 + 5)
        seen.add(json.dumps([c.incident.to_json() for c in changes]))
    assert len(seen) == 1


def test_who_accepts_nobody_is_the_root_before_it_is_seen_that_it_drops():
    """Whoever asks web waits, so web is well with nobody; what api2 turns away shows later."""
    listener = Pair(ANY, "api2", 8080)
    incidents = learned(rates=RATES | {listener: 2.0})
    findings = [
        change(WEB_API2, "retransmits", unit="ratio", before=0.0, after=1.0, ratio=None),
        fallen(WEB_API2), fallen(WEB_API1, onset=T0 + 1), fallen(CLIENT_WEB, onset=T0 + 1),
    ]  # fmt: skip
    changes, _ = run(findings, incidents)
    [told] = [c.incident for c in changes if c.event == "firing"]
    assert (told.root.service, told.root.side) == ("api2", "server")
    assert told.root.score > 0.5  # its listener is no client that is well


def test_a_trigger_near_the_onset_is_attached_that_of_the_root_first():
    triggers = [
        Trigger(kind="restart", service="web", at=T0 - 4),
        Trigger(kind="restart", service="postgres", at=T0 - 20),
        Trigger(kind="deploy", service="postgres", at=T0 - 1000),
        Trigger(kind="deploy", service="redis", at=T0),
    ]
    _, incidents = run(FAULTS["postgres is slow"][0], triggers=triggers)
    [incident] = incidents.current()
    assert incident.trigger == triggers[1]
    assert "postgres was restarted, 20 s before the onset" in incident.summary
    assert incident_from_json(incident.to_json()) == dataclasses.replace(
        incident, roots=incident_from_json(incident.to_json()).roots,
        symptoms=incident_from_json(incident.to_json()).symptoms,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["redis is slow", "postgres is slow, and everybody asks less"])
def test_a_restart_at_every_step_changes_nothing(name):
    findings = FAULTS[name][0]
    steps = findings + [over(f, after_s=40.0 + n) for n, f in enumerate(findings)]
    again = [failing(WEB_API2, onset=T0 + 55), over(failing(WEB_API2, onset=T0 + 55), 10.0)]
    both = [run(steps + again, seconds=200, restart=restart) for restart in (False, True)]
    plain, restarted = ([(c.incident, c.event) for c in changes] for changes, _ in both)
    assert plain == restarted
    assert both[0][1].to_bytes() == both[1][1].to_bytes()
