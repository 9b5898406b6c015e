"""Mail by SMTP: an incident is one thread, whose first mail has its id.

In a mail program, what belongs together is found by References and by an unchanged subject, so
later mails have the subject of the first and say at the top what became of it.
"""

from __future__ import annotations

import contextlib
import html
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Final

import structlog

from alerts.errors import DeliveryError
from alerts.receivers import telling
from alerts.receivers.base import (
    AnyMessage,
    DigestMessage,
    Message,
    network_error,
    read_secret,
)
from alerts.settings import EmailSettings

PACE_S: Final = 1.0
"""Mail servers take a burst of mails from one sender for spam."""
SUBJECT_LIMIT: Final = 200

_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
_REMEMBERED: Final = 1000

log = structlog.get_logger("tailrace.alerts")


class Email:
    """Sends one mail a message, to all recipients at once."""

    pace_s = PACE_S
    resend_s = None

    def __init__(self, settings: EmailSettings) -> None:
        self.name = settings.name
        self._settings = settings
        host, port = _host_and_port(settings.server)
        self._host, self._port = host, port or _PORTS[settings.encryption]
        # By message: who still needs it, when the server took it for some only
        self._left: dict[str, list[str]] = {}

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:
        """Make one attempt; return the thread's subject.

        Raises:
            DeliveryError: the server did not take it, or not for everybody who may still get it.
        """
        settings = self._settings
        mail = render(message, settings, now=now)
        recipients = self._left.get(message.id, list(settings.recipients))
        with _reasons(), self._connected() as server:
            addresses = [parseaddr(recipient)[1] for recipient in recipients]
            try:
                refused = server.send_message(mail, parseaddr(settings.sender)[1], addresses)
            except smtplib.SMTPRecipientsRefused as error:
                refused = error.recipients
        self._leave(message, refused)
        if isinstance(message, DigestMessage):
            return {}
        return {"subject": _thread_subject(message), **telling.remembered(message.incident)}

    def _leave(self, message: AnyMessage, refused: Mapping[str, tuple[int, bytes]]) -> None:
        """Raise when somebody has to be tried again; log who never will get it."""
        codes = [code for code, _ in refused.values()]
        later = [address for address, (code, _) in refused.items() if code < 500]
        if later:
            self._left[message.id] = later
            if len(self._left) > _REMEMBERED:
                del self._left[next(iter(self._left))]
            raise DeliveryError("server_error", f"SMTP {min(codes)}", retry=True)
        everybody = len(self._left.pop(message.id, self._settings.recipients))
        if len(refused) == everybody:
            raise DeliveryError("rejected", f"SMTP {min(codes)}", retry=False)
        if refused:
            log.warning("mail refused for some", receiver=self.name, number=len(refused))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        settings = self._settings
        password = None if settings.password_file is None else read_secret(settings.password_file)
        try:
            context = ssl.create_default_context(cafile=settings.ca_file)
        except OSError:
            detail = str(settings.ca_file)
            raise DeliveryError("secret_unreadable", detail, retry=True) from None
        if settings.encryption == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=settings.timeout_s, context=context
            )
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=settings.timeout_s)
        with server:
            if settings.encryption == "starttls":
                server.starttls(context=context)
            if settings.username is not None and password is not None:
                server.login(settings.username, password)
            yield server

    def close(self) -> None:
        """Do nothing: every mail has a connection of its own."""


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever the server or the network does into a reason; never in the server's words."""
    try:
        yield
    except smtplib.SMTPAuthenticationError as error:
        detail = f"login, SMTP {error.smtp_code}"
        raise DeliveryError("rejected", detail, retry=error.smtp_code < 500) from None
    except smtplib.SMTPNotSupportedError:
        detail = "the server has no STARTTLS, or no login"
        raise DeliveryError("misconfigured", detail, retry=False) from None
    except smtplib.SMTPResponseException as error:
        raise _of_code(error.smtp_code) from None
    except UnicodeError:
        raise DeliveryError("misconfigured", "password or address not ASCII", retry=False) from None
    except OSError as error:
        if type(error) is smtplib.SMTPException:
            # All others of smtplib's have types of their own
            raise DeliveryError("misconfigured", "no login that both know", retry=False) from None
        raise network_error(error) from None


def _of_code(code: int) -> DeliveryError:
    detail = f"SMTP {code}"
    # -1: what answers is no SMTP server
    if code < 500:
        return DeliveryError("server_error", detail, retry=True)
    return DeliveryError("rejected", detail, retry=False)


def render(message: AnyMessage, settings: EmailSettings, *, now: float) -> EmailMessage:
    """Return the mail, plain text with the same as HTML; the same message has the same id."""
    domain = parseaddr(settings.sender)[1].rpartition("@")[2]
    mail = EmailMessage()
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.recipients)
    mail["Date"] = format_datetime(datetime.fromtimestamp(now, tz=UTC))
    mail["List-Id"] = f"Tailrace <tailrace.{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    own, thread = f"<{message.id}@{domain}>", ""
    if isinstance(message, Message):
        mail["X-Tailrace-Incident"] = telling.one_line(message.incident.id)
        thread = f"<{telling.one_line(message.incident.id)}@{domain}>"
    if isinstance(message, DigestMessage):
        mail["Subject"] = _subject(message)
    elif message.event == "firing" and not message.test:
        own = thread
        mail["Subject"] = _subject(message)
    elif message.test:
        mail["Subject"] = _subject(message)
    else:
        mail["Subject"] = f"Re: {_thread_subject(message)}"
        mail["In-Reply-To"] = mail["References"] = thread
    mail["Message-ID"] = own
    mail.set_content("\n".join([f"{_heading(message)}\n", *telling.as_lines(message)]) + "\n")
    mail.add_alternative(_html(message), subtype="html")
    return mail


def _heading(message: AnyMessage) -> str:
    return f"{telling.sign(message)} {telling.title(message)}"


def _subject(message: AnyMessage) -> str:
    severity = "" if isinstance(message, DigestMessage) else f"{message.incident.severity}: "
    return telling.shortened(f"[Tailrace] {severity}{telling.title(message)}", SUBJECT_LIMIT)


def _thread_subject(message: Message) -> str:
    """Return the subject of the incident's first mail, which the later ones keep."""
    if "subject" in message.earlier:
        return message.earlier["subject"]
    incident = message.incident
    title = (
        telling.title(message) if message.event == "firing" else telling.one_line(incident.title)
    )
    return telling.shortened(f"[Tailrace] {incident.severity}: {title}", SUBJECT_LIMIT)


def _html(message: AnyMessage) -> str:
    """Return a page without anything to load: mail programs would ask, or refuse."""
    if isinstance(message, DigestMessage):
        rows = "".join(f"<p>{html.escape(line)}</p>" for line in telling.as_lines(message))
    else:
        incident = message.incident
        cells = "".join(
            '<tr><td style="padding:2px 12px 2px 0;color:#666;vertical-align:top">'
            f"{html.escape(label)}</td><td>{html.escape(text)}</td></tr>"
            for label, text in telling.facts(message)
        )
        changed = telling.changes(incident, message.earlier) if message.event == "updated" else ""
        listed = "".join(f"<li>{html.escape(line)}</li>" for line in telling.symptoms(incident))
        commands = "<br>".join(
            f"{label}: <code>{html.escape(command)}</code>"
            for label, command in telling.commands(message)
        )
        rows = (
            f"<p>{html.escape(telling.what(incident))}</p>"
            f"<pre>{html.escape(telling.picture(incident))}</pre>"
            + (f"<p><b>Changed:</b> {html.escape(changed)}</p>" if changed else "")
            + f"<table>{cells}</table><ul>{listed}</ul><p>{commands}</p>"
        )
    return (
        '<!DOCTYPE html><html><body style="font-family:sans-serif;font-size:14px">'
        f'<h2 style="font-size:18px">{html.escape(_heading(message))}</h2>{rows}</body></html>\n'
    )


def _host_and_port(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit():
        return server.strip("[]"), 0
    return host.strip("[]"), int(port)
