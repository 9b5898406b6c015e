"""No secret may reach a log, an error or what `config show` prints, whatever the receiver does."""

import io
import logging
import time
import traceback

import pytest
import structlog

from alerts.errors import DeliveryError
from alerts.receivers import make_receiver
from alerts.settings import (
    AlertmanagerSettings,
    AppriseSettings,
    EmailSettings,
    PagerDutySettings,
    SlackSettings,
    TeamsSettings,
    WebhookSettings,
)
from alerts.trial import send_test
from tailrace.config import Alerts, Config
from tests.alerts.examples import written
from tests.alerts.messages import adopted, digest, firing, updated
from tests.servers.base import Answer, LocalServer

SECRETS = {
    "url_path": "averysecreturlpath",
    "url_query": "averysecretquery",
    "url_password": "averysecretpassword",
    "signing": "QXZlcnlTZWNyZXRTaWduaW5nU2VjcmV0",
    "token": "xoxb-averysecrettoken",
    "routing_key": "averysecretroutingkeyof32letters",
    "password": "averysecretmailpassword",
}

log = structlog.get_logger("tests")
# Apprise's, when it loads its services
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")


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
    path = f"services/{SECRETS['url_path']}?key={SECRETS['url_query']}"
    url = f"http://user:{SECRETS['url_password']}@{host}/{path}"
    plain = f"{base_url}/{path.partition('?')[0]}"
    token = written(tmp_path / "token", SECRETS["token"])
    secret_url = written(tmp_path / "url", plain)
    if kind == "webhook":
        secret_file = written(tmp_path / "signing", f"whsec_{SECRETS['signing']}")
        return WebhookSettings(name=kind, url=url, secret_file=secret_file, timeout_s=0.3)
    if kind == "slack-hook":
        return SlackSettings(name=kind, url=plain, timeout_s=1)
    if kind == "slack-bot":
        api = f"{base_url}/api/"
        return SlackSettings(name=kind, url=api, token_file=token, channel="#alerts", timeout_s=1)
    if kind == "alertmanager":
        return AlertmanagerSettings(name=kind, url=url, token_file=token, timeout_s=0.3)
    if kind == "alertmanager-login":
        password = written(tmp_path / "password", SECRETS["password"])
        return AlertmanagerSettings(
            name=kind, url=base_url, username="user", password_file=password, timeout_s=0.3
        )
    if kind == "pagerduty":
        key = written(tmp_path / "key", SECRETS["routing_key"])
        return PagerDutySettings(name=kind, routing_key_file=key, url=base_url, timeout_s=0.3)
    if kind == "teams":
        return TeamsSettings(name=kind, url_file=secret_url, timeout_s=0.3)
    if kind == "email":
        password = written(tmp_path / "password", SECRETS["password"])
        return EmailSettings(
            name=kind,
            server=host,
            sender="tailrace@example.com",
            recipients=("on-call@example.com",),
            encryption="tls",
            username="user",
            password_file=password,
            timeout_s=0.3,
        )
    apprise = written(tmp_path / "apprise", f"json://{host}/{SECRETS['url_path']}")
    return AppriseSettings(name=kind, url_file=apprise)


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


KINDS = [
    "alertmanager", "alertmanager-login", "apprise", "email", "pagerduty", "slack-bot",
    "slack-hook", "teams", "webhook",
]  # fmt: skip


@pytest.mark.parametrize("status", [200, 302, 400, 410, 429, 500, "down", "hang up", "timeout"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_leaks(kind, status, tmp_path, everything_logged):
    if kind == "apprise" and status == "timeout":
        pytest.skip("Apprise has a limit of its own, of some seconds")
    with Echo() as server:
        settings = settings_for(kind, server.base_url, tmp_path)
        if isinstance(status, int):
            server.status = status
        elif status == "down":
            server.down()
        else:
            slow = Answer(hang_up=status == "hang up", delay_s=1.2 if status == "timeout" else 0)
            server.next_answers.extend([slow] * 9)
        receiver = make_receiver(settings)
        said = []
        # All that the outbox stores and the daemon logs of an attempt is its error or its receipt
        for message in (firing(test=True), updated(), adopted(), digest()):
            try:
                said.append(repr(receiver.send(message, now=time.time())))
            except DeliveryError as error:
                said += [*traceback.format_exception(error), repr(error), error.detail]
                log.warning("alert not delivered yet", reason=error.reason, detail=error.detail)
        receiver.close()
    logging.getLogger("a collector").error("this works")
    logged = everything_logged.getvalue()
    assert "this works" in logged
    shown = repr(Config(alerts=Alerts(receivers=(settings,))).to_dict())
    for name, secret in SECRETS.items():
        for where in ("".join(said), logged, shown):
            assert secret not in where, name


@pytest.mark.parametrize("kind", ["webhook", "slack-hook", "alertmanager", "pagerduty"])
def test_a_broken_url_is_not_repeated(kind, tmp_path, everything_logged):
    settings = settings_for(kind, "http://[::broken", tmp_path)
    with pytest.raises(DeliveryError) as caught:
        send_test(settings)
    text = "".join(traceback.format_exception(caught.value)) + everything_logged.getvalue()
    for name, secret in SECRETS.items():
        assert secret not in text, name
