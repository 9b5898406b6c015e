"""The budget of false alerts: what people see is bounded, what is real is told, nothing is lost."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alerts import schema
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
from alerts.case import incident_id
from alerts.database import Database
from alerts.deliver import Deliverer
from alerts.errors import StoreError
from alerts.ledger import give_verdict
from alerts.receivers import make_receiver
from alerts.store import Store
from probes.window import Pair
from tests.alerts.examples import T0, ended, finding, incident, webhook_settings, written
from tests.alerts.examples import commit as commit_all
from tests.servers.webhook import SECRET, WebhookServer

ROOT = Path(__file__).parents[2]
WEEKLY = Budget(per_week=1.0, text="1/week")
REASON = "no token was left of false_alerts = 1/week"


def pair(number):
    return Pair(f"client-{number}", f"server-{number}", 80)


def about(number=0, *, at=T0, also=(), **changes):
    """Return an incident of one finding, of a pair of its own, and of those in `also`."""
    one = finding(**{"pair": pair(number), "onset": at, **changes})
    return incident(one, *also)


def critical(number, *, at=T0):
    return about(number, at=at, signal="connect_errors", before=0.0, after=1.0, unit="ratio")


def spend(ledger, *, now=T0):
    """Use up all tokens on incidents of their own."""
    for number in itertools.count(1000):
        if not ledger.fire(about(number, at=now - number), now=now):
            ledger.end(about(number, at=now - number).id)
            return


# The pure logic


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


def test_what_comes_and_goes_takes_tokens_from_the_fourth_time_on():
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


STEP = st.tuples(
    st.sampled_from([0.0, 1.0, 20.0, 600.0, 4000.0, DAY_S, 3 * DAY_S, -500.0]),  # time that passes
    st.sampled_from(["fire", "fire", "fire", "end", "last", "confirm", "dismiss", "hard"]),
    st.integers(0, 7),  # which pair
    st.sampled_from(["rtt", "request_latency", "bytes_sent"]),
)


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


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as opened:
        opened.register_receivers(["pager", "chat"])
        opened.keep_to(WEEKLY)
        yield opened


def one(number, *, at=T0, **changes):
    return finding(pair=pair(number), onset=at, **changes)


def events(store, receiver="pager"):
    return [(row.event, row.incident_id) for row in store.outbox.deliveries(receiver=receiver)]


def commit(store, *findings, now, lasted=()):
    return commit_all(store, findings, now=now, lasted=lasted)


def test_the_sixth_is_held_back_and_the_report_says_why(store):
    six = [one(n) for n in range(6)]
    commit(store, *six, now=T0 + 20)
    assert len(events(store)) == 5
    assert store.held_back() == {six[5].id: REASON}
    assert [each.id for each in store.findings()] == sorted(each.id for each in six)
    # its end is no news to who never heard of it
    commit(store, ended(six[5]), now=T0 + 400)
    assert len(events(store)) == 5
    spent = store.spent(now=T0 + 400)
    assert (spent.told, spent.held, spent.capacity, spent.text) == (5, 1, 5.0, "1/week")
    assert 0.0 < spent.tokens < 0.01


def test_what_lasts_frees_what_waits(store):
    six = [one(n) for n in range(6)]
    commit(store, *six, now=T0 + 20)
    [told] = commit(store, now=T0 + 30, lasted=[six[0].id, "nobody's"])
    assert told.symptoms[0].id == six[5].id
    assert events(store)[-1] == ("firing", told.id)
    assert store.held_back() == {}
    commit(store, ended(six[5]), now=T0 + 400)
    assert events(store)[-1] == ("resolved", told.id)


def test_what_ended_while_it_waited_is_not_told_any_more(store):
    seven = [one(n) for n in range(7)]
    commit(store, *seven, now=T0 + 20)
    commit(store, ended(seven[5]), now=T0 + 25)
    commit(store, now=T0 + 30, lasted=[seven[0].id, seven[1].id])
    assert [id_ for _, id_ in events(store)][5:] == [incident_id(seven[6])]


def test_what_could_not_be_stored_took_no_token(store):
    commit(store, one(0), now=T0)
    db = store._database._db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    many = [one(n, at=T0 + 60) for n in range(1, 60)]
    with pytest.raises(StoreError, match="no room"):
        commit(store, *many, now=T0 + 60)
    db.execute("PRAGMA max_page_count = 100000")
    commit(store, *many, now=T0 + 60)
    assert len(events(store)) == 5


def test_a_digest_reaches_the_same_receivers_once(store):
    six = [one(n) for n in range(7)]
    commit(store, *six, ended(six[5]), now=T0 + 20)
    for minute in range(1, 300):
        commit(store, now=T0 + 60 * minute)
    digests = [row for row in store.outbox.deliveries() if row.event == "digest"]
    assert [row.receiver for row in digests] == ["pager", "chat"]
    listed = digests[0].payload
    assert listed["schema"] == "tailrace.digest/2"
    assert (listed["incident_count"], listed["reason"]) == (2, REASON)
    assert {entry["id"] for entry in listed["incidents"]} == {
        incident_id(six[5]),
        incident_id(six[6]),
    }
    assert set(store.held_back()) == {six[5].id, six[6].id}
    store.prune(now=T0 + 300 * 60)
    assert len([row for row in store.outbox.deliveries() if row.event == "digest"]) == 2
    commit(store, *map(ended, six), now=T0 + 300 * 60)
    store.prune(now=T0 + 40 * DAY_S)
    assert store.outbox.deliveries() == []


def test_a_digest_is_delivered_like_any_message(tmp_path):
    with WebhookServer() as server, Store.open(tmp_path / "state") as store:
        store.register_receivers(["pager"])
        store.keep_to(WEEKLY)
        secret = written(tmp_path / "secret", SECRET)
        receiver = make_receiver(webhook_settings(server.url, secret_file=secret))
        now = time.time()  # signatures of another time are refused
        commit(store, *[one(n) for n in range(7)], now=now - PATIENCE_S)
        commit(store, now=now)
        deliverer = Deliverer(store, [receiver])
        deliverer.start()
        server.wait_for(lambda: len(server.accepted) == 6, timeout_s=20)
        assert deliverer.stop(10.0)
        assert [row.type for row in server.accepted] == ["incident.firing"] * 5 + [
            "incident.digest"
        ]
        assert server.accepted[-1].body["data"]["incident_count"] == 2
        assert {row.state for row in store.outbox.deliveries()} == {"sent"}


def test_without_receivers_nothing_is_held_back(tmp_path):
    with Store.open(tmp_path) as store:
        store.keep_to(WEEKLY)
        commit(store, *[one(n) for n in range(9)], now=T0)
        assert store.held_back() == {}
        store.register_receivers(["late"])
        commit(store, *[one(n, at=T0 + 60) for n in range(20, 25)], now=T0 + 60)
        assert len(events(store, "late")) == 5


def test_users_leave_their_word_beside_a_running_daemon(store, tmp_path):
    six = [one(n) for n in range(6)]
    commit(store, *six, now=T0 + 20)
    judged = give_verdict(tmp_path, six[0].id[:10], "confirmed", now=T0 + 30)
    assert judged.title == "request latency up 9.7x: client-0 -> server-0:80"
    [told] = commit(store, now=T0 + 40)
    assert told.symptoms[0].id == six[5].id
    give_verdict(tmp_path, incident_id(six[1])[:10], "dismissed", now=T0 + 50)
    commit(store, now=T0 + 60)
    said = [store.verdict(store.incident_of(each.id)) for each in six[:3]]
    assert said == ["confirmed", "dismissed", ""]
    spent = store.spent(now=T0 + 60)
    assert (spent.proven, spent.dismissed) == (1, 1)
    for wrong in ("zz", ""):
        with pytest.raises(StoreError, match="no incident has the id"):
            give_verdict(tmp_path, wrong, "confirmed", now=T0)


def test_a_word_on_what_is_long_over_counts_too(tmp_path):
    about = one(1)
    with Store.open(tmp_path) as store:
        store.register_receivers(["pager"])
        store.keep_to(WEEKLY)
        commit(store, about, ended(about), now=T0)
    give_verdict(tmp_path, about.id, "confirmed", now=T0 + 3 * DAY_S)
    with Store.open(tmp_path) as store:
        store.register_receivers(["pager"])
        store.keep_to(WEEKLY)
        commit(store, now=T0 + 3 * DAY_S)
        spent = store.spent(now=T0 + 3 * DAY_S)
        assert (spent.proven, spent.tokens) == (1, 5.0)


def test_a_file_from_before_the_budget_is_read_and_taken_up(tmp_path):
    before, schema.VERSION = schema.VERSION, 2
    try:
        Database.open(tmp_path).close()
        with Store.open(tmp_path, read_only=True) as reader:
            assert (reader.held_back(), reader.spent(now=T0)) == ({}, None)
            assert reader.verdict("x") == ""
    finally:
        schema.VERSION = before
    with pytest.raises(StoreError, match=r"has schema 2: start this version's `tailrace run`"):
        give_verdict(tmp_path, "x", "confirmed", now=T0)
    with Store.open(tmp_path) as store:
        store.register_receivers(["pager"])
        store.keep_to(WEEKLY)
        commit(store, one(1), now=T0)
        assert len(events(store)) == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(STEP, max_size=40), st.randoms(use_true_random=False))
def test_nothing_is_lost_whatever_happens(steps, chance):
    """Every incident is told, or in a digest within about an hour; a restart changes nothing."""
    with tempfile.TemporaryDirectory() as name:
        now, fired, store = T0, {}, None
        for wait_s, what, number, name_ in [*steps, *[(900.0, "", 0, "")] * 6]:
            now += max(wait_s, 0.0)
            if store is None:
                store = Store.open(Path(name))
                store.register_receivers(["pager"])
                store.keep_to(WEEKLY)
            findings, lasted = [], []
            if what == "fire":
                each = one(number, at=now, signal=name_)
                if all((f.pair, f.signal) != (each.pair, each.signal) for f in fired.values()):
                    fired[each.id] = each
                    findings.append(each)
            elif fired and what in ("end", "last"):
                each = fired[list(fired)[number % len(fired)]]
                if what == "end":
                    findings.append(ended(each))
                lasted.append(each.id)
            commit(store, *findings, now=now, lasted=lasted)
            if chance.random() < 0.2:
                store.close()
                store = None
        with store or Store.open(Path(name)) as store:
            told = {id_ for event, id_ in events(store) if event == "firing"}
            listed = {
                entry["id"]
                for row in store.outbox.deliveries()
                if row.event == "digest"
                for entry in row.payload["incidents"]
            }
            assert {incident_id(each) for each in fired.values()} == told | listed
            held = {f.id for f in fired.values() if incident_id(f) not in told}
            assert set(store.held_back()) == held
            made = [row.created for row in store.outbox.deliveries() if row.event == "digest"]
            assert all(b - a >= DIGEST_EVERY_S for a, b in itertools.pairwise(made))


DAEMON = """
    import sys
    from pathlib import Path
    from alerts.budget import Budget
    from alerts.grouping import Incidents
    from alerts.store import Store
    from probes.window import Pair
    from tests.alerts.examples import T0, ended, finding

    state_dir, steps = sys.argv[1:]

    def numbered(step):
        pair = Pair(f"client-{step}", f"server-{step}", 80)
        return finding(pair=pair, onset=T0 + 300.0 * step)

    with Store.open(Path(state_dir)) as store:
        store.register_receivers(["pager"])
        store.keep_to(Budget(per_week=200.0))
        saved = store.snapshot("incidents")
        incidents = Incidents() if saved is None else Incidents.from_bytes(saved)
        for step in range(int(store.snapshot() or b"0"), int(steps)):
            findings = [numbered(step)] + [ended(numbered(step - 2))] * (step >= 2)
            lasted = [numbered(step - 1).id] * (step % 3 == 1)
            now = T0 + 300.0 * step
            changes = incidents.step(findings, now=now)
            store.commit(
                findings, snapshot=b"%d" % (step + 1), now=now, incidents=changes,
                grouping=incidents.to_bytes(), lasted=lasted,
            )
            print(step, flush=True)
"""


def run_daemon(state_dir, steps):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DAEMON), str(state_dir), str(steps)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def everything(state_dir):
    with Store.open(state_dir, read_only=True) as store:
        spent = store.spent(now=T0 + 300.0 * 400)
        deliveries = [(row.id, row.event, row.payload) for row in store.outbox.deliveries()]
        return spent, deliveries, store.held_back()


def test_kill_at_random_moments_changes_neither_tokens_nor_messages(tmp_path):
    chance, steps, kills = random.Random(3), 300, 0
    while kills < 8:
        with run_daemon(tmp_path / "killed", steps) as daemon:
            daemon.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.15))
            killed = daemon.poll() is None
            daemon.send_signal(signal.SIGKILL)
            daemon.communicate()
        if not killed:
            break
        kills += 1
    for name in ("killed", "whole"):
        with run_daemon(tmp_path / name, steps) as daemon:
            _, errors = daemon.communicate(timeout=60)
        assert (daemon.returncode, errors) == (0, "")
    assert kills >= 3
    whole = everything(tmp_path / "whole")
    assert everything(tmp_path / "killed") == whole
    spent, deliveries, held = whole
    assert {event for _, event, _ in deliveries} == {"firing", "resolved", "digest"}
    assert spent.proven > 5
    assert len(held) > 5
