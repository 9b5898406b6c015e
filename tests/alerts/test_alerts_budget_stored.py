"""The budget within the store: what is held back, told later, listed, and survives a kill."""

import itertools
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
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts import schema
from alerts.budget import (
    DAY_S,
    DIGEST_EVERY_S,
    PATIENCE_S,
)
from alerts.case import incident_id
from alerts.database import Database
from alerts.deliver import Deliverer
from alerts.errors import StoreError
from alerts.ledger import give_verdict
from alerts.receivers import make_receiver
from alerts.store import Store
from tests.alerts.examples import T0, ended, finding, webhook_settings, written
from tests.alerts.examples import commit as commit_all
from tests.alerts.spending import REASON, ROOT, STEP, WEEKLY, pair
from tests.servers.webhook import SECRET, WebhookServer


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
