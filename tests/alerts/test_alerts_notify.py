"""Who is told of what and when, step by step: waits, updates, reminders, silences, receivers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from alerts.incident import Incident, Root, Trigger
from alerts.notify import Notifier, digest
from alerts.outbox import message_id
from alerts.policy import Policy, Route, Rules
from tests.alerts.control import RULES, incident, over, silence
from tests.alerts.examples import T0

ALONE = Policy(rules=Rules(receivers={"team": None}))


def tell(notifier: Notifier, one: Incident, *, at_s: float, policy: Policy = ALONE) -> list[str]:
    """Return the events that are due, and take note of them."""
    due = notifier.due([one], policy, T0 + at_s)
    notifier.record(due)
    return [each.event for each in due]


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
