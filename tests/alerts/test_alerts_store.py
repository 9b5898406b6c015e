import contextlib
import dataclasses
import math
import random
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts import schema
from alerts.budget import Budget
from alerts.errors import StoreError
from alerts.grouping import Change, Incidents
from alerts.outbox import message_id
from alerts.policy import Route, Rules
from alerts.store import Store
from probes.window import Pair
from tests.alerts.examples import T0, commit, ended, finding, incident, numbered
from tests.alerts.shop import FINDING, learned


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as opened:
        opened.register_receivers(["pager", "chat"])
        yield opened


def events(store, receiver="pager"):
    return [(row.incident_id, row.event) for row in store.outbox.deliveries(receiver=receiver)]


def test_an_incident_owes_every_receiver_one_message(store):
    [about] = commit(store, [finding()], snapshot=b"state", now=T0, grouping=b"open")
    assert (about.state, about.severity) == ("firing", "warning")
    assert (store.snapshot(), store.snapshot("incidents")) == (b"state", b"open")
    assert store.findings() == [finding()]
    assert [stored.to_json() for stored in store.incidents()] == [about.to_json()]
    assert [(row.receiver, row.event, row.id) for row in store.outbox.deliveries()] == [
        (name, "firing", message_id(about.id, "firing", name)) for name in ("pager", "chat")
    ]


def test_committing_again_changes_nothing(store):
    commit(store, [finding()], snapshot=None, now=T0)
    commit(store, [finding()], snapshot=None, now=T0 + 1)
    assert len(store.outbox.deliveries()) == 2
    commit(store, [ended(finding())], snapshot=None, now=T0 + 2)
    assert commit(store, [finding(), ended(finding())], snapshot=None, now=T0 + 3) == []
    assert store.findings() == [ended(finding())]
    assert len(store.outbox.deliveries()) == 4


def test_an_incident_that_grows_is_stored_and_an_update_is_told(store):
    first, second = finding(), finding(onset=T0 + 60, after=0.05)
    [opened] = commit(store, [first], now=T0)
    both = incident(first, second, id=opened.id)
    assert store.commit([second], snapshot=None, now=T0, incidents=[Change(both, None)]) == []
    [stored] = store.incidents()
    assert [one.id for one in stored.symptoms] == [first.id, second.id]
    assert store.incident_of(second.id) == opened.id
    for changed, severity in ((T0 + 70, "warning"), (T0 + 80, "critical"), (T0 + 80, "critical")):
        update = Change(dataclasses.replace(both, changed=changed, severity=severity), "updated")
        store.commit([], snapshot=None, now=changed, incidents=[update])
    assert events(store) == [(opened.id, event) for event in ("firing", "updated")]
    assert len({row.id for row in store.outbox.deliveries()}) == 4


def test_the_new_normal_is_told_as_the_end(store):
    commit(store, [finding()], now=T0)
    [over] = commit(store, [ended(finding(), state="adopted")], now=T0 + 400)
    assert (over.state, over.ended_as, over.resolved) == ("resolved", "adopted", T0 + 300)
    assert "New normal since 2026-01-02 03:04:05 UTC" in over.summary
    assert events(store) == [(over.id, "firing"), (over.id, "resolved")]


def test_what_is_part_of_another_is_told_so_to_who_heard_of_it(store):
    older, younger = numbered(1), numbered(2)
    [one, two] = commit(store, [older, younger], now=T0)
    merged = dataclasses.replace(two, state="resolved", resolved=T0 + 5, ended_as="merged",
                                 part_of=one.id)  # fmt: skip
    whole = incident(older, younger, id=one.id)
    store.commit([], snapshot=None, now=T0 + 5,
                 incidents=[Change(merged, "resolved"), Change(whole, None)])  # fmt: skip
    assert events(store) == [(one.id, "firing"), (two.id, "firing"), (two.id, "resolved")]
    assert [store.incident_of(f.id) for f in (older, younger)] == [one.id, one.id]


def test_what_waits_to_be_confirmed_is_stored_and_not_told(store):
    waiting = incident(finding(), state="pending")
    assert store.commit([finding()], snapshot=None, now=T0, incidents=[Change(waiting, None)]) == []
    assert [i.state for i in store.incidents()] == ["pending"]
    gone = dataclasses.replace(waiting, state="resolved", resolved=T0 + 9, ended_as="resolved",
                               suppressed="did not last")  # fmt: skip
    store.commit([ended(finding())], snapshot=None, now=T0 + 9, incidents=[Change(gone, None)])
    assert store.held_back() == {finding().id: "did not last"}
    assert store.outbox.deliveries() == []


def test_firing_and_over_in_one_step_sends_both_in_order(store):
    both = commit(store, [finding(), ended(finding())], snapshot=None, now=T0)
    assert [each.state for each in both] == ["firing", "resolved"]
    assert [event for _, event in events(store)] == ["firing", "resolved"]


def test_what_had_ended_before_it_was_known_is_kept_but_notifies_nobody(store):
    assert commit(store, [ended(finding())], snapshot=None, now=T0) == []
    assert store.findings() == [ended(finding())]
    assert store.outbox.deliveries() == []


def test_a_receiver_added_later_is_not_told_of_ends_it_never_heard_begin(store):
    commit(store, [finding()], snapshot=None, now=T0)
    store.register_receivers(["pager", "late"])
    commit(store, [ended(finding())], snapshot=None, now=T0 + 300)
    assert events(store, "late") == []
    assert [event for _, event in events(store, "pager")] == ["firing", "resolved"]


def test_what_is_less_severe_than_a_route_takes_is_told_once_it_is_worse(store):
    warning = Route(name="team", severity="warning", receivers=("pager",))
    store.register_receivers(["pager"], Rules(receivers={"pager": None}, routes=(warning,)))
    commit(store, [finding(ratio=1.5)], snapshot=None, now=T0)
    commit(store, [numbered(1, ratio=1.5)], snapshot=None, now=T0)
    commit(store, [ended(numbered(1, ratio=1.5))], snapshot=None, now=T0 + 10)
    assert events(store) == []
    assert set(store.held_back().values()) == {"no route takes it (severity info)"}
    slow = finding(signal="connect_latency")
    worse = incident(finding(ratio=1.5), slow, id=incident(finding()).id)
    store.commit([], snapshot=None, now=T0 + 60, incidents=[Change(worse, "updated")])
    assert [event for _, event in events(store)] == ["firing"]  # it is new to who hears of it
    assert len(store.held_back()) == 1


def test_queries_by_time_client_server_and_signal(store):
    old = ended(finding(onset=T0))
    now = finding(onset=T0 + 1000, signal="rtt")
    other = finding(onset=T0 + 2000, pair=Pair("batch", "db", 5432))
    commit(store, [finding(onset=T0), old, now, other], snapshot=None, now=T0 + 2000)
    assert store.findings() == [old, now, other]
    assert store.findings(since=T0 + 301) == [now, other]
    assert store.findings(since=T0 + 300) == [old, now, other]
    assert store.findings(until=T0 + 1000) == [old]
    assert store.findings(client="web") == [old, now]
    assert store.findings(server="db") == [other]
    assert store.findings(signal="rtt", client="web") == [now]
    assert [each.state for each in store.incidents(since=T0 + 500)] == ["firing", "firing"]
    assert [each.title for each in store.incidents(state="resolved")] == [
        "request latency up 9.7x: web -> api:8080"
    ]


def test_a_finding_by_its_id_or_the_start_of_it(store):
    one, two = finding(id="abc123"), finding(id="abd456", signal="rtt")
    store.commit([one, two], snapshot=None, now=T0)
    assert store.finding("abc") == one
    assert list(store.finding("abd456").evidence.items()) == list(two.evidence.items())
    for prefix, part in (
        ("ab", "give more"),
        ("zz", "no finding"),
        ("", "no finding"),
        ("%", "no"),
    ):
        with pytest.raises(StoreError, match=part):
            store.finding(prefix)


def test_numpy_numbers_nan_and_infinity_are_stored(store):
    odd = finding(
        before=np.float64(0.5),
        after=np.float32(1.5),
        ratio=math.nan,
        significance=math.inf,
        evidence={"n": np.int64(3), "p": np.float32(0.5)},
    )
    commit(store, [odd], now=T0)
    [stored] = store.findings()
    assert (stored.before, stored.after, stored.ratio) == (0.5, 1.5, None)
    assert stored.significance == math.inf
    assert stored.evidence == {"n": 3.0, "p": 0.5}
    [about] = store.incidents()
    assert about.symptoms[0].after == 1.5


def test_a_failing_commit_leaves_nothing_behind(store):
    commit(store, [numbered(1)], snapshot=b"one", now=T0)
    with pytest.raises(AttributeError):
        store.commit([numbered(2), None], snapshot=b"two", now=T0)
    assert store.snapshot() == b"one"
    assert store.findings() == [numbered(1)]
    assert len(store.outbox.deliveries()) == 2


def test_snapshots_of_other_parts_have_their_own_names(store):
    store.save_snapshot("pairs", b"\0\xff", now=T0)
    store.commit([], snapshot=b"d", now=T0)
    assert (store.snapshot("pairs"), store.snapshot(), store.snapshot("x")) == (
        b"\0\xff",
        b"d",
        None,
    )


def test_pruning_keeps_what_fires_and_what_is_recent(store):
    day = 86_400
    over, firing, recent = numbered(1), numbered(2), numbered(3, detected=T0 + 20 * day)
    commit(store, [over, firing, recent, ended(over)], snapshot=b"s", now=T0)
    commit(store, [ended(recent, after_s=20 * day)], snapshot=None, now=T0 + 20 * day)
    for row in store.outbox.deliveries():
        store.outbox.sent(row, receipt={}, now=row.created)
    assert store.prune(now=T0 + 29 * day) == 0
    # two receivers x (firing, resolved, what they were told last), the incident, the finding
    assert store.prune(now=T0 + 31 * day) == 8
    assert [one.id for one in store.findings()] == [firing.id, recent.id]
    assert {row.incident_id for row in store.outbox.deliveries()} == {
        each.id for each in store.incidents()
    }
    assert store.snapshot() == b"s"


def test_an_incident_by_the_start_of_its_id(store):
    for id_ in ("abc123", "abd456"):
        about = incident(finding(), id=id_)
        store.commit([], snapshot=None, now=T0, incidents=[Change(about, "firing")])
    assert store.incident("abc").id == "abc123"
    assert (store.incident("zz"), store.incident(""), store.incident("%")) == (None, None, None)
    with pytest.raises(StoreError, match="more than one incident"):
        store.incident("ab")


def test_findings_the_detector_forgot_are_the_new_normal(store):
    known, orphan = numbered(1), numbered(2)
    commit(store, [known, orphan], snapshot=None, now=T0)
    [over] = store.orphans({known.id}, now=T0 + 500)
    assert (over.id, over.state, over.ended) == (orphan.id, "adopted", T0 + 500)
    commit(store, [over], now=T0 + 500)
    assert [each.ended_as for each in store.incidents()] == [None, "adopted"]
    assert store.orphans({known.id}, now=T0 + 600) == []


@settings(max_examples=8, deadline=None)
@given(st.lists(FINDING, max_size=8, unique_by=lambda f: f[:3]), st.integers(0, 1000))
def test_what_is_told_is_what_incidents_say_whenever_it_is_restarted(history, seed):
    """Steps are repeated and the store is closed at random; the state comes from the store."""
    chance = random.Random(seed)
    due = {}
    for pair, kind, onset, found, lasts, state in history:
        one = kind(pair, onset=T0 + onset, detected=T0 + onset + found)
        due.setdefault(onset + found, []).append(one)
        end = dataclasses.replace(one, state=state, ended=one.detected + lasts)
        due.setdefault(onset + found + lasts, []).append(end)
    plain, expected = learned(), []
    for second in range(500):
        changes = plain.step(due.get(second, ()), now=T0 + second)
        # Updates are the receivers' own: how often depends on what each was told
        told = [c for c in changes if c.event in ("firing", "resolved")]
        expected += [(c.incident.id, c.event, c.incident.to_json()) for c in told]
    with tempfile.TemporaryDirectory() as name:
        store, incidents = None, learned()
        for second in range(500):
            if store is None:
                store = Store.open(Path(name))
                store.register_receivers(["pager"])
                if (data := store.snapshot("incidents")) is not None:
                    incidents = Incidents.from_bytes(data)
            findings = due.get(second, ())
            changes = incidents.step(findings, now=T0 + second)
            stop = chance.random() < 0.02
            if findings or changes or stop:
                for _ in range(chance.choice([1, 1, 2])):
                    store.commit(findings, snapshot=None, now=T0 + second, incidents=changes,
                                 grouping=incidents.to_bytes())  # fmt: skip
            if stop:
                store.close()
                store = None
        with store or Store.open(Path(name)) as store:
            rows = [row for row in store.outbox.deliveries() if row.event != "updated"]
            assert [(row.incident_id, row.event, row.payload) for row in rows] == expected
            assert {f.id for f in store.findings()} == {f.id for fs in due.values() for f in fs}
            for f in store.findings():
                assert store.incident_of(f.id)


def test_a_file_from_before_incidents_is_taken_up(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "tailrace.db")) as db:
        for number, script in enumerate(schema.MIGRATIONS[:3]):
            db.executescript(f"{script} PRAGMA user_version = {number + 1};")
        db.executescript(
            "INSERT INTO findings (id, client, server, port, transport, signal, direction, onset,"
            " detected, unit, cause, state, evidence, alert_id, created, updated) VALUES"
            " ('f1', 'web', 'api', 80, 'tcp', 'rtt', 'up', 1, 2, 's', '', 'firing', '{}', 'a1', 2,"
            " 2); INSERT INTO alerts VALUES ('a1', 'x', 'firing', 'info', 1, NULL, 2, '{}', '',"
            " 'a1'); INSERT INTO meta VALUES ('budget', '{\"tokens\": 2.5, \"at\": 2.0}');"
        )
        for number, state in enumerate(("sent", "pending")):
            db.execute(
                "INSERT INTO deliveries (id, receiver, alert_id, event, payload, created, due,"
                " state, attempts, reason, detail, receipt) VALUES (?, 'pager', 'a1', 'firing',"
                " '{}', 2, 2, ?, 0, '', '', '{}')",
                (f"m{number}", state),
            )
        db.commit()
    with Store.open(tmp_path) as store:
        assert [(f.id, f.state) for f in store.findings()] == [("f1", "firing")]
        assert store.incident_of("f1") == ""
        assert [(row.state, row.reason) for row in store.outbox.deliveries()] == [
            ("sent", ""),
            ("dropped", "upgraded"),
        ]
        store.register_receivers(["pager"])
        store.keep_to(Budget(per_week=1.0))
        commit(store, [finding(onset=3.0)], now=3.0)
        assert store.spent(now=3.0).tokens == pytest.approx(1.5, abs=1e-3)
        assert store.prune(now=60 * 86_400.0) == 2  # the old messages


def test_readers_and_the_writer_do_not_stop_each_other(store, tmp_path):
    commit(store, [numbered(0)], snapshot=None, now=T0)
    with Store.open(tmp_path, read_only=True) as reader:
        for number in range(1, 20):
            commit(store, [numbered(number)], snapshot=b"x" * 10_000, now=T0)
            assert len(reader.findings()) == number + 1
        with pytest.raises(StoreError, match="reading only") as caught:
            reader.commit([], snapshot=None, now=T0)
        assert caught.value.reason == "read_only"


def test_a_reader_after_the_daemon_ended(tmp_path):
    with Store.open(tmp_path) as writer:
        writer.commit([finding()], snapshot=None, now=T0)
    with Store.open(tmp_path, read_only=True) as reader:
        assert reader.findings() == [finding()]


def test_a_closed_store_says_so(tmp_path):
    opened = Store.open(tmp_path)
    opened.close()
    opened.close()
    with pytest.raises(StoreError, match="closed") as caught:
        opened.commit([], snapshot=None, now=T0)
    assert caught.value.reason == "closed"
