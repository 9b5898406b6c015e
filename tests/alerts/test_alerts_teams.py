import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.errors import DeliveryError
from alerts.incident import Root, Trigger
from alerts.receivers import Message, make_receiver, teams
from alerts.receivers.http import as_json
from alerts.settings import TeamsSettings
from alerts.trial import send_test
from probes.window import Pair
from tests.alerts import goldens
from tests.alerts.examples import T0, finding, written
from tests.alerts.messages import answers, digest, firing, resolved, texts, updated, worse
from tests.servers.base import Answer
from tests.servers.hooks import CARD_SCHEMA, TeamsServer


@pytest.fixture
def server():
    with TeamsServer() as running:
        yield running


@pytest.fixture
def receiver(server, tmp_path):
    url_file = written(tmp_path / "url", server.url)
    made = make_receiver(TeamsSettings(name="teams", url_file=url_file, timeout_s=1.0))
    yield made
    made.close()


@pytest.mark.parametrize("event", goldens.EVENTS)
def test_bodies_are_the_golden_ones(event):
    goldens.check("teams", event)


def test_it_answers_what_is_asked_at_night():
    answers(teams.render(firing()))


def test_a_card_for_each_change(server, receiver):
    receipt = receiver.send(firing(), now=T0)
    receipt = receiver.send(updated(earlier=receipt), now=T0)
    receiver.send(resolved(earlier=receipt), now=T0)
    receiver.send(digest(), now=T0)
    first, second, third, last = server.cards
    assert first["body"][0]["inlines"][0]["color"] == "warning"
    assert "now critical (was warning)" in "\n".join(texts(second))
    assert third["body"][0]["inlines"][0]["color"] == "good"
    assert "silence" not in json.dumps(third)
    assert "12 incidents were held back" in "\n".join(texts(last))


@pytest.mark.parametrize(
    ("answer", "reason", "retry", "wait_s"),
    [
        (Answer(status=400), "client_error", False, None),
        (Answer(status=429, headers={"Retry-After": "30"}), "rate_limited", True, 30.0),
        (Answer(status=502), "server_error", True, None),
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


def test_a_url_that_is_none_or_wrong(server, receiver, tmp_path):
    written(tmp_path / "url", server.url[:-1])
    with pytest.raises(DeliveryError, match="HTTP 401"):
        receiver.send(firing(), now=T0)
    written(tmp_path / "url", "averysecretsignature")
    with pytest.raises(DeliveryError, match="holds no URL") as caught:
        receiver.send(firing(), now=T0)
    assert "averysecret" not in str(caught.value)


def test_a_test_message_says_that_it_is_one(server, tmp_path):
    send_test(TeamsSettings(name="teams", url_file=written(tmp_path / "url", server.url)))
    assert "[test]" in server.cards[0]["body"][0]["inlines"][0]["text"]


TEXT = st.text(max_size=200) | st.sampled_from(["😀" * 5_000])


@settings(max_examples=40, deadline=None)
@given(
    name=TEXT, text=TEXT, number=st.integers(0, 50), event=st.sampled_from(["firing", "updated"])
)
def test_any_incident_is_within_its_limits(name, text, number, event):
    told = worse(
        title=text,
        impact=text,
        trigger=Trigger(kind="deploy", service=name, at=T0, detail=text),
        picture="█" * 500,
        roots=(Root(service=name, side="server", score=1.0, why=text),) * 5,
        affected=(name,) * 1000,
        symptoms=tuple(finding(cause=text, signal=name, onset=T0 + i) for i in range(number)),
        findings=tuple(map(str, range(1000))),
    )
    card = teams.render(Message(id="msg_1", event=event, incident=told, earlier={"root": name}))
    jsonschema.validate(card, CARD_SCHEMA)
    assert len(as_json(card)) <= teams.SIZE_LIMIT_BYTES
    assert "tailrace explain" in "\n".join(texts(card))


def test_what_would_be_too_large_loses_its_last_lines():
    name = "😀" * 5_000
    root = Root(service=name, side="server", score=1.0, why=name)
    pair = Pair(name, name, 80)
    told = worse(
        title=name,
        impact=name,
        roots=(root,) * 3,
        affected=(name, f"{name}2") * 20,
        trigger=Trigger(kind="deploy", service=name, at=T0, detail=name),
        symptoms=tuple(finding(pair=pair, signal=name, onset=T0 + i) for i in range(20)),
    )
    earlier = {"root": name + "x", "severity": "info"}
    card = teams.render(Message(id="msg_1", event="updated", incident=told, earlier=earlier))
    assert teams.SIZE_LIMIT_BYTES * 0.9 < len(as_json(card)) <= teams.SIZE_LIMIT_BYTES
    assert "tailrace silence add" in "\n".join(texts(card))
