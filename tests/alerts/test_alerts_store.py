import math
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.alert import message_id
from alerts.errors import StoreError
from alerts.store import Store
from probes.window import Pair
from tests.alerts.examples import T0, ended, finding, numbered


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as opened:
        opened.register_receivers(["pager", "chat"])
        yield opened


def events(store, receiver="pager"):
    return [(row.alert_id, row.event) for row in store.outbox.deliveries(receiver=receiver)]


def test_a_finding_opens_an_alert_and_owes_every_receiver_one_message(store):
    [alert] = store.commit([finding()], snapshot=b"state", now=T0)
    assert (alert.state, alert.severity) == ("firing", "warning")
    assert store.snapshot() == b"state"
    assert store.findings() == [finding()]
    assert [stored.to_json() for stored in store.alerts()] == [alert.to_json()]
    assert [(row.receiver, row.event, row.id) for row in store.outbox.deliveries()] == [
        (name, "firing", message_id(alert.id, "firing", name)) for name in ("pager", "chat")
    ]


def test_committing_again_changes_nothing(store):
    store.commit([finding()], snapshot=None, now=T0)
    assert store.commit([finding()], snapshot=None, now=T0 + 1) == []
    assert len(store.outbox.deliveries()) == 2
    store.commit([ended(finding())], snapshot=None, now=T0 + 2)
    assert store.commit([finding(), ended(finding())], snapshot=None, now=T0 + 3) == []
    assert store.findings() == [ended(finding())]
    assert len(store.outbox.deliveries()) == 4


def test_a_further_finding_joins_the_firing_alert_without_a_second_message(store):
    first, second = finding(), finding(onset=T0 + 60, after=0.05)
    [alert] = store.commit([first], snapshot=None, now=T0)
    assert store.commit([second], snapshot=None, now=T0 + 60) == []
    [joined] = store.alerts()
    assert joined.id == alert.id
    assert [one.id for one in joined.findings] == [first.id, second.id]
    assert len(events(store)) == 1

    assert store.commit([ended(first)], snapshot=None, now=T0 + 300) == []
    [over] = store.commit([ended(second, state="adopted")], snapshot=None, now=T0 + 400)
    assert (over.id, over.state, over.ended_as) == (alert.id, "resolved", "adopted")
    assert over.resolved == T0 + 360
    assert "New normal since 2026-01-02 03:05:05 UTC" in over.summary
    assert events(store) == [(alert.id, "firing"), (alert.id, "resolved")]


def test_a_change_after_the_end_is_a_new_alert(store):
    [one] = store.commit([finding()], snapshot=None, now=T0)
    store.commit([ended(finding())], snapshot=None, now=T0 + 300)
    [two] = store.commit([finding(onset=T0 + 900)], snapshot=None, now=T0 + 900)
    assert two.fingerprint == one.fingerprint
    assert two.id != one.id


@pytest.mark.parametrize(
    "other",
    [
        {"direction": "down"},
        {"signal": "rtt"},
        {"pair": Pair("web", "api", 8081)},
        {"pair": Pair("web", "api", 8080, "udp")},
    ],
)
def test_pair_signal_and_direction_keep_alerts_apart(store, other):
    assert len(store.commit([finding(), finding(**other)], snapshot=None, now=T0)) == 2


def test_firing_and_over_in_one_step_sends_both_in_order(store):
    both = store.commit([finding(), ended(finding())], snapshot=None, now=T0)
    assert [alert.state for alert in both] == ["firing", "resolved"]
    assert [event for _, event in events(store)] == ["firing", "resolved"]


def test_what_had_ended_before_it_was_known_is_kept_but_notifies_nobody(store):
    assert store.commit([ended(finding())], snapshot=None, now=T0) == []
    assert store.findings() == [ended(finding())]
    assert store.outbox.deliveries() == []


def test_a_receiver_added_later_is_not_told_of_ends_it_never_heard_begin(store):
    store.commit([finding()], snapshot=None, now=T0)
    store.register_receivers(["pager", "late"])
    store.commit([ended(finding())], snapshot=None, now=T0 + 300)
    assert events(store, "late") == []
    assert [event for _, event in events(store, "pager")] == ["firing", "resolved"]


def test_notify_holds_back_what_is_less_severe_until_it_is(store):
    store.register_receivers(["pager"], notify="warning")
    store.commit([finding(ratio=1.5)], snapshot=None, now=T0)
    store.commit([numbered(1, ratio=1.5)], snapshot=None, now=T0)
    store.commit([ended(numbered(1, ratio=1.5))], snapshot=None, now=T0 + 10)
    assert events(store) == []
    store.commit([finding(onset=T0 + 60)], snapshot=None, now=T0 + 60)
    store.commit([finding(onset=T0 + 70)], snapshot=None, now=T0 + 70)
    assert [event for _, event in events(store)] == ["firing"]


def test_queries_by_time_client_server_and_signal(store):
    old = ended(finding(onset=T0))
    now = finding(onset=T0 + 1000, signal="rtt")
    other = finding(onset=T0 + 2000, pair=Pair("batch", "db", 5432))
    store.commit([finding(onset=T0), old, now, other], snapshot=None, now=T0 + 2000)
    assert store.findings() == [old, now, other]
    assert store.findings(since=T0 + 301) == [now, other]
    assert store.findings(since=T0 + 300) == [old, now, other]
    assert store.findings(until=T0 + 1000) == [old]
    assert store.findings(client="web") == [old, now]
    assert store.findings(server="db") == [other]
    assert store.findings(signal="rtt", client="web") == [now]
    assert [alert.state for alert in store.alerts(since=T0 + 500)] == ["firing", "firing"]
    assert [alert.title for alert in store.alerts(state="resolved")] == [
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
    store.commit([odd], snapshot=None, now=T0)
    [stored] = store.findings()
    assert (stored.before, stored.after, stored.ratio) == (0.5, 1.5, None)
    assert stored.significance == math.inf
    assert stored.evidence == {"n": 3.0, "p": 0.5}
    [alert] = store.alerts()
    assert alert.findings[0].after == 1.5


def test_a_failing_commit_leaves_nothing_behind(store):
    store.commit([numbered(1)], snapshot=b"one", now=T0)
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
    store.commit([over, firing, recent, ended(over)], snapshot=b"s", now=T0)
    store.commit([ended(recent, after_s=20 * day)], snapshot=None, now=T0 + 20 * day)
    for row in store.outbox.deliveries():
        store.outbox.sent(row, receipt={}, now=row.created)
    assert store.prune(now=T0 + 29 * day) == 0
    # two receivers x (firing, resolved), the alert, the finding
    assert store.prune(now=T0 + 31 * day) == 6
    assert [one.id for one in store.findings()] == [firing.id, recent.id]
    assert {row.alert_id for row in store.outbox.deliveries()} == {a.id for a in store.alerts()}
    # The alert that still fires is still the one that further findings join
    assert store.commit([firing], snapshot=None, now=T0 + 31 * day) == []
    assert store.snapshot() == b"s"


def test_findings_the_detector_forgot_are_adopted_and_block_nothing(store):
    known, orphan = numbered(1), numbered(2)
    store.commit([known, orphan], snapshot=None, now=T0)
    [over] = store.adopt_orphans({known.id}, now=T0 + 500)
    assert (over.ended_as, over.resolved) == ("adopted", T0 + 500)
    assert [alert.state for alert in store.alerts()] == ["firing", "resolved"]
    assert store.adopt_orphans({known.id}, now=T0 + 600) == []
    again = numbered(2, id="later", detected=T0 + 900)
    assert [alert.state for alert in store.commit([again], snapshot=None, now=T0 + 900)] == [
        "firing"
    ]


STEPS = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from(["firing", "resolved", "adopted"]),
        ),
        max_size=4,
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_any_history_keeps_the_rules(steps, chance):
    """Findings 0-2 share one fingerprint, 3-5 another; steps are repeated at random."""
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name)) as store:
        store.register_receivers(["pager"])
        changes = []
        for number, step in enumerate(steps):
            findings = []
            for which, state in step:
                one = finding(onset=T0 + which, signal="rtt" if which < 3 else "requests")
                findings.append(one if state == "firing" else ended(one, state=state))
            for _ in range(chance.choice([1, 1, 2])):
                changed = store.commit(findings, snapshot=b"%d" % number, now=T0 + number)
                changes += [(alert.id, alert.state) for alert in changed]
            stored = {one.id: one.state for one in store.findings()}
            alerts = store.alerts()
            firing = [alert.fingerprint for alert in alerts if alert.state == "firing"]
            assert len(firing) == len(set(firing))
            for alert in alerts:
                states = {stored[one.id] for one in alert.findings}
                assert ("firing" in states) == (alert.state == "firing")
        assert events(store) == changes  # each change of state is told, once, in order
        for alert in store.alerts():
            told = [event for id_, event in changes if id_ == alert.id]
            assert told == (["firing"] if alert.state == "firing" else ["firing", "resolved"])


def test_readers_and_the_writer_do_not_stop_each_other(store, tmp_path):
    store.commit([numbered(0)], snapshot=None, now=T0)
    with Store.open(tmp_path, read_only=True) as reader:
        for number in range(1, 20):
            store.commit([numbered(number)], snapshot=b"x" * 10_000, now=T0)
            assert len(reader.findings()) == number + 1
        with pytest.raises(StoreError, match="reading only") as caught:
            reader.commit([], snapshot=None, now=T0)
        assert caught.value.reason == "read_only"


def test_a_reader_after_the_daemon_ended(tmp_path):
    with Store.open(tmp_path) as writer:
        writer.commit([finding()], snapshot=None, now=T0)
    with Store.open(tmp_path, read_only=True) as reader:
        assert reader.findings() == [finding()]


def test_the_invariant_of_one_firing_alert_is_the_databases_own(store, tmp_path):
    store.commit([finding()], snapshot=None, now=T0)
    sql = (
        "INSERT INTO alerts SELECT 'y', fingerprint, state, severity, started, resolved,"
        " updated, alert, held, incident FROM alerts"
    )
    other = sqlite3.connect(tmp_path / "tailrace.db")
    with pytest.raises(sqlite3.IntegrityError):
        other.execute(sql)
    other.close()


def test_a_closed_store_says_so(tmp_path):
    opened = Store.open(tmp_path)
    opened.close()
    opened.close()
    with pytest.raises(StoreError, match="closed") as caught:
        opened.commit([], snapshot=None, now=T0)
    assert caught.value.reason == "closed"
