import dataclasses
import json
import threading
import time

import pytest

from alerts.digest import digest_from_json
from alerts.errors import DeliveryError
from alerts.incident import incident_from_json
from alerts.receivers.base import Message, retry_after_s
from alerts.receivers.webhook import Webhook, render
from alerts.settings import SettingsError, WebhookSettings
from alerts.trial import send_test
from tests.alerts import goldens, messages
from tests.alerts.examples import T0, webhook_settings, written
from tests.alerts.messages import digest, firing, resolved, updated
from tests.servers.base import Answer, LocalServer
from tests.servers.webhook import SECRET, WebhookServer


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


@pytest.mark.parametrize("event", goldens.EVENTS)
@pytest.mark.parametrize("format_", ["webhook", "webhook-alertmanager", "cloudevents"])
def test_bodies_are_the_golden_ones(format_, event):
    goldens.check(format_, event)
    assert render(goldens.message(event)) == render(goldens.message(event))


def test_what_it_is_told_reads_back(server, webhook):
    for sent in (firing(), updated(), resolved()):
        webhook.send(sent, now=time.time())
    webhook.send(digest(), now=time.time())
    *incidents, last = server.accepted
    kinds = ["incident.firing", "incident.updated", "incident.resolved"]
    assert [one.type for one in incidents] == kinds
    assert incident_from_json(incidents[1].body["data"]) == as_read(updated().incident)
    assert last.type == "incident.digest"
    assert digest_from_json(last.body["data"]) == digest().digest


def as_read(incident):
    """Return an incident without what is not in its public form: the findings' evidence."""
    return dataclasses.replace(
        incident, symptoms=tuple(dataclasses.replace(s, evidence={}) for s in incident.symptoms)
    )


@pytest.mark.parametrize("event", messages.EVENTS)
def test_the_body_of_alertmanagers_webhook(event):
    with LocalEcho() as server:
        receiver = Webhook(webhook_settings(server.base_url, format="alertmanager"))
        receiver.send(messages.EVENTS[event](), now=time.time())
        receiver.close()
        body = json.loads(server.requests[0].body)
    assert body["version"] == "4"
    over = event in ("resolved", "adopted")
    assert body["status"] == body["alerts"][0]["status"] == ("resolved" if over else "firing")
    assert (body["alerts"][0]["endsAt"] == "0001-01-01T00:00:00Z") == (not over)
    assert body["receiver"] == "pager"
    assert set(body["alerts"][0]) == {
        "status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint",
    }  # fmt: skip


def test_a_cloud_event_in_binary_mode(tmp_path):
    told = dataclasses.replace(messages.incident(), id='é"% id')
    sent = Message(id="msg_1", event="firing", incident=told)
    with LocalEcho() as server:
        receiver = Webhook(webhook_settings(server.base_url, format="cloudevents"))
        for _ in range(2):
            receiver.send(sent, now=time.time())
        receiver.close()
        first, again = server.requests
    assert first.body == render(sent)
    assert first.headers["content-type"] == "application/json"
    assert (
        first.headers["ce-id"] == again.headers["ce-id"] == first.headers["webhook-id"] == "msg_1"
    )
    assert first.headers["ce-specversion"] == "1.0"
    assert first.headers["ce-type"] == "tailrace.incident.firing"
    assert first.headers["ce-subject"] == "%C3%A9%22%25%20id"
    assert first.headers["ce-source"].startswith("/tailrace/")
    assert first.headers["ce-time"] == json.loads(first.body)["timestamp"]


class LocalEcho(LocalServer):
    """Answers 200 to anything."""

    def answer(self, request):
        return Answer()


def test_a_url_can_be_in_a_file(server, tmp_path):
    settings = WebhookSettings(
        name="pager",
        url_file=written(tmp_path / "url", server.url),
        secret_file=written(tmp_path / "secret", SECRET),
    )
    receiver = Webhook(settings)
    receiver.send(firing(), now=time.time())
    assert len(server.accepted) == 1
    receiver.close()


def test_a_message_is_signed_and_taken(server, webhook):
    sent = firing()
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
        receiver.send(firing(), now=time.time())
    assert not caught.value.retry
    receiver.close()


def test_while_a_secret_is_rotated_both_sign(server, tmp_path):
    secret_file = written(tmp_path / "secret", "whsec_" + "QUJD" * 8 + f"\n{SECRET}")
    receiver = Webhook(webhook_settings(server.url, secret_file=secret_file))
    receiver.send(firing(), now=time.time())
    assert len(server.requests[0].headers["webhook-signature"].split()) == 2
    assert len(server.accepted) == 1
    receiver.close()


def test_without_a_secret_file_nothing_is_signed():
    with WebhookServer(secret=None) as server:
        receiver = Webhook(webhook_settings(server.url))
        receiver.send(firing(), now=time.time())
        receiver.close()
        assert "webhook-signature" not in server.requests[0].headers
        assert server.accepted[0].id == firing().id


@pytest.mark.parametrize("content", ["", "whsec_", "whsec_%%%not base64", "\n\n"])
def test_a_useless_secret_is_told_and_nothing_is_sent(server, tmp_path, content):
    secret_file = written(tmp_path / "secret", content)
    receiver = Webhook(webhook_settings(server.url, secret_file=secret_file))
    with pytest.raises(DeliveryError) as caught:
        receiver.send(firing(), now=time.time())
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
        webhook.send(firing(), now=time.time())
    assert (caught.value.reason, caught.value.retry) == (reason, retry)
    assert caught.value.retry_after_s == wait_s
    assert caught.value.disable == (reason == "gone")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(server, webhook, status):
    server.next_answers.append(Answer(status=status, body=b"" if status == 204 else b"<html>"))
    webhook.send(firing(), now=time.time())


def test_a_redirect_is_a_failure_and_is_not_followed(server, webhook):
    with WebhookServer(secret=None) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            server.next_answers.append(Answer(status=status, headers={"Location": elsewhere.url}))
            with pytest.raises(DeliveryError, match=f"redirect .HTTP {status}"):
                webhook.send(firing(), now=time.time())
        assert elsewhere.requests == []


def test_a_server_that_is_not_there(server, webhook):
    server.down()
    with pytest.raises(DeliveryError, match="connection refused") as caught:
        webhook.send(firing(), now=time.time())
    assert (caught.value.reason, caught.value.retry) == ("network", True)


@pytest.mark.parametrize("url", ["http://[::1", "http://[zz]/", "http://:99999/"])
def test_a_url_that_is_none(url):
    receiver = Webhook(webhook_settings(url))
    with pytest.raises(DeliveryError) as caught:
        receiver.send(firing(), now=time.time())
    assert (caught.value.reason, caught.value.retry) == ("misconfigured", False)
    receiver.close()


@pytest.mark.parametrize("url", ["http://exa mple/", "averysecret", "\n"])
def test_a_file_with_no_url(url, tmp_path):
    settings = WebhookSettings(name="pager", url_file=written(tmp_path / "url", url))
    receiver = Webhook(settings)
    with pytest.raises(DeliveryError) as caught:
        receiver.send(firing(), now=time.time())
    assert (caught.value.reason, caught.value.retry) == ("secret_unreadable", True)
    assert "averysecret" not in str(caught.value)
    receiver.close()


@pytest.mark.parametrize("url", ["ftp://example.com/x", "not a url", "https://", ""])
def test_a_url_that_cannot_be_one(url):
    with pytest.raises(SettingsError, match="not a URL"):
        webhook_settings(url)


def test_an_answer_without_end_is_not_read(server, webhook):
    server.next_answers.append(Answer(body=b"x" * 50_000_000))
    started = time.monotonic()
    webhook.send(firing(), now=time.time())
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
    assert threading.active_count() < 20
