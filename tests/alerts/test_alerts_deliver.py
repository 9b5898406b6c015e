import dataclasses
import threading
import time

import pytest

from alerts.deliver import Backoff, Deliverer, Worker
from alerts.errors import DeliveryError, StoreError
from alerts.grouping import Change
from alerts.outbox import LONGEST_DELAY_S
from alerts.receivers import make_receiver
from alerts.settings import SlackSettings
from alerts.store import Store
from tests.alerts.examples import (
    T0,
    Clock,
    commit,
    ended,
    finding,
    incident,
    numbered,
    webhook_settings,
    written,
)
from tests.servers.base import Answer
from tests.servers.slack import TOKEN, SlackServer
from tests.servers.webhook import SECRET, WebhookServer


class Scripted:
    """A receiver that does what a list says: an error to raise, or None to accept."""

    name = "pager"
    pace_s = 0.0

    def __init__(self, *script):
        self.script = list(script)
        self.sent = []
        self.attempts = []

    def send(self, message, *, now):
        self.attempts.append((now, message.id))
        outcome = self.script.pop(0) if self.script else None
        if outcome is not None:
            raise outcome
        self.sent.append((message.incident.id, message.event))
        return {"n": str(len(self.sent)), "earlier": message.earlier.get("n", "")}

    def close(self):
        pass


DOWN = DeliveryError("network", "connection refused", retry=True)
REFUSED = DeliveryError("client_error", "HTTP 400", retry=False)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as opened:
        opened.register_receivers(["pager"])
        yield opened


def worker_for(store, receiver, clock, *, jitter=0.0, **backoff):
    return Worker(
        store.outbox,
        receiver,
        backoff=Backoff(**backoff),
        clock=clock,
        jitter=lambda: jitter,
    )


def run(worker, clock, *, until):
    """Step as the thread would, letting the clock pass instead of waiting."""
    while clock.now < until:
        clock.now += max(worker.step(), 0.001)


def test_backoff_doubles_to_its_cap_and_jitter_takes_up_to_half():
    backoff = Backoff()
    assert [backoff.delay_s(n, jitter=0.0) for n in (1, 2, 3, 9, 10, 10_000)] == [
        1.0,
        2.0,
        4.0,
        256.0,
        300.0,
        300.0,
    ]
    assert backoff.delay_s(3, jitter=0.999) == pytest.approx(2.0, abs=0.01)


def test_attempts_get_rarer_and_the_message_keeps_its_id(store):
    clock, receiver = Clock(), Scripted(*[DOWN] * 6)
    commit(store, [finding()], snapshot=None, now=T0)
    run(worker_for(store, receiver, clock), clock, until=T0 + 100)
    times = [now - T0 for now, _ in receiver.attempts]
    assert times == pytest.approx([0, 1, 3, 7, 15, 31, 63], abs=0.1)
    assert len({message for _, message in receiver.attempts}) == 1
    [row] = store.outbox.deliveries()
    assert (row.state, row.attempts, row.reason) == ("sent", 7, "")


def test_firing_goes_before_resolved_even_after_an_outage(store):
    clock, receiver = Clock(), Scripted(*[DOWN] * 5)
    [incident] = commit(store, [finding()], snapshot=None, now=T0)
    worker = worker_for(store, receiver, clock)
    worker.step()
    commit(store, [ended(finding())], snapshot=None, now=T0)
    run(worker, clock, until=T0 + 100)
    assert receiver.sent == [(incident.id, "firing"), (incident.id, "resolved")]
    # and the second one is given the receipt of the first
    assert [row.receipt["earlier"] for row in store.outbox.deliveries()] == ["", "1"]


def test_a_message_given_up_does_not_hold_back_the_next(store):
    clock, receiver = Clock(), Scripted(REFUSED)
    [incident] = commit(store, [finding()], snapshot=None, now=T0)
    commit(store, [ended(finding())], snapshot=None, now=T0)
    run(worker_for(store, receiver, clock), clock, until=T0 + 10)
    assert receiver.sent == [(incident.id, "resolved")]
    [dropped] = store.outbox.deliveries(state="dropped")
    assert (dropped.reason, dropped.detail, dropped.attempts) == ("client_error", "HTTP 400", 1)
    [health] = store.outbox.health()
    assert (health.dropped, health.pending, health.last_error) == (1, 0, "")


@pytest.mark.parametrize("wait_s", [30.0, 900.0])
def test_retry_after_is_honoured_for_the_whole_receiver(store, wait_s):
    busy = DeliveryError("rate_limited", "HTTP 429", retry=True, retry_after_s=wait_s)
    clock, receiver = Clock(), Scripted(busy)
    commit(store, [numbered(1), numbered(2)], snapshot=None, now=T0)
    worker = worker_for(store, receiver, clock)
    run(worker, clock, until=T0 + wait_s + 5)
    times = [now - T0 for now, _ in receiver.attempts]
    assert times == pytest.approx([0, wait_s, wait_s], abs=0.1)


def test_after_an_outage_of_hours_everything_goes_at_once(store):
    class Down(Scripted):
        def send(self, message, *, now):
            if now < T0 + 4 * 3600:
                self.script = [DOWN]
            return super().send(message, now=now)

    clock, receiver = Clock(), Down()
    commit(store, [numbered(n) for n in range(30)], snapshot=None, now=T0)
    worker = worker_for(store, receiver, clock)
    run(worker, clock, until=T0 + 4 * 3600)
    assert receiver.sent == []
    assert len(receiver.attempts) < 70  # one attempt per rest, not thirty
    run(worker, clock, until=T0 + 4 * 3600 + 301)
    assert len(receiver.sent) == 30


def test_one_message_that_the_receiver_cannot_take_does_not_stop_the_others(store):
    class Poisoned(Scripted):
        def send(self, message, *, now):
            if message.incident.symptoms[0].pair.client == "client-1":
                self.script = [DeliveryError("server_error", "HTTP 500", retry=True)]
            return super().send(message, now=now)

    clock, receiver = Clock(), Poisoned()
    commit(store, [numbered(n) for n in range(1, 6)], snapshot=None, now=T0)
    run(worker_for(store, receiver, clock), clock, until=T0 + 30)
    assert len(receiver.sent) == 4


def test_gone_disables_the_receiver_until_the_next_start(store):
    clock = Clock()
    receiver = Scripted(DeliveryError("gone", "HTTP 410", retry=False, disable=True))
    commit(store, [numbered(1), numbered(2)], snapshot=None, now=T0)
    run(worker_for(store, receiver, clock), clock, until=T0 + 10)
    assert len(receiver.attempts) == 1
    assert [row.reason for row in store.outbox.deliveries(state="dropped")] == ["gone", "disabled"]
    assert store.outbox.health()[0].disabled
    store.register_receivers(["pager"])
    assert not store.outbox.health()[0].disabled


def test_a_message_is_given_up_after_three_days(store):
    clock, receiver = Clock(), Scripted(*[DOWN] * 10_000)
    commit(store, [finding()], snapshot=None, now=T0)
    run(worker_for(store, receiver, clock), clock, until=T0 + 3 * 86_400 + 301)
    [row] = store.outbox.deliveries()
    assert (row.state, row.reason, row.detail) == ("dropped", "expired", "network")
    assert 860 < row.attempts < 880  # one in five minutes


def test_a_clock_set_back_delays_nothing_for_long(store):
    clock, receiver = Clock(), Scripted(DOWN)
    commit(store, [finding()], snapshot=None, now=T0)
    worker = worker_for(store, receiver, clock)
    worker.step()
    clock.now -= 86_400
    run(worker, clock, until=clock.now + 5)
    assert len(receiver.sent) == 1
    assert LONGEST_DELAY_S < 86_400


def test_a_fault_of_ours_is_retried_and_tells_no_secret(store):
    clock, receiver = Clock(), Scripted(RuntimeError("https://x/secret-path"))
    commit(store, [finding()], snapshot=None, now=T0)
    worker = worker_for(store, receiver, clock)
    worker.step()
    [row] = store.outbox.deliveries()
    assert row.reason == "internal"
    assert row.detail.startswith("RuntimeError, line ")
    run(worker, clock, until=T0 + 5)
    assert len(receiver.sent) == 1


def test_what_was_sent_but_could_not_be_recorded_is_not_sent_again(store, monkeypatch):
    clock, receiver = Clock(), Scripted()
    commit(store, [finding()], snapshot=None, now=T0)
    worker = worker_for(store, receiver, clock)

    def full(*_, **__):
        raise StoreError("no room left", reason="disk_full")

    with monkeypatch.context() as patched:
        patched.setattr(store.outbox, "sent", full)
        for _ in range(3):
            with pytest.raises(StoreError):
                worker.step()
    worker.step()
    assert len(receiver.attempts) == 1
    assert store.outbox.deliveries()[0].state == "sent"


def test_each_receiver_goes_at_its_own_pace(store, tmp_path):
    secret_file = written(tmp_path / "secret", SECRET)
    with WebhookServer() as fast, WebhookServer() as slow:
        slow.next_answers.extend([Answer(delay_s=30.0)] * 5)
        receivers = [
            make_receiver(webhook_settings(fast.url, secret_file=secret_file, name="fast")),
            make_receiver(webhook_settings(slow.url, secret_file=secret_file, name="slow")),
        ]
        deliverer = Deliverer(store, receivers)
        deliverer.start()
        started = time.monotonic()
        for number in range(20):
            commit(store, [numbered(number)], snapshot=b"s", now=time.time())
            deliverer.wake()
        committed_s = time.monotonic() - started
        fast.wait_for(lambda: len(fast.accepted) == 20)
        health = deliverer.health()
        assert committed_s < 5.0
        assert (health["fast"].last_error, health["slow"].pending) == ("", 20)
        assert not deliverer.stop(0.2)
        slow.down()
        assert deliverer.stop(5.0)


def test_down_then_up_over_real_sockets(store, tmp_path):
    secret_file = written(tmp_path / "secret", SECRET)
    with WebhookServer() as server:
        server.down()
        receiver = make_receiver(webhook_settings(server.url, secret_file=secret_file))
        deliverer = Deliverer(store, [receiver], backoff=Backoff(first_s=0.05, cap_s=0.2))
        deliverer.start()
        [incident] = commit(store, [finding()], snapshot=None, now=time.time())
        commit(store, [ended(finding())], snapshot=None, now=time.time())
        deliverer.wake()
        time.sleep(0.4)
        down = deliverer.health()["pager"]
        assert (down.pending, down.last_error) == (2, "network (connection refused)")
        assert down.last_success is None
        server.up()
        server.next_answers.extend([Answer(status=500), Answer(status=503)])
        server.wait_for(lambda: len(server.accepted) == 2)
        assert deliverer.stop(5.0)
        assert [one.type for one in server.accepted] == ["incident.firing", "incident.resolved"]
        assert {one.body["data"]["id"] for one in server.accepted} == {incident.id}
        assert len(set(server.ids())) == 2
        up = deliverer.health()["pager"]
        assert (up.pending, up.last_error) == (0, "")
        assert up.last_success is not None


def test_slack_is_paced_to_its_limit_and_keeps_one_message_per_incident(store, tmp_path):
    with SlackServer() as server:
        settings = SlackSettings(
            name="chat",
            url=server.api_url,
            token_file=written(tmp_path / "token", TOKEN),
            channel="#alerts",
        )
        deliverer = Deliverer(store, [make_receiver(settings)])
        commit(store, [numbered(1), numbered(2)], snapshot=None, now=time.time())
        commit(store, [ended(numbered(1))], snapshot=None, now=time.time())
        deliverer.start()
        server.wait_for(lambda: len(server.messages) == 5)
        assert deliverer.stop(5.0)
        opened = [message for message in server.messages if message.thread_ts is None]
        replies = [message.thread_ts for message in server.messages if message.thread_ts]
        first, second = opened
        assert (first.edits, second.edits) == (1, 0)
        # each has its details in its thread, and one its end
        assert sorted(replies) == sorted([first.ts, first.ts, second.ts])
        assert server.calls.count("chat.postMessage") == 5  # none was refused
        assert store.outbox.health()[0].pending == 0


def test_an_hour_of_failure_loses_nothing_and_floods_nobody(store):
    clock, receiver = Clock(T0), Scripted(*[DOWN] * 1000)
    worker = worker_for(store, receiver, clock)
    told, over = [], []
    for minute in range(60):
        now = T0 + 60.0 * minute
        about = incident(numbered(minute, onset=now), id=f"incident-{minute:02}")
        told.append(about.id)
        store.commit([], snapshot=None, now=now, incidents=[Change(about, "firing")])
        # what fires gets worse and worse, and every other one ends
        for severity in ("warning", "critical"):
            worse = dataclasses.replace(about, severity=severity)
            store.commit([], snapshot=None, now=now + 1, incidents=[Change(worse, "updated")])
        if minute % 2:
            end = dataclasses.replace(worse, state="resolved", resolved=now + 30)
            over.append(about.id)
            store.commit([], snapshot=None, now=now + 30, incidents=[Change(end, "resolved")])
        run(worker, clock, until=now + 60)
    assert receiver.sent == []
    receiver.script = []
    run(worker, clock, until=T0 + 3600 + 600)
    heard = [sent for sent in receiver.sent if sent[1] == "firing"]
    assert sorted(id_ for id_, _ in heard) == told
    last = dict(receiver.sent)
    assert {id_ for id_, event in last.items() if event == "resolved"} == set(over)
    assert len(receiver.sent) <= 2 * len(told)
    assert store.outbox.health()[0].pending == 0
    assert {row.reason for row in store.outbox.deliveries(state="dropped")} == {"superseded"}


def test_stopping_is_quick_and_ends_every_thread(store):
    before = threading.active_count()
    deliverer = Deliverer(store, [Scripted()])
    deliverer.start()
    assert threading.active_count() == before + 1
    started = time.monotonic()
    assert deliverer.stop(5.0)
    assert time.monotonic() - started < 1.0
    assert threading.active_count() == before


def test_two_receivers_cannot_share_a_name(store):
    with pytest.raises(ValueError, match="names of their own: pager, pager"):
        Deliverer(store, [Scripted(), Scripted()])


def test_a_store_that_fails_for_a_while_does_not_end_the_thread(store, monkeypatch):
    receiver, failed = Scripted(), threading.Event()
    original = store.outbox.next_due

    def failing(*args, **kwargs):
        if not failed.is_set():
            failed.set()
            raise StoreError("no room left", reason="disk_full")
        return original(*args, **kwargs)

    monkeypatch.setattr(store.outbox, "next_due", failing)
    commit(store, [finding()], snapshot=None, now=time.time())
    deliverer = Deliverer(store, [receiver], wait=lambda event, _: event.wait(0.01))
    deliverer.start()
    deadline = time.monotonic() + 5
    while not receiver.sent and time.monotonic() < deadline:
        time.sleep(0.01)
    assert deliverer.stop(5.0)
    assert len(receiver.sent) == 1
