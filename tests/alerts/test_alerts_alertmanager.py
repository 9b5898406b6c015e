"""Alertmanager, the real one."""

import base64
import time

import pytest

from alerts.errors import DeliveryError
from alerts.receivers import Message, alertmanager, make_receiver, prometheus_alert
from alerts.settings import AlertmanagerSettings
from alerts.trial import send_test
from probes.window import EVERY, Pair
from tests.alerts import goldens
from tests.alerts.examples import finding, written
from tests.alerts.messages import answers, digest, firing, incident, over, worse
from tests.servers.alertmanager import HookServer, running
from tests.servers.base import Answer, LocalServer


@pytest.fixture
def hook():
    with HookServer() as server:
        yield server


@pytest.fixture
def real(tmp_path, hook):
    with running(tmp_path, hook.base_url) as manager:
        yield manager


@pytest.fixture
def receiver(real):
    made = make_receiver(AlertmanagerSettings(name="am", url=f"{real.url}/"))
    yield made
    made.close()


def message(event, told, **more):
    return Message(id="msg_1", event=event, incident=told, **more)


@pytest.mark.parametrize("event", goldens.EVENTS)
def test_bodies_are_the_golden_ones(event):
    goldens.check("alertmanager", event)


def test_it_answers_what_is_asked_at_night():
    [alert] = alertmanager.render(firing(), now=goldens.NOW)
    answers(alert | {"what": alert["annotations"]["description"]})


def test_it_fires_is_repeated_and_resolves(real, receiver, hook):
    now = time.time()
    since = {"started": now - 20, "detected": now - 5, "changed": now - 5}
    other = incident(id="other", symptoms=(finding(pair=Pair("cron", "api", 8080)),), **since)
    receipt = receiver.send(message("firing", incident(**since)), now=now)
    receiver.send(message("firing", other), now=now)
    hook.wait_for(lambda: hook.bodies and len(hook.bodies[-1]["alerts"]) == 2)
    body = hook.bodies[-1]
    assert body["status"] == "firing"
    assert body["groupLabels"] == {"alertname": "TailraceIncident", "service": "api"}  # one group
    assert {alert["annotations"]["incident"] for alert in body["alerts"]} == {
        "5f0c9d1be2a34477",
        "other",
    }
    told = len(hook.bodies)
    receiver.send(message("firing", incident(**since), earlier=receipt), now=time.time())
    receiver.send(message("firing", other), now=time.time())
    assert len(real.alerts()) == 2
    end = {"state": "resolved", "resolved": time.time(), "ended_as": "resolved"}
    told_over = message("resolved", incident(**since, **end), earlier=receipt)
    receiver.send(told_over, now=time.time())
    hook.wait_for(lambda: any(_resolved(body) for body in hook.bodies))
    # Repeating did not notify anybody again
    assert all(_resolved(body) for body in hook.bodies[told:])
    receiver.send(told_over, now=time.time())
    [left] = real.alerts()
    assert left["annotations"]["incident"] == "other"


def _resolved(body):
    return any(
        (alert["status"], alert["annotations"]["incident"]) == ("resolved", "5f0c9d1be2a34477")
        for alert in body["alerts"]
    )


def test_what_got_worse_is_there_once(real, receiver):
    now = time.time()
    receipt = receiver.send(message("firing", incident(started=now - 60)), now=now)
    [warning] = real.alerts()
    assert warning["labels"]["severity"] == "warning"
    receipt = receiver.send(
        message("updated", worse(started=now - 60), earlier=receipt), now=time.time()
    )
    [critical] = real.alerts()
    assert critical["labels"]["severity"] == "critical"
    assert critical["annotations"]["incident"] == warning["annotations"]["incident"]
    done = over(started=now - 60, resolved=time.time())
    receiver.send(message("resolved", done, earlier=receipt), now=time.time())
    assert real.alerts() == []


def test_fingerprints_and_end_are_alertmanagers_own(real, receiver):
    now = time.time()
    told = message("firing", incident(started=now - 60))
    receiver.send(told, now=now)
    [alert] = real.alerts()
    assert alert["fingerprint"] == prometheus_alert.fingerprint(alert["labels"])
    body = prometheus_alert.webhook_body(told, receiver="am")
    assert body["alerts"][0]["fingerprint"] == alert["fingerprint"]
    assert alert["labels"] == prometheus_alert.labels_of(told)
    [rendered] = alertmanager.render(told, now=now)
    assert rendered["endsAt"] == prometheus_alert.rfc3339(now + 4 * receiver.resend_s)


def test_its_own_webhook_body_has_the_same_shape_as_ours(receiver, hook):
    now = time.time()
    told = message("firing", incident(started=now - 60))
    receiver.send(told, now=now)
    hook.wait_for(lambda: hook.bodies)
    theirs = hook.bodies[0]
    ours = prometheus_alert.webhook_body(told, receiver="hook")
    assert set(ours) == set(theirs)
    assert set(ours["alerts"][0]) == set(theirs["alerts"][0])
    same = ("version", "groupKey", "status", "receiver", "groupLabels", "commonLabels")
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["commonAnnotations"] == theirs["commonAnnotations"]


def test_any_name_is_taken(real, receiver):
    now = time.time()
    first = finding(pair=Pair('qu"ote', "ünï\ncode \\", 80))
    receiver.send(message("firing", incident(symptoms=(first,), started=now - 1)), now=now)
    [alert] = real.alerts()
    assert alert["labels"]["server"] == "ünïcode \\"
    assert alert["fingerprint"] == prometheus_alert.fingerprint(alert["labels"])


def test_every_client_is_no_label():
    told = message("firing", incident(symptoms=(finding(pair=Pair(EVERY, "api", 80)),)))
    assert "client" not in prometheus_alert.labels_of(told)
    without = message("firing", incident(symptoms=()))
    assert set(prometheus_alert.labels_of(without)) == {"alertname", "service", "severity", "side"}


def test_a_digest_and_a_test_are_alerts_of_their_own(real, receiver):
    receiver.send(digest(), now=time.time())
    send_test(AlertmanagerSettings(name="am", url=real.url))
    names = {alert["labels"]["alertname"] for alert in real.alerts()}
    assert names == {"TailraceDigest", "TailraceTest"}


class Guarded(LocalServer):
    wanted = ""

    def answer(self, request):
        wanted = request.headers.get("authorization") == self.wanted
        return Answer(status=200 if wanted else 401)


def test_it_logs_in(tmp_path):
    secret = written(tmp_path / "secret", "s3cret")
    login = base64.b64encode(b"tailrace:s3cret").decode()
    with Guarded() as server:
        for more, wanted in (
            ({"token_file": secret}, "Bearer s3cret"),
            ({"username": "tailrace", "password_file": secret}, f"Basic {login}"),
        ):
            server.wanted = wanted
            receiver = make_receiver(AlertmanagerSettings(name="am", url=server.base_url, **more))
            receiver.send(firing(), now=time.time())
            server.wanted = "another"
            with pytest.raises(DeliveryError, match="HTTP 401"):
                receiver.send(firing(), now=time.time())
            receiver.close()


def test_what_it_refuses_is_dropped_and_what_ails_it_is_not(real, receiver, monkeypatch):
    monkeypatch.setattr(prometheus_alert, "labels_of", lambda _: {})
    with pytest.raises(DeliveryError) as caught:
        receiver.send(firing(), now=time.time())
    assert (caught.value.reason, caught.value.retry) == ("client_error", False)
    gone = make_receiver(AlertmanagerSettings(name="am", url="http://127.0.0.1:9"))
    with pytest.raises(DeliveryError) as caught:
        gone.send(firing(), now=time.time())
    assert (caught.value.reason, caught.value.retry) == ("network", True)
