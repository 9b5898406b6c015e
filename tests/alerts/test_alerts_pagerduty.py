import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.errors import DeliveryError
from alerts.incident import Root
from alerts.receivers import Message, make_receiver, pagerduty
from alerts.receivers.http import as_json
from alerts.settings import PagerDutySettings
from alerts.trial import send_test
from tests.alerts import goldens
from tests.alerts.examples import T0, finding, written
from tests.alerts.messages import adopted, answers, digest, firing, resolved, updated, worse
from tests.servers.base import Answer
from tests.servers.hooks import ROUTING_KEY, PagerDutyServer


@pytest.fixture
def server():
    with PagerDutyServer() as running:
        yield running


def settings_for(server, tmp_path, *, key=ROUTING_KEY):
    return PagerDutySettings(
        name="pd",
        routing_key_file=written(tmp_path / "key", key),
        url=server.base_url,
        timeout_s=1.0,
    )


@pytest.fixture
def receiver(server, tmp_path):
    made = make_receiver(settings_for(server, tmp_path))
    yield made
    made.close()


@pytest.mark.parametrize("event", goldens.EVENTS)
def test_bodies_are_the_golden_ones(event):
    goldens.check("pagerduty", event)


def test_it_answers_what_is_asked_at_night():
    answers(pagerduty.event(firing()))


def test_one_alert_from_trigger_to_resolve(server, receiver):
    earlier = receiver.send(firing(), now=T0)
    assert server.open == {"5f0c9d1be2a34477"}
    receiver.send(updated(earlier=earlier), now=T0)
    receiver.send(updated(earlier=earlier), now=T0)  # a repeat does no harm
    assert [event["payload"]["severity"] for event in server.events] == [
        "warning",
        "critical",
        "critical",
    ]
    assert "now critical" in server.events[1]["payload"]["custom_details"]["changed"]
    receiver.send(resolved(earlier=earlier), now=T0)
    assert server.open == set()
    assert server.changes == []


def test_a_new_normal_is_a_change_that_pages_nobody(server, receiver):
    receiver.send(firing(), now=T0)
    receiver.send(adopted(), now=T0)
    assert server.open == set()
    [change] = server.changes
    assert change["payload"]["summary"].startswith("New normal: api is slow")
    receiver.send(digest(), now=T0)
    assert server.open == set()
    assert server.changes[1]["payload"]["summary"] == "12 incidents were held back"


def test_when_the_change_fails_both_are_sent_again(server, receiver):
    server.next_answers.extend([Answer(status=202), Answer(status=503)])
    with pytest.raises(DeliveryError) as caught:
        receiver.send(adopted(), now=T0)
    assert caught.value.retry
    receiver.send(adopted(), now=T0)
    assert [request.path for request in server.requests] == 2 * [
        "/v2/enqueue",
        "/v2/change/enqueue",
    ]


@pytest.mark.parametrize(
    ("answer", "reason", "retry", "wait_s"),
    [
        (Answer(status=400, body=b"invalid event"), "client_error", False, None),
        (Answer(status=429, headers={"Retry-After": "30"}), "rate_limited", True, 30.0),
        (Answer(status=500), "server_error", True, None),
        (Answer(status=302, headers={"Location": "/x"}), "redirect", True, None),
        (Answer(delay_s=3.0), "timeout", True, None),
        (Answer(hang_up=True), "network", True, None),
    ],
)
def test_every_failure_has_its_reason(server, receiver, answer, reason, retry, wait_s):
    server.next_answers.append(answer)
    with pytest.raises(DeliveryError) as caught:
        receiver.send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry) == (reason, retry)
    assert caught.value.retry_after_s == wait_s


@pytest.mark.parametrize("key", ["short", "0123456789abcdef 123456789abcdef", "ü" * 32])
def test_a_key_that_is_none_is_told_and_nothing_is_sent(server, tmp_path, key):
    receiver = make_receiver(settings_for(server, tmp_path, key=key))
    with pytest.raises(DeliveryError) as caught:
        receiver.send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry) == ("secret_unreadable", True)
    assert key not in str(caught.value)
    assert server.requests == []
    receiver.close()


def test_a_wrong_key_is_refused(server, tmp_path):
    receiver = make_receiver(settings_for(server, tmp_path, key="f" * 32))
    with pytest.raises(DeliveryError, match="HTTP 400"):
        receiver.send(firing(), now=T0)
    receiver.close()


def test_a_test_message_is_an_alert_of_its_own(server, tmp_path):
    send_test(settings_for(server, tmp_path))
    [event] = server.events
    assert event["payload"]["summary"].startswith("[test] ")
    assert event["payload"]["severity"] == "info"
    assert event["dedup_key"].startswith("msg_test_")


TEXT = st.text(max_size=200) | st.sampled_from(["€" * 5_000])


@settings(max_examples=40, deadline=None)
@given(
    name=TEXT, text=TEXT, number=st.integers(1, 50), event=st.sampled_from(["firing", "updated"])
)
def test_any_incident_is_within_its_limits(name, text, number, event):
    told = worse(
        title=text or "x",
        summary=text,
        impact=text,
        roots=(Root(service=name, side="server", score=1.0, why=text),) * 5,
        affected=(name,) * 1000,
        symptoms=tuple(finding(cause=text, signal=name, onset=T0 + i) for i in range(number)),
        findings=tuple(map(str, range(1000))),
    )
    event = pagerduty.event(Message(id="msg_1", event=event, incident=told))
    assert 1 <= len(event["payload"]["summary"]) <= pagerduty.SUMMARY_LIMIT
    assert event["payload"]["source"]
    assert len(as_json(event)) < pagerduty.SIZE_LIMIT_BYTES / 2
