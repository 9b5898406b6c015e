"""The laws of the notification log: who is told of what, once, however things go."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from alerts.incident import Incident
from alerts.notify import RESEND_RESOLVED_S, Notification, Notifier, digest
from alerts.policy import Policy
from alerts.severity import SEVERITIES
from tests.alerts.control import REPEAT_S, RESEND_S, RULES, UPDATE_S, incident, over, silence
from tests.alerts.examples import T0


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
