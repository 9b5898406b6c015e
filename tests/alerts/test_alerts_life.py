"""When an incident is told of and when it is over: what lasts, flaps, comes again, is adopted."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts import life
from alerts.grouping import Incidents
from probes.window import Pair
from tests.alerts.shop import (
    API1_POSTGRES,
    API1_REDIS,
    FINDING,
    RATES,
    T0,
    WEB_API1,
    WEB_API2,
    calm,
    change,
    failing,
    learned,
    over,
    run,
    slow,
)
from tests.program.windows import window


def told(changes):
    return [(c.incident.id, c.event) for c in changes if c.event is not None]


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
