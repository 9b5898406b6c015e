"""No secret may reach a log, an error or the database, whatever the receiver does."""

import io
import logging
import time
import traceback

import pytest
import structlog

from alerts.deliver import Backoff, Deliverer
from alerts.errors import DeliveryError
from alerts.receivers import make_receiver
from alerts.settings import ReceiverSettings
from alerts.store import Store
from alerts.trial import send_test
from tests.alerts.examples import commit, numbered, written
from tests.servers.base import Answer, LocalServer

SECRETS = {
    "url_path": "averysecreturlpath",
    "url_query": "averysecretquery",
    "url_password": "averysecretpassword",
    "signing": "QXZlcnlTZWNyZXRTaWduaW5nU2VjcmV0",
    "token": "xoxb-averysecrettoken",
}


class Echo(LocalServer):
    """Throws whatever it was sent back at the sender, as broken servers and proxies do."""

    status = 500
    location = ""

    def answer(self, request):
        everything = f"{request.path} {dict(request.headers)}".encode() + request.body
        headers = {"Location": self.base_url + request.path, "Retry-After": "0"}
        return Answer(status=self.status, body=everything, headers=headers)


def settings_for(kind, base_url, tmp_path):
    host = base_url.removeprefix("http://")
    url = (
        f"http://user:{SECRETS['url_password']}@{host}/services/{SECRETS['url_path']}"
        f"?key={SECRETS['url_query']}"
    )
    plain = f"{base_url}/services/{SECRETS['url_path']}"
    if kind == "webhook":
        secret_file = written(tmp_path / "signing", f"whsec_{SECRETS['signing']}")
        return ReceiverSettings(
            name=kind, type="webhook", url=url, secret_file=secret_file, timeout_s=0.3
        )
    if kind == "slack-hook":
        return ReceiverSettings(name=kind, type="slack", url=plain, timeout_s=1)
    token_file = written(tmp_path / "token", SECRETS["token"])
    return ReceiverSettings(
        name=kind,
        type="slack",
        url=f"{base_url}/api/",
        token_file=token_file,
        channel="#alerts",
        timeout_s=1,
    )


@pytest.fixture
def everything_logged():
    """Collect every log record of every library, down to debug."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    # Whatever ran before in this process may have sent the log elsewhere
    structlog.reset_defaults()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(stream))
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)
    structlog.reset_defaults()


@pytest.mark.parametrize("status", [200, 302, 400, 410, 429, 500, "down", "hang up", "timeout"])
@pytest.mark.parametrize("kind", ["webhook", "slack-hook", "slack-bot"])
def test_no_secret_leaks(kind, status, tmp_path, everything_logged):
    with Echo() as server:
        settings = settings_for(kind, server.base_url, tmp_path)
        if isinstance(status, int):
            server.status = status
        elif status == "down":
            server.down()
        else:
            slow = Answer(hang_up=status == "hang up", delay_s=1.2 if status == "timeout" else 0)
            server.next_answers.extend([slow] * 9)
        text = ""
        try:
            send_test(settings)
        except DeliveryError as error:
            text = "".join(traceback.format_exception(error)) + repr(error)
        state_dir = tmp_path / "state"
        with Store.open(state_dir) as store:
            deliverer = Deliverer(store, [make_receiver(settings)], backoff=Backoff(first_s=60))
            commit(store, [numbered(1)], snapshot=None, now=time.time())
            deliverer.start()
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                [row] = store.outbox.deliveries()
                if row.attempts or row.state != "pending":
                    break
                time.sleep(0.01)
            assert row.attempts == 1
            text += repr(store.outbox.deliveries()) + repr(deliverer.health())
            assert deliverer.stop(5.0)
            files = b"".join(path.read_bytes() for path in state_dir.iterdir())
        files += b"".join(path.read_bytes() for path in state_dir.iterdir())
    logged = everything_logged.getvalue()
    assert kind in logged  # the collector works
    assert b"request latency" in files
    for name, secret in SECRETS.items():
        assert secret not in text, name
        assert secret not in logged, name
        assert secret.encode() not in files, name


@pytest.mark.parametrize("kind", ["webhook", "slack-hook"])
def test_a_broken_url_is_not_repeated(kind, tmp_path, everything_logged):
    settings = settings_for(kind, "http://[::broken", tmp_path)
    with pytest.raises(DeliveryError) as caught:
        send_test(settings)
    text = "".join(traceback.format_exception(caught.value)) + everything_logged.getvalue()
    assert "secret" not in text.replace("secret_", "").replace("test_alerts_secrets", "")
