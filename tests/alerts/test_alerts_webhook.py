import json
import threading
import time
from pathlib import Path

import pytest

from alerts.digest import digest_from_json, make_digest
from alerts.errors import DeliveryError
from alerts.outbox import message_id
from alerts.receivers.base import DigestMessage, Message, retry_after_s
from alerts.receivers.webhook import Webhook, render
from alerts.trial import send_test
from tests.alerts.examples import (
    T0,
    ended,
    finding,
    incident,
    numbered,
    webhook_settings,
    written,
)
from tests.servers.base import Answer
from tests.servers.webhook import SECRET, WebhookServer

GOLDEN = Path(__file__).parent / "golden"


def message(*findings):
    about = incident(*findings, id="0123456789abcdef")
    id_ = message_id(about.id, about.state, "pager")
    return Message(id=id_, event=about.state, incident=about)


@pytest.fixture
def server():
    with WebhookServer() as running:
        yield running


@pytest.fixture
def webhook(server, tmp_path):
    secret_file = written(tmp_path / "secret", SECRET)
    receiver = Webhook(webhook_settings(server.url, secret_file=secret_file, timeout_s=1.0))
    yield receiver
    receiver.close()


@pytest.mark.parametrize(
    ("name", "findings"),
    [
        ("webhook-firing", [finding(cause="timed_out", side="network")]),
        ("webhook-resolved", [ended(finding()), ended(finding(onset=T0 + 60), state="adopted")]),
    ],
)
def test_bodies_are_the_golden_ones(name, findings):
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    body = render(message(*findings))
    assert json.loads(body) == expected
    assert body == render(message(*findings))


def test_the_body_of_a_digest_is_the_golden_one(server, webhook):
    held = [incident(numbered(n), id=f"{n:016x}") for n in range(2)]
    made = make_digest(held, reason="no token was left of false_alerts = 1/week", now=T0)
    sent = DigestMessage(id="msg_1", digest=made)
    assert json.loads(render(sent)) == json.loads((GOLDEN / "webhook-digest.json").read_text())
    assert webhook.send(sent, now=time.time()) == {}
    [received] = server.accepted
    assert (received.id, received.type) == ("msg_1", "incident.digest")
    assert digest_from_json(received.body["data"]) == made


def test_a_message_is_signed_and_taken(server, webhook):
    sent = message()
    assert webhook.send(sent, now=time.time()) == {}
    [received] = server.accepted
    assert received.id == sent.id
    assert received.type == "incident.firing"
    assert received.body["timestamp"] == "2026-01-02T03:04:20.250Z"
    assert received.body["data"] == sent.incident.to_json()
    assert server.requests[0].headers["content-type"] == "application/json"


def test_a_wrong_secret_is_refused_for_good(server, tmp_path):
    secret_file = written(tmp_path / "secret", "whsec_" + "QUJD" * 8)
    receiver = Webhook(webhook_settings(server.url, secret_file=secret_file))
    with pytest.raises(DeliveryError, match="HTTP 401") as caught:
        receiver.send(message(), now=time.time())
    assert not caught.value.retry
    receiver.close()


def test_while_a_secret_is_rotated_both_sign(server, tmp_path):
    secret_file = written(tmp_path / "secret", "whsec_" + "QUJD" * 8 + f"\n{SECRET}")
    receiver = Webhook(webhook_settings(server.url, secret_file=secret_file))
    receiver.send(message(), now=time.time())
    assert len(server.requests[0].headers["webhook-signature"].split()) == 2
    assert len(server.accepted) == 1
    receiver.close()


def test_without_a_secret_file_nothing_is_signed():
    with WebhookServer(secret=None) as server:
        receiver = Webhook(webhook_settings(server.url))
        receiver.send(message(), now=time.time())
        receiver.close()
        assert "webhook-signature" not in server.requests[0].headers
        assert server.accepted[0].id == message().id


@pytest.mark.parametrize("content", ["", "whsec_", "whsec_%%%not base64", "\n\n"])
def test_a_useless_secret_is_told_and_nothing_is_sent(server, tmp_path, content):
    secret_file = written(tmp_path / "secret", content)
    receiver = Webhook(webhook_settings(server.url, secret_file=secret_file))
    with pytest.raises(DeliveryError) as caught:
        receiver.send(message(), now=time.time())
    assert (caught.value.reason, caught.value.retry) == ("secret_unreadable", True)
    assert server.requests == []
    receiver.close()


@pytest.mark.parametrize(
    ("answer", "reason", "retry", "wait_s"),
    [
        (Answer(status=500), "server_error", True, None),
        (Answer(status=503, headers={"Retry-After": "120"}), "server_error", True, 120.0),
        (Answer(status=429, headers={"Retry-After": "7"}), "rate_limited", True, 7.0),
        (Answer(status=408), "timeout", True, None),
        (Answer(status=400), "client_error", False, None),
        (Answer(status=404), "client_error", False, None),
        (Answer(status=410), "gone", False, None),
        (Answer(delay_s=5.0), "timeout", True, None),
        (Answer(hang_up=True), "network", True, None),
    ],
)
def test_every_failure_has_its_reason(server, webhook, answer, reason, retry, wait_s):
    server.next_answers.append(answer)
    with pytest.raises(DeliveryError) as caught:
        webhook.send(message(), now=time.time())
    assert (caught.value.reason, caught.value.retry) == (reason, retry)
    assert caught.value.retry_after_s == wait_s
    assert caught.value.disable == (reason == "gone")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(server, webhook, status):
    server.next_answers.append(Answer(status=status, body=b"" if status == 204 else b"<html>"))
    webhook.send(message(), now=time.time())


def test_a_redirect_is_a_failure_and_is_not_followed(server, webhook):
    with WebhookServer(secret=None) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            server.next_answers.append(Answer(status=status, headers={"Location": elsewhere.url}))
            with pytest.raises(DeliveryError, match=f"redirect .HTTP {status}"):
                webhook.send(message(), now=time.time())
        assert elsewhere.requests == []


def test_a_server_that_is_not_there(server, webhook):
    server.down()
    with pytest.raises(DeliveryError, match="connection refused") as caught:
        webhook.send(message(), now=time.time())
    assert (caught.value.reason, caught.value.retry) == ("network", True)


@pytest.mark.parametrize("url", ["ftp://example.com/x", "not a url", "http://[::1", "https://"])
def test_a_url_that_is_none(url):
    receiver = Webhook(webhook_settings(url))
    with pytest.raises(DeliveryError) as caught:
        receiver.send(message(), now=time.time())
    assert (caught.value.reason, caught.value.retry) == ("misconfigured", False)
    receiver.close()


def test_an_answer_without_end_is_not_read(server, webhook):
    server.next_answers.append(Answer(body=b"x" * 50_000_000))
    started = time.monotonic()
    webhook.send(message(), now=time.time())
    assert time.monotonic() - started < 3.0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("5", 5.0),
        (" 2.5 ", 2.5),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 59.75),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 59.75),
        ("999999999", 3600.0),
        ("9" * 400, 3600.0),
        ("-5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_in_seconds_and_as_a_date(header, expected):
    assert retry_after_s(header, now=T0) == expected


def test_a_test_message_says_that_it_is_one(server, tmp_path):
    secret_file = written(tmp_path / "secret", SECRET)
    result = send_test(webhook_settings(server.url, secret_file=secret_file))
    [received] = server.accepted
    assert (received.type, received.id) == ("incident.test", result.message_id)
    assert "this is a test" in received.body["data"]["summary"]
    server.next_answers.append(Answer(status=503))
    with pytest.raises(DeliveryError, match=r"server_error \(HTTP 503\): the receiver has a fault"):
        send_test(webhook_settings(server.url, secret_file=secret_file))
    with pytest.raises(ValueError, match="needs a url"):
        send_test(webhook_settings(""))
    assert threading.active_count() < 20
