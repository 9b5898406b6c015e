"""The budget of false alerts: what people see is bounded, what is real is told, nothing is lost."""

import itertools
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alerts.budget import (
    DAY_S,
    DIGEST_EVERY_S,
    PATIENCE_S,
    PROVEN_A_DAY,
    WEEK_S,
    Account,
    Budget,
    Ledger,
)
from probes.window import Pair
from tests.alerts.examples import T0, finding, incident
from tests.alerts.spending import STEP, WEEKLY, about, critical, pair, spend


def test_a_weeks_budget_is_a_burst_of_five_then_one_a_week():
    ledger = Ledger(WEEKLY)
    told = [ledger.fire(about(n, at=T0 + n), now=T0 + n) for n in range(8)]
    assert told == [True] * 5 + [False] * 3
    assert not ledger.fire(about(20, at=T0 + WEEK_S - 60), now=T0 + WEEK_S - 60)
    assert ledger.fire(about(21, at=T0 + WEEK_S + 8), now=T0 + WEEK_S + 8)
    assert not ledger.fire(about(22, at=T0 + WEEK_S + 9), now=T0 + WEEK_S + 9)


def test_a_large_budget_may_come_in_thirds():
    assert Budget(per_week=300.0).capacity == 100.0
    assert Budget(per_week=9.0).capacity == 5.0


def test_six_faults_at_once_are_all_told():
    # the scenes of tests/e2e/test_faults.py; two of them are hard failures
    ledger = Ledger(WEEKLY)
    six = [about(n) for n in range(4)] + [critical(4), critical(5)]
    assert all(ledger.fire(each, now=T0 + 10) for each in six)


@pytest.mark.parametrize(
    "hard",
    [
        critical(1),
        about(1, signal="resets", before=0.0, after=0.06, unit="ratio"),
        about(1, signal="silent_pair", direction="gone", before=None, after=0.0),
        about(1, signal="requests", direction="down", before=100.0, after=1.0, ratio=0.01),
    ],
    ids=lambda hard: hard.symptoms[0].signal,
)
def test_hard_failures_are_always_told_and_free(hard):
    ledger = Ledger(WEEKLY)
    assert ledger.fire(hard, now=T0)
    assert ledger.tokens == 5.0
    spend(ledger)
    assert ledger.fire(critical(2, at=T0 + 60), now=T0 + 60)


def test_an_incident_that_becomes_critical_is_told():
    ledger = Ledger(WEEKLY)
    spend(ledger)
    mild = about(1, at=T0 + 60, signal="connect_errors", before=0.0, after=0.01, unit="ratio")
    assert not ledger.fire(mild, now=T0 + 70)
    assert ledger.settle(now=T0 + 71) == []
    worse = incident(mild.symptoms[0], critical(1, at=T0 + 80).symptoms[0], id=mild.id)
    assert ledger.fire(worse, now=T0 + 80)


@pytest.mark.parametrize(
    ("other", "real"),
    [
        ({"signal": "rtt"}, True),
        ({"pair": Pair("client-0", "elsewhere", 80)}, True),
        ({"signal": "requests"}, True),
        ({"signal": "new_pair", "direction": "new"}, False),
    ],
)
def test_a_second_witness_gives_the_token_back(other, real):
    ledger = Ledger(WEEKLY)
    first = about(0)
    ledger.fire(first, now=T0)
    assert ledger.settle(now=T0) == []
    assert ledger.tokens == 4.0
    second = finding(**{"pair": pair(0), **other})
    ledger.fire(incident(*first.symptoms, second, id=first.id), now=T0 + 1)
    ledger.settle(now=T0 + 1)
    assert (ledger.tokens == 5.0) is real


def test_two_incidents_that_turn_out_to_be_one_cost_one_token():
    ledger = Ledger(WEEKLY)
    older, younger = about(0), about(1)
    for each in (older, younger):
        assert ledger.fire(each, now=T0)
    ledger.merge(younger.id, older.id)
    assert ledger.tokens == 4.0
    assert not ledger.accounts[younger.id].firing


def test_what_was_held_back_is_told_once_a_part_of_it_was():
    ledger = Ledger(WEEKLY)
    spend(ledger)
    older, younger = about(1, at=T0 + 60), critical(2, at=T0 + 61)
    assert [ledger.fire(each, now=T0 + 70) for each in (older, younger)] == [False, True]
    ledger.merge(younger.id, older.id)
    assert ledger.settle(now=T0 + 71) == [older.id]
    assert ledger.tokens < 1.0


def test_requests_and_the_bytes_they_bring_are_one_witness():
    ledger = Ledger(WEEKLY)
    names = ("requests", "bytes_sent", "bytes_received", "connections")
    ledger.fire(incident(*(finding(signal=name, unit="1/s") for name in names)), now=T0)
    ledger.settle(now=T0)
    assert ledger.tokens == 4.0


def test_what_waits_is_told_when_a_token_comes_back_and_only_while_it_fires():
    ledger = Ledger(WEEKLY)
    for number in range(5):
        ledger.fire(about(number), now=T0)
    late = [about(n, at=T0 + n, ratio=1.3) for n in (10, 11)]
    severe = about(12, at=T0 + 12)
    for each in (*late, severe):
        assert not ledger.fire(each, now=T0 + 20)
    assert ledger.settle(now=T0 + 21) == []
    ledger.lasted(about(0).id)
    assert ledger.settle(now=T0 + 22) == [severe.id]  # the most severe first
    ledger.end(late[0].id)
    ledger.lasted(about(1).id)
    assert ledger.settle(now=T0 + 23) == [late[1].id]
    ledger.lasted(about(2).id)
    assert ledger.settle(now=T0 + 24) == []


def test_what_waits_is_told_once_it_proves_real_itself():
    ledger = Ledger(WEEKLY)
    spend(ledger)
    waiting = about(1, at=T0 + 60)
    assert not ledger.fire(waiting, now=T0 + 70)
    ledger.lasted(waiting.id)
    assert ledger.settle(now=T0 + 80) == [waiting.id]
    assert ledger.settle(now=T0 + 81) == []
    assert ledger.tokens < 1.0


def test_what_comes_and_goes_all_day_takes_tokens_in_the_end():
    ledger = Ledger(WEEKLY)
    spend(ledger)
    told = 0
    for number in range(20):
        at = T0 + 600.0 * (number + 1)
        again = about(1, at=at)
        ledger.fire(again, now=at)
        ledger.lasted(again.id)
        told += len(ledger.settle(now=at + 10))
        ledger.end(again.id)
    assert told == PROVEN_A_DAY


def test_the_users_word_counts_more_than_the_data():
    ledger = Ledger(WEEKLY)
    first = about(0)
    ledger.fire(first, now=T0)
    ledger.judge(first.id, "confirmed", now=T0 + 1)
    ledger.settle(now=T0 + 1)
    assert ledger.tokens == 5.0
    ledger.judge(first.id, "dismissed", now=T0 + 2)
    ledger.lasted(first.id)
    ledger.settle(now=T0 + 2)
    assert ledger.tokens == pytest.approx(4.0, abs=1e-4)
    ledger.judge(first.id, "confirmed", now=T0 + 3)
    ledger.settle(now=T0 + 3)
    assert ledger.tokens == pytest.approx(5.0, abs=1e-4)
    ledger.judge("nobody's", "confirmed", now=T0 + 3)


def test_digests_are_an_hour_apart_and_have_everything_once():
    ledger = Ledger(WEEKLY)
    spend(ledger)
    ledger.digest(now=T0 + PATIENCE_S)  # what was spent on
    listed, held = [], []
    for minute in range(20, 400):
        now = T0 + 60.0 * minute
        if minute < 200:
            each = about(minute, at=now)
            assert not ledger.fire(each, now=now)
            held.append(each.id)
        if ids := ledger.digest(now=now):
            listed.append((now, ids))
    assert [id_ for _, ids in listed for id_ in ids] == held
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(listed)]
    assert gaps
    assert min(gaps) >= DIGEST_EVERY_S
    assert listed[0][0] <= T0 + PATIENCE_S + DIGEST_EVERY_S


def test_a_clock_that_is_set_back_brings_no_tokens_and_stops_no_digest():
    ledger = Ledger(WEEKLY)
    spend(ledger)
    before = ledger.tokens
    ledger.settle(now=T0 - 10 * WEEK_S)
    assert ledger.tokens == before
    assert ledger.digest(now=T0 - 10 * WEEK_S)


def test_a_smaller_budget_takes_effect_at_once():
    ledger = Ledger(Budget(per_week=300.0))
    ledger.settle(now=T0)
    smaller = Ledger(WEEKLY, tokens=ledger.tokens, at=ledger.at)
    assert smaller.tokens == 5.0


def test_an_account_is_the_same_after_json():
    ledger = Ledger(WEEKLY)
    ledger.fire(about(0, also=[finding(signal="rtt")]), now=T0)
    ledger.settle(now=T0)
    [account] = ledger.accounts.values()
    assert account.proof == "corroborated"
    assert Account.from_json(json.loads(json.dumps(account.to_json()))) == account


def test_what_is_over_is_forgotten_after_a_day():
    ledger = Ledger(WEEKLY)
    ledger.fire(about(0), now=T0)
    ledger.forget(now=T0 + 2 * DAY_S)
    assert len(ledger.accounts) == 1  # it fires
    ledger.end(about(0).id)
    ledger.forget(now=T0 + 2 * DAY_S)
    assert ledger.accounts == {}


@settings(max_examples=300, deadline=None)
@example(
    # an old token that is given back after others have taken its place
    [
        (0.0, "fire", 0, "rtt"), (0.0, "fire", 1, "rtt"), (0.0, "last", 1, "rtt"),
        (DAY_S, "fire", 0, "rtt"), (3 * DAY_S, "fire", 0, "rtt"), (0.0, "fire", 1, "rtt"),
        (0.0, "last", 0, "rtt"), (20.0, "fire", 0, "rtt"), (0.0, "fire", 1, "rtt"),
        (3 * DAY_S, "fire", 0, "rtt"),
    ],
    1.0,
)  # fmt: skip
@given(st.lists(STEP, max_size=80), st.sampled_from([0.25, 1.0, 20.0, 100.0]))
def test_no_sequence_sends_more_than_the_bucket_allows(steps, per_week):
    budget = Budget(per_week=per_week)
    ledger, now, passed = Ledger(budget), T0, 0.0
    fired, times = [], {}
    for wait_s, what, number, name in steps:
        now += wait_s
        passed += max(wait_s, 0.0)
        if what in ("fire", "hard"):
            where = {"pair": Pair(f"client-{number % 3}", f"server-{number}", 80), "at": now}
            each = (
                about(signal=name, **where)
                if what == "fire"
                else about(signal="connect_errors", before=0.0, after=1.0, unit="ratio", **where)
            )
            fired.append(each.id)
            ledger.fire(each, now=now)
        elif fired:
            id_ = fired[number % len(fired)]
            if what == "end":
                ledger.end(id_)
            elif what == "last":
                ledger.lasted(id_)
            else:
                verdict = {"confirm": "confirmed", "dismiss": "dismissed"}[what]
                ledger.judge(id_, verdict, now=now)
        ledger.settle(now=now)
        for account in ledger.accounts.values():
            if account.told:
                times.setdefault(account.id, passed)
        assert 0.0 <= ledger.tokens <= budget.capacity
        # by any moment before, so much was told that was neither hard nor proven real. What a
        # user dismissed after the data had proven it is theirs, and was not known to be false
        unproven = sorted(
            at
            for id_, at in times.items()
            if ledger.accounts[id_].standing == "paid"
            and ledger.accounts[id_].verdict != "dismissed"
        )
        for first, since in enumerate(unproven):
            # a token that an earlier one gives back may come on top of what was refilled
            given = sum(
                at < since and ledger.accounts[id_].standing == "proven"
                for id_, at in times.items()
            )
            allowed = budget.capacity + given + (passed - since) * per_week / WEEK_S
            assert len(unproven) - first <= allowed + 1e-6


# The store
