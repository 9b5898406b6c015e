"""Mail, to a real SMTP server."""

import dataclasses
import re
import socket
import threading

import pytest

from alerts.errors import DeliveryError
from alerts.incident import Root
from alerts.receivers import Message, email, make_receiver
from alerts.settings import EmailSettings, SettingsError
from alerts.trial import send_test
from tests.alerts import goldens
from tests.alerts.examples import T0, written
from tests.alerts.messages import answers, digest, firing, incident, resolved, updated
from tests.servers import smtp

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:aiosmtpd")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("mail")


@pytest.fixture
def mailbox(directory):
    with smtp.running(directory) as box:
        yield box


def settings_for(mailbox, directory, **changes):
    base = {
        "name": "mail",
        "server": f"localhost:{mailbox.port}",
        "sender": "Tailrace <tailrace@example.com>",
        "recipients": ("on-call@example.com", "team@example.com"),
        "username": "tailrace",
        "password_file": written(directory / "password", smtp.PASSWORD),
        "ca_file": smtp.certificate(directory)[0],
        "timeout_s": 5.0,
    }
    return EmailSettings(**(base | changes))


@pytest.mark.parametrize("event", goldens.EVENTS)
def test_bodies_are_the_golden_ones(event):
    goldens.check("email", event)


def test_it_answers_what_is_asked_at_night():
    mail = email.render(firing(), goldens.EMAIL, now=T0)
    for kind in ("plain", "html"):
        body = mail.get_body((kind,)).get_content()
        body = body.replace("&gt;", ">").replace("&quot;", '"')
        answers([body])


def test_an_incident_is_one_thread(mailbox, directory):
    receiver = make_receiver(settings_for(mailbox, directory))
    receipt = receiver.send(firing(), now=T0)
    receipt = receiver.send(updated(earlier=receipt), now=T0 + 75)
    receiver.send(resolved(earlier=receipt), now=T0 + 600)
    receiver.send(digest(), now=T0 + 700)
    (to, first), (_, second), (_, third), (_, last) = mailbox.mails
    assert to == ["on-call@example.com", "team@example.com"]
    assert first["Subject"] == "[Tailrace] warning: api is slow: request latency up 9.7x"
    assert second["Subject"] == third["Subject"] == f"Re: {first['Subject']}"
    for later in (second, third):
        assert later["References"] == later["In-Reply-To"] == first["Message-ID"]
    ids = {mail["Message-ID"] for _, mail in mailbox.mails}
    assert len(ids) == 4
    assert all(re.fullmatch(r"<[^<>@\s]+@example\.com>", one) for one in ids)
    assert first["List-Id"] == "Tailrace <tailrace.example.com>"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["X-Tailrace-Incident"] == "5f0c9d1be2a34477"
    assert "now critical (was warning)" in second.get_body(("plain",)).get_content()
    assert "back to normal since" in third.get_body(("html",)).get_content()
    assert last["In-Reply-To"] is None


def test_a_repeat_has_the_same_id(mailbox, directory):
    receiver = make_receiver(settings_for(mailbox, directory))
    for _ in range(2):
        receiver.send(updated(), now=T0)
    (_, first), (_, again) = mailbox.mails
    assert first["Message-ID"] == again["Message-ID"]


@pytest.mark.parametrize("encryption", ["tls", "none"])
def test_other_ways_to_connect(directory, encryption):
    with smtp.running(directory, encryption=encryption, login=False) as mailbox:
        changes = {"username": None, "password_file": None, "encryption": encryption}
        make_receiver(settings_for(mailbox, directory, **changes)).send(firing(), now=T0)
        assert len(mailbox.mails) == 1


def test_a_server_without_starttls_gets_no_password(directory):
    with smtp.running(directory, encryption="none", login=False) as mailbox:
        with pytest.raises(DeliveryError) as caught:
            make_receiver(settings_for(mailbox, directory)).send(firing(), now=T0)
        assert (caught.value.reason, caught.value.retry) == ("misconfigured", False)
        assert mailbox.mails == []


def test_a_certificate_that_is_not_trusted(mailbox, directory):
    with pytest.raises(DeliveryError, match="certificate not trusted") as caught:
        make_receiver(settings_for(mailbox, directory, ca_file=None)).send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry) == ("network", True)
    with pytest.raises(DeliveryError, match=r"nothing\.pem"):
        make_receiver(settings_for(mailbox, directory, ca_file=directory / "nothing.pem")).send(
            firing(), now=T0
        )


def test_a_wrong_password_is_not_repeated(mailbox, directory):
    receiver = make_receiver(settings_for(mailbox, directory))
    written(directory / "password", "averysecretwrongone")
    with pytest.raises(DeliveryError, match="login, SMTP 535") as caught:
        receiver.send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry) == ("rejected", False)
    assert "averysecret" not in str(caught.value)
    written(directory / "password", "ünlesbar")
    with pytest.raises(DeliveryError) as caught:
        receiver.send(firing(), now=T0)
    assert "ünlesbar" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "reason", "retry"),
    [
        ("451 try later", "server_error", True),
        ("452 full", "server_error", True),
        ("554 spam", "rejected", False),
    ],
)
def test_what_the_server_says_of_the_mail(mailbox, directory, answer, reason, retry):
    mailbox.data = answer
    with pytest.raises(DeliveryError, match=f"SMTP {answer[:3]}") as caught:
        make_receiver(settings_for(mailbox, directory)).send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry) == (reason, retry)
    assert answer[4:] not in str(caught.value)


def test_only_who_was_refused_for_now_is_tried_again(mailbox, directory):
    receiver = make_receiver(settings_for(mailbox, directory))
    mailbox.refused["team@example.com"] = "450 greylisted"
    for _ in range(2):
        with pytest.raises(DeliveryError, match="SMTP 450") as caught:
            receiver.send(firing(), now=T0)
        assert caught.value.retry
    mailbox.refused.clear()
    receiver.send(firing(), now=T0)
    assert [to for to, _ in mailbox.mails] == [["on-call@example.com"], ["team@example.com"]]


def test_who_does_not_exist_keeps_nobody_else_from_it(mailbox, directory):
    receiver = make_receiver(settings_for(mailbox, directory))
    mailbox.refused["team@example.com"] = "550 who?"
    receiver.send(firing(), now=T0)
    assert [to for to, _ in mailbox.mails] == [["on-call@example.com"]]
    mailbox.refused["on-call@example.com"] = "550 who?"
    with pytest.raises(DeliveryError, match="SMTP 550") as caught:
        receiver.send(updated(), now=T0)
    assert not caught.value.retry


def test_nobody_answers_or_hangs_up_or_speaks_something_else(directory):
    def serve(greeting, port_of):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port_of.append(server.getsockname()[1])
            ready.set()
            connection, _ = server.accept()
            with connection:
                if greeting is None:
                    done.wait(5)
                else:
                    connection.sendall(greeting)

    for greeting, reason in (
        (b"", "network"),
        (b"HTTP/1.1 400\r\n", "server_error"),
        (None, "timeout"),
    ):
        ready, done, ports = threading.Event(), threading.Event(), []
        thread = threading.Thread(target=serve, args=(greeting, ports))
        thread.start()
        ready.wait(5)
        box = smtp.Mailbox(port=ports[0])
        with pytest.raises(DeliveryError) as caught:
            make_receiver(settings_for(box, directory, timeout_s=0.3)).send(firing(), now=T0)
        assert (caught.value.reason, caught.value.retry) == (reason, True)
        done.set()
        thread.join()
    with pytest.raises(DeliveryError, match="connection refused"):
        make_receiver(settings_for(box, directory)).send(firing(), now=T0)


def test_names_make_no_headers_and_no_markup():
    root = Root(service="<script>x", side="server", score=1.0, why="a\r\nBcc: b@example.com")
    told = incident(title="a\r\nBcc: c@example.com", roots=(root,), impact="<img src=x>")
    mail = email.render(Message(id="msg_1", event="firing", incident=told), goldens.EMAIL, now=T0)
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[Tailrace] warning: a Bcc: c@example.com"
    page = mail.get_body(("html",)).get_content()
    assert "<script>" not in page
    assert "<img" not in page


def test_a_test_message_says_that_it_is_one(mailbox, directory):
    send_test(settings_for(mailbox, directory))
    [(_, mail)] = mailbox.mails
    assert mail["Subject"].startswith("[Tailrace] warning: [test] ")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"server": "smtp://mail"}, "server"),
        ({"recipients": ()}, "recipients"),
        ({"recipients": ("nobody",)}, "recipients"),
        ({"sender": "a@b\nBcc: c@d"}, "sender"),
        ({"password_file": None}, ""),
        ({"encryption": "none"}, ""),
    ],
)
def test_settings_that_are_wrong(directory, changes, key):
    right = settings_for(smtp.Mailbox(port=25), directory)
    with pytest.raises(SettingsError) as caught:
        dataclasses.replace(right, **changes)
    assert caught.value.key == key
