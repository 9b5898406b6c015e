"""Which findings are one incident, and where its root is: faults at every place of a system."""

import dataclasses
import itertools
import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts import life
from alerts.grouping import Incidents
from alerts.incident import Trigger, incident_from_json
from probes.window import ANY, Pair
from tailrace.cli import main
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
    calm,
    change,
    failing,
    fallen,
    learned,
    over,
    silent,
    slow,
)
from tests.program.windows import window

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


def run(steps, incidents=None, *, seconds=60, restart=False, triggers=()):
    """Take findings second by second as they are detected; return what changed."""
    incidents = learned() if incidents is None else incidents
    changes = []
    for second in range(seconds):
        at = T0 + second
        due = [f for f in steps if at <= (f.ended or f.detected) < at + 1]
        changes += incidents.update(calm(at - 1), due, triggers if second == 0 else ())
        if restart:
            incidents = Incidents.from_bytes(incidents.to_bytes())
    return changes, incidents


def told(changes):
    return [(c.incident.id, c.event) for c in changes if c.event is not None]


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


def test_of_round_trips_alone_users_feel_nothing():
    rise = change(API1_REDIS, "rtt", side="network")
    [told] = [c.incident for c in run([rise])[0] if c.event == "firing"]
    assert (told.severity, told.impact) == ("info", "")


def test_a_mild_change_is_told_when_it_lasts_and_not_when_it_does_not():
    mild = slow(WEB_API1, ratio=1.5, after=0.003)
    changes, _ = run([mild])
    assert [c.event for c in changes if c.event] == ["firing"]
    assert changes[0].incident.state == "pending"
    changes, incidents = run([mild, over(mild, after_s=5.0)])
    assert told(changes) == []
    last = changes[-1].incident
    assert (last.state, last.suppressed, last.ended_as) == ("resolved", "did not last", "resolved")
    assert len(incidents) == 0


def test_a_hard_failure_is_told_after_a_short_wait_even_if_it_is_over():
    hard = failing(WEB_API2)
    changes, _ = run([hard, over(hard, after_s=4.5)])
    assert [c.event for c in changes if c.event] == ["firing", "resolved"]
    first = next(c.incident for c in changes if c.event)
    assert first.changed - first.detected <= life.WAIT_S


def test_with_windows_of_a_minute_a_hard_failure_is_told_with_its_window():
    incidents = Incidents()
    rows = [(pair, "requests", rate, math.nan) for pair, rate in RATES.items()]
    for minute in range(5):
        at = window(rows, time=T0 + 60.0 * minute, width=60.0, nominal=60.0)
        hard = failing(WEB_API2, onset=T0 + 120, detected=T0 + 180)
        changes = incidents.update(at, [hard] if minute == 2 else [])
        assert [c.event for c in changes] == (["firing"] if minute == 2 else [])


def test_resolved_after_a_recovery_that_grows_while_it_flaps():
    flips = []
    for number in range(6):
        begun = failing(WEB_API2, onset=T0 + 20.0 * number, detected=T0 + 20.0 * number + 1)
        flips += [begun, over(begun, after_s=8.0)]
    changes, incidents = run(flips, seconds=900)
    # told twice: by its second time it has a delay that outlasts the pauses
    assert [c.event for c in changes if c.event] == ["firing", "resolved"] * 2
    end = changes[-1].incident
    assert end.resolved == T0 + 108
    assert end.changed - end.resolved >= 10 * 2**5
    # and if it comes back soon it has not forgotten
    again = failing(WEB_API2, onset=T0 + 1000, detected=T0 + 1001)
    more = [c for f in (again, over(again)) for c in incidents.step([f], now=T0 + 1010)]
    assert more[-1].incident.state in ("firing", "recovering")
    assert incidents.step([], now=T0 + 1100) == []


def test_what_comes_again_minutes_later_is_another_incident_that_is_over_as_soon():
    steps = []
    for number in range(8):
        begun = failing(WEB_API2, onset=T0 + 400.0 * number, detected=T0 + 400.0 * number + 1)
        steps += [begun, over(begun, after_s=30.0)]
    changes, _ = run(steps, seconds=3300)
    ends = [c.incident for c in changes if c.event == "resolved"]
    assert len({incident.id for incident in ends}) == 8
    assert {round(incident.changed - incident.resolved) for incident in ends} == {10}


def test_the_new_normal_is_said_once_and_at_once():
    one = slow(WEB_API1)
    changes, incidents = run([one, over(one, after_s=600.0, state="adopted")], seconds=700)
    assert [c.event for c in changes if c.event] == ["firing", "resolved"]
    last = changes[-1].incident
    assert (last.ended_as, last.changed) == ("adopted", T0 + 600)
    assert "New normal since 2026-01-02 03:04:05 UTC" in last.summary
    assert len(incidents) == 0


def test_what_is_adopted_while_the_rest_goes_on_is_said():
    one, two = slow(API1_POSTGRES), slow(WEB_API1)
    changes, incidents = run([one, two, over(one, after_s=600.0, state="adopted")], seconds=700)
    assert [c.event for c in changes if c.event] == ["firing"]
    [left] = incidents.current()
    assert left.state == "firing"
    assert "1 of its changes are the new normal" in left.summary


def test_a_clock_that_is_set_back_delays_nothing_for_long():
    incidents = learned()
    incidents.step([slow(WEB_API1)], now=T0 + 3)
    back = T0 - 3600.0
    changes = [c for n in range(20) for c in incidents.step([], now=back + n)]
    assert [c.event for c in changes] == ["firing"]
    incidents.step([over(slow(WEB_API1))], now=back + 21)
    changes = [c for n in range(40) for c in incidents.step([], now=back + 22 + n)]
    assert [c.event for c in changes] == ["resolved"]


def test_a_small_pair_that_fails_for_long_becomes_critical():
    rates = RATES | {Pair("cron", "web", 80): 0.01}
    incidents = learned(rates=rates)
    one = failing(Pair("cron", "web", 80))
    changes = []
    for second in range(3, 300):
        found = [one] if second == 3 else []
        changes += incidents.update(calm(T0 + second, rates=rates), found)
    assert [c.incident.severity for c in changes if c.event] == ["warning"]
    assert changes[-1].incident.severity == "critical"
    assert changes[-1].incident.changed - T0 == pytest.approx(60.0, abs=5.0)


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


PAIRS = [CLIENT_WEB, WEB_API1, WEB_API2, API1_REDIS, API1_POSTGRES, API2_REDIS, WORKER_REDIS]
FINDING = st.tuples(
    st.sampled_from(PAIRS),
    st.sampled_from([slow, failing, busy, fallen, silent]),
    st.integers(0, 100),  # onset
    st.integers(1, 20),  # until it is found
    st.integers(1, 200),  # until it ends
    st.sampled_from(["resolved", "adopted"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(FINDING, max_size=14))
def test_any_history_keeps_the_rules(history):
    steps = {}
    for pair, kind, onset, found, lasts, state in history:
        one = kind(pair, onset=T0 + onset, detected=T0 + onset + found)
        steps[one.id] = one, over(one, found + lasts, state)
    findings = [f for both in steps.values() for f in both]
    changes, incidents = run(findings, seconds=1200)
    assert len(incidents) == 0  # whatever began is over
    events = {}
    for incident, event in changes:
        if event is not None:
            events.setdefault(incident.id, []).append(event)
    for sequence in events.values():
        assert sequence == ["firing", "resolved"]
    last = {incident.id: incident for incident, _ in changes}
    ids = [id_ for i in last.values() if i.ended_as != "merged" for id_ in i.findings]
    assert sorted(ids) == sorted(steps)  # every finding is in one incident
    for incident, event in changes:
        assert (incident.state == "resolved") == (event == "resolved" or incident.suppressed != "")
    for incident in last.values():
        assert incident.state == "resolved"
        assert (incident.id in events) == (incident.suppressed == "")
        assert incident.roots
        assert 0 < incident.root.score <= 1.0
        assert bool(incident.part_of) == (incident.ended_as == "merged")


def test_state_that_is_none_of_ours_is_an_error():
    for data in (b"", b"{}", b"[]", b'{"version": 99}', b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            Incidents.from_bytes(data)


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
