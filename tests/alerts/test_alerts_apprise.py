"""Apprise, by one of its services that is a server of ours."""

import json
import sys

import pytest

from alerts.errors import DeliveryError
from alerts.receivers import make_receiver
from alerts.settings import AppriseSettings
from alerts.trial import send_test
from tests.alerts.examples import T0, written
from tests.alerts.messages import answers, digest, firing, resolved, updated
from tests.servers.base import Answer, LocalServer

# Loading its services, it imports what Python 3.13 no longer has, and in a way of its own
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")


class JsonServer(LocalServer):
    """What Apprise's `json://` posts."""

    def answer(self, request):
        return Answer(status=200 if "averysecretkey" in request.path else 403)

    @property
    def bodies(self):
        return [json.loads(request.body) for request in self.requests]


@pytest.fixture
def server():
    with JsonServer() as running:
        yield running


@pytest.fixture
def receiver(server, tmp_path):
    url = f"json://127.0.0.1:{server.port}/averysecretkey"
    return make_receiver(AppriseSettings(name="else", url_file=written(tmp_path / "url", url)))


def test_it_tells_what_is_asked_at_night(server, receiver):
    receipt = receiver.send(firing(), now=T0)
    receipt = receiver.send(updated(earlier=receipt), now=T0)
    receiver.send(resolved(earlier=receipt), now=T0)
    receiver.send(digest(), now=T0)
    first, second, third, last = server.bodies
    answers(first)
    assert [body["type"] for body in server.bodies] == ["warning", "failure", "success", "info"]
    assert "now critical (was warning)" in second["message"]
    assert third["title"].startswith("✅ Resolved: ")
    assert last["title"] == "🗒️ 12 incidents were held back"


def test_what_did_not_arrive_is_repeated(server, receiver):
    server.next_answers.append(Answer(status=500, body=b"averysecretkey"))
    with pytest.raises(DeliveryError) as caught:
        receiver.send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry) == ("server_error", True)
    assert "averysecret" not in str(caught.value)
    receiver.send(firing(), now=T0)
    server.down()
    with pytest.raises(DeliveryError):
        receiver.send(firing(), now=T0)


@pytest.mark.parametrize("url", ["averysecret", "nothing://averysecret", "json://a\njson://b"])
def test_a_url_that_is_none_or_several(tmp_path, url):
    receiver = make_receiver(AppriseSettings(name="else", url_file=written(tmp_path / "url", url)))
    with pytest.raises(DeliveryError, match="holds no URL of Apprise") as caught:
        receiver.send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry) == ("secret_unreadable", True)
    assert "averysecret" not in str(caught.value)


def test_without_the_library_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.delitem(sys.modules, "alerts.receivers.apprise", raising=False)
    with pytest.raises(DeliveryError, match=r"not installed: pip install tailrace\[apprise\]"):
        make_receiver(AppriseSettings(name="else", url_file=tmp_path / "url"))


def test_a_test_message_says_that_it_is_one(server, tmp_path):
    url = f"json://127.0.0.1:{server.port}/averysecretkey"
    send_test(AppriseSettings(name="else", url_file=written(tmp_path / "url", url)))
    assert "[test]" in server.bodies[0]["title"]
