"""The laws of the notification log: who is told of what, once, however things go."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.incident import Incident, Root, Trigger
from alerts.matchers import parse_all
from alerts.notify import RESEND_RESOLVED_S, Notification, Notifier, digest
from alerts.outbox import message_id
from alerts.policy import Policy, Route, Rules
from alerts.severity import SEVERITIES
from tests.alerts.control import incident, silence
from tests.alerts.examples import T0

WAIT_S, UPDATE_S, REPEAT_S, RESEND_S = 30.0, 60.0, 600.0, 45.0
RULES = Rules(
    receivers={"pager": None, "am": RESEND_S, "team": None},
    routes=(
        Route(
            name="1",
            matchers=parse_all(["severity=critical"]),
            receivers=("pager",),
            goes_on=True,
            wait_s=WAIT_S,
            update_every_s=UPDATE_S,
            repeat_every_s=REPEAT_S,
        ),
        Route(name="2", receivers=("am",), goes_on=True, update_every_s=UPDATE_S),
    ),
)
ALONE = Policy(rules=Rules(receivers={"team": None}))


def tell(notifier: Notifier, one: Incident, *, at_s: float, policy: Policy = ALONE) -> list[str]:
    """Return the events that are due, and take note of them."""
    due = notifier.due([one], policy, T0 + at_s)
    notifier.record(due)
    return [each.event for each in due]


def over(one: Incident, at_s: float = 100.0) -> Incident:
    return dataclasses.replace(
        one, state="resolved", resolved=T0 + at_s, changed=T0 + at_s, ended_as="resolved"
    )


def test_a_life() -> None:
    notifier = Notifier()
    one = incident()
    assert tell(notifier, incident(state="pending"), at_s=5) == []
    assert tell(notifier, one, at_s=10) == ["firing"]
    assert tell(notifier, one, at_s=11) == []
    worse = dataclasses.replace(one, affected=("a", "b", "c", "d"))
    assert tell(notifier, worse, at_s=12) == []
    assert tell(notifier, worse, at_s=309) == []
    assert tell(notifier, worse, at_s=310) == ["updated"]
    recovering = dataclasses.replace(worse, state="recovering", severity="warning")
    assert tell(notifier, recovering, at_s=900) == []
    assert tell(notifier, over(worse), at_s=901) == ["resolved"]
    assert tell(notifier, over(worse), at_s=902) == []
    assert notifier.log["a1", "team"].sequence == 3


def test_what_is_over_within_the_wait_is_never_told() -> None:
    rules = Rules(
        receivers={"team": None}, routes=(Route(name="1", receivers=("team",), wait_s=30),)
    )
    policy, notifier = Policy(rules=rules), Notifier()
    assert tell(notifier, incident(), at_s=34.9, policy=policy) == []
    assert tell(notifier, over(incident()), at_s=35, policy=policy) == []
    assert tell(notifier, incident("b"), at_s=35, policy=policy) == ["firing"]


def test_what_comes_back_was_never_over() -> None:
    notifier = Notifier()
    assert tell(notifier, incident(), at_s=10) == ["firing"]
    assert tell(notifier, incident(state="recovering"), at_s=400) == []
    assert tell(notifier, incident(), at_s=500) == []


def test_who_was_never_told_does_not_hear_of_what_recovers() -> None:
    notifier = Notifier()
    assert tell(notifier, incident(state="recovering"), at_s=10) == []
    assert tell(notifier, incident(), at_s=20) == ["firing"]


def test_a_silence_that_ends_lets_it_be_told() -> None:
    quiet = dataclasses.replace(ALONE, silences=(silence("service=redis", length_s=60),))
    notifier = Notifier()
    assert tell(notifier, incident(), at_s=59, policy=quiet) == []
    assert tell(notifier, incident(), at_s=60, policy=quiet) == ["firing"]


def test_a_silence_after_it_was_told_lets_its_end_be_told() -> None:
    quiet = dataclasses.replace(ALONE, silences=(silence("service=redis"),))
    notifier = Notifier()
    worse = incident(affected=("a", "b", "c", "d"))
    assert tell(notifier, incident(), at_s=1) == ["firing"]
    assert tell(notifier, worse, at_s=1000, policy=quiet) == []
    assert tell(notifier, over(worse), at_s=1001, policy=quiet) == ["resolved"]


def test_what_is_held_back_is_told_when_it_is_let_go() -> None:
    notifier = Notifier()
    assert notifier.due([incident()], ALONE, T0, held={"a1": "no token was left"}) == []
    assert [n.event for n in notifier.due([incident()], ALONE, T0, held={})] == ["firing"]


def test_a_receiver_that_wants_it_hears_of_it_to_the_end() -> None:
    policy, notifier = Policy(rules=Rules(receivers={"am": 60.0})), Notifier()
    for at_s in (10, 70, 130):
        assert tell(notifier, incident(), at_s=at_s, policy=policy) == ["firing"]
        assert tell(notifier, incident(), at_s=at_s + 59, policy=policy) == []
    assert tell(notifier, incident(state="recovering"), at_s=190, policy=policy) == ["firing"]
    assert tell(notifier, incident(state="pending"), at_s=999, policy=policy) == []


def test_such_a_receiver_hears_for_a_while_that_it_is_over() -> None:
    policy, notifier = Policy(rules=Rules(receivers={"am": 60.0, "team": None})), Notifier()
    tell(notifier, incident(), at_s=10, policy=policy)
    ended, heard = over(incident(), at_s=100), []
    for at_s in range(100, 1000, 10):
        heard += [at_s for _ in tell(notifier, ended, at_s=at_s, policy=policy)]
    assert heard == [100, 100, 160, 220, 280, 340]
    assert tell(notifier, incident(), at_s=1000, policy=policy) == ["firing", "firing"]


def test_what_gets_worse_is_told_at_once_and_what_gets_better_is_not() -> None:
    notifier = Notifier()
    assert tell(notifier, incident(severity="warning"), at_s=10) == ["firing"]
    assert tell(notifier, incident(severity="critical"), at_s=11) == ["updated"]
    assert tell(notifier, incident(severity="warning"), at_s=12) == []
    assert tell(notifier, incident(severity="critical"), at_s=13) == []
    assert tell(notifier, incident(severity="warning"), at_s=311) == ["updated"]


def test_people_are_not_reminded_of_what_recovers() -> None:
    rules = Rules(
        receivers={"team": None}, routes=(Route(name="1", receivers=("team",), repeat_every_s=60),)
    )
    policy, notifier = Policy(rules=rules), Notifier()
    assert tell(notifier, incident(), at_s=0, policy=policy) == ["firing"]
    assert tell(notifier, incident(state="recovering"), at_s=99, policy=policy) == []
    assert tell(notifier, incident(), at_s=99, policy=policy) == ["firing"]


def test_a_receiver_that_is_gone_is_told_nothing_and_a_new_one_all() -> None:
    notifier = Notifier()
    assert tell(notifier, incident(), at_s=1) == ["firing"]
    other = Policy(rules=Rules(receivers={"new": None}))
    assert tell(notifier, incident(), at_s=2, policy=other) == ["firing"]
    due = notifier.due([over(incident())], other, T0 + 3)
    assert [(each.receiver, each.event) for each in due] == [("new", "resolved")]


def test_a_route_that_no_longer_takes_it_leaves_its_end_to_be_told() -> None:
    notifier, policy = Notifier(), Policy(rules=RULES)
    due = notifier.due([incident()], policy, T0 + 60)
    notifier.record(due)
    assert [each.receiver for each in due] == ["pager", "am", "team"]
    milder = incident(severity="warning")
    told = [(n.receiver, n.event) for n in notifier.due([milder], policy, T0 + 10_000)]
    assert told == [("am", "updated"), ("team", "updated")]
    ends = [(n.receiver, n.event) for n in notifier.due([over(milder)], policy, T0 + 10_001)]
    assert ends == [(name, "resolved") for name in ("pager", "am", "team")]


def test_a_clock_that_is_set_back_delays_nothing() -> None:
    notifier, policy = Notifier(), Policy(rules=RULES)
    assert tell(notifier, incident(), at_s=100, policy=policy) == ["firing"] * 3
    worse = incident(affected=tuple("abcdefgh"))
    assert tell(notifier, worse, at_s=-3600, policy=policy) == ["updated"] * 3
    assert tell(notifier, worse, at_s=-3599, policy=policy) == []
    assert tell(notifier, over(worse), at_s=-3598, policy=policy) == ["resolved"] * 3


def test_what_is_told_carries_no_reason_for_not_telling() -> None:
    [one] = Notifier().due([incident(suppressed="muted: x")], ALONE, T0 + 10)
    assert one.incident == incident(suppressed="")


NETWORK = Root(service="redis", side="network", score=0.9, why="")
OTHER = Root(service="db", side="server", score=0.9, why="")
SURER = Root(service="redis", side="server", score=1.0, why="sure")
DEPLOY = Trigger(kind="deploy", service="redis", at=T0, detail="")


@pytest.mark.parametrize(
    ("changes", "matters"),
    [
        ({"severity": "warning"}, True),
        ({"roots": (OTHER,)}, True),
        ({"roots": (NETWORK,)}, True),
        ({"trigger": DEPLOY}, True),
        ({"affected": ("a", "b", "c", "d")}, True),
        ({"affected": ("a", "b", "c")}, False),
        ({"roots": (SURER, OTHER)}, False),
        ({"title": "x", "summary": "y", "impact": "z", "changed": T0 + 99}, False),
        ({"findings": ("x", "y")}, False),
    ],
)
def test_which_changes_matter(changes: dict[str, Any], matters: bool) -> None:
    assert (digest(incident(**changes)) != digest(incident())) == matters


def test_ids_differ_by_all_that_makes_a_message() -> None:
    ids = {
        message_id(of, event, receiver, number=sequence)
        for of in ("a", "b")
        for event in ("firing", "updated", "resolved")
        for receiver in ("x", "y")
        for sequence in (1, 2)
    }
    assert len(ids) == 24
    assert message_id("a", "firing", "x") == message_id("a", "firing", "x", number=1)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What happens next: time passes, incidents change, users silence, the daemon is killed."""

    after_s: float
    states: tuple[str, str]
    severity: str
    affected: int
    silenced: bool
    held: bool
    killed: bool


SELDOM = st.sampled_from([False, False, False, True])
STEPS = st.lists(
    st.builds(
        Step,
        after_s=st.sampled_from([0.0, 1.0, 20.0, 45.0, 60.0, 400.0]),
        states=st.tuples(
            *[st.sampled_from(["pending", "firing", "firing", "recovering", "resolved"])] * 2
        ),
        severity=st.sampled_from(["critical", "critical", "warning", "info"]),
        affected=st.sampled_from([1, 2, 4, 8]),
        silenced=SELDOM,
        held=SELDOM,
        killed=SELDOM,
    ),
    max_size=25,
)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What was so at a step, and what was told then; nothing if the daemon was killed in it."""

    now: float
    step: Step
    incidents: Sequence[Incident]
    policy: Policy
    told: Sequence[Notification]
    notifier: Notifier


def lived(steps: Sequence[Step]) -> list[Moment]:
    """Return what comes of steps. An incident that is over stays so."""
    moments, stored, now, ended = [], Notifier(), T0 + 5.0, set[str]()
    for step in steps:
        now += step.after_s
        incidents = []
        for id_, state in zip(("a", "b"), step.states, strict=True):
            affected = tuple(f"s{number}" for number in range(step.affected))
            one = incident(id_, state=state, severity=step.severity, affected=affected)
            if state == "resolved":
                ended.add(id_)
            incidents.append(over(one) if id_ in ended else one)
        quiet = (silence("service=redis", start=T0, length_s=86_400),) if step.silenced else ()
        policy = Policy(rules=RULES, silences=quiet)
        held = {"a": "no token"} if step.held else {}
        # Whoever is killed has stored nothing of the step, and begins with what was stored before
        notifier = Notifier(stored.log)
        due = notifier.due(incidents, policy, now, held=held)
        assert due == notifier.due(incidents, policy, now, held=held)
        notifier.record(due)
        assert notifier.due(incidents, policy, now, held=held) == []
        if not step.killed:
            stored = notifier
        moments.append(
            Moment(
                now=now,
                step=step,
                incidents=incidents,
                policy=policy,
                told=[] if step.killed else due,
                notifier=stored,
            )
        )
    return moments


@given(STEPS)
def test_no_message_is_told_twice_and_no_id_stands_for_two(steps: Sequence[Step]) -> None:
    ids = [each.id for moment in lived(steps) for each in moment.told]
    assert len(ids) == len(set(ids))


@given(STEPS.filter(bool))
def test_what_is_due_at_a_death_is_due_after_it_under_the_same_ids(steps: Sequence[Step]) -> None:
    *earlier, last = steps
    killed, alive = (dataclasses.replace(last, killed=killed) for killed in (True, False))
    again = dataclasses.replace(alive, after_s=0.0)
    assert lived([*earlier, killed, again])[-1].told == lived([*earlier, alive])[-1].told


@given(STEPS)
def test_each_hears_first_that_it_fires_and_last_that_it_is_over(steps: Sequence[Step]) -> None:
    heard: dict[tuple[str, str], list[str]] = {}
    for moment in lived(steps):
        for each in moment.told:
            heard.setdefault((each.incident.id, each.receiver), []).append(each.event)
    for (_, receiver), events in heard.items():
        assert events[0] == "firing"
        ends = events.count("resolved")
        assert "resolved" not in events[: len(events) - ends]
        assert ends <= (1 if receiver != "am" else 1 + RESEND_RESOLVED_S / RESEND_S)


@given(STEPS)
def test_the_end_is_told_at_once_to_exactly_those_who_were_told(steps: Sequence[Step]) -> None:
    told: set[tuple[str, str]] = set()
    know: set[tuple[str, str]] = set()
    for moment in lived(steps):
        ends = {(n.incident.id, n.receiver) for n in moment.told if n.event == "resolved"}
        over_now = {one.id for one in moment.incidents if one.state == "resolved"}
        if not moment.step.killed:
            first = {(id_, receiver) for id_, receiver in told - know if id_ in over_now}
            assert first == ends - know
            assert all(receiver == "am" for _, receiver in ends & know)
        told |= {(n.incident.id, n.receiver) for n in moment.told}
        know |= ends


@given(STEPS)
def test_nothing_but_the_end_is_told_of_what_is_pending_or_suppressed(
    steps: Sequence[Step],
) -> None:
    for moment in lived(steps):
        for each in moment.told:
            assert each.incident.state != "pending"
            assert (each.event == "resolved") == (each.incident.state == "resolved")
            if each.event != "resolved":
                assert not moment.step.silenced
                assert not (moment.step.held and each.incident.id == "a")
                assert each.incident.state == "firing" or each.receiver == "am"


@given(STEPS)
def test_whoever_is_to_be_told_is_told(steps: Sequence[Step]) -> None:
    for moment in lived(steps):
        for one in moment.incidents:
            quiet = moment.step.silenced or (moment.step.held and one.id == "a")
            if one.state != "firing" or quiet or moment.step.killed:
                continue
            for destination in moment.policy.destinations(one):
                if moment.now - one.detected >= destination.wait_s:
                    assert moment.notifier.log[one.id, destination.receiver].event != "resolved"


@given(STEPS)
def test_nobody_hears_of_changes_and_reminders_too_often(steps: Sequence[Step]) -> None:
    last: dict[tuple[str, str], tuple[float, str]] = {}
    updates = {"pager": UPDATE_S, "am": UPDATE_S, "team": 300.0}
    repeats = {"pager": REPEAT_S, "am": RESEND_S, "team": float("inf")}
    for moment in lived(steps):
        for each in moment.told:
            key = each.incident.id, each.receiver
            before, severity = last.get(key, (-float("inf"), ""))
            since, now_is = moment.now - before, each.incident.severity
            if each.event == "updated":
                worse = SEVERITIES.index(now_is) < SEVERITIES.index(severity)  # type: ignore[arg-type]
                assert worse or since >= updates[each.receiver]
            elif each.event == "firing":
                assert key not in last or since >= repeats[each.receiver]
            last[key] = moment.now, now_is


@given(STEPS)
def test_what_got_worse_is_known_at_once(steps: Sequence[Step]) -> None:
    for moment in lived(steps):
        quiet = moment.step.silenced or moment.step.killed
        for one in moment.incidents:
            if one.state != "firing" or quiet or (moment.step.held and one.id == "a"):
                continue
            for destination in moment.policy.destinations(one):
                told = moment.notifier.log.get((one.id, destination.receiver))
                if told is not None:
                    assert SEVERITIES.index(told.severity) <= SEVERITIES.index(one.severity)


@given(STEPS)
def test_an_update_tells_something_new(steps: Sequence[Step]) -> None:
    known: dict[tuple[str, str], str] = {}
    for moment in lived(steps):
        for each in moment.told:
            key = each.incident.id, each.receiver
            if each.event == "updated":
                assert digest(each.incident) != known[key]
            known[key] = digest(each.incident)
