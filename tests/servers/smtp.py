"""An SMTP server on loopback (aiosmtpd), with STARTTLS, a login and recipients it does not like."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

PASSWORD = "averysecretmailpassword"


@dataclass
class Mailbox:
    """What arrived, and what to answer.

    Attributes:
        mails: each as (recipients, mail).
        refused: answers to recipients, by address.
        data: the answer to a mail; None takes it.
    """

    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    data: str | None = None
    port: int = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd looks for this name
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.data is not None:
            return self.data
        mail = BytesParser(policy=default).parsebytes(envelope.content)
        self.mails.append((list(envelope.rcpt_tos), mail))
        return "250 OK"


def certificate(directory: Path) -> tuple[Path, Path]:
    """Return the files of a certificate for localhost, and of its key."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    if not cert.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-keyout", key, "-out", cert, "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
    return cert, key


def _login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=right and data.login == b"tailrace", handled=False)


@contextmanager
def running(
    directory: Path, *, encryption: str = "starttls", login: bool = True
) -> Iterator[Mailbox]:
    """Run a server that wants its encryption, and a login."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(directory))
    mailbox = Mailbox()
    more: dict[str, Any] = {}
    if encryption == "starttls":
        more = {"tls_context": context, "require_starttls": True}
    elif encryption == "tls":
        more = {"ssl_context": context}
    if login:
        more |= {"authenticator": _login, "auth_required": True}
        more |= {"auth_require_tls": encryption == "starttls"}
    controller = Controller(mailbox, hostname="127.0.0.1", port=_free_port(), **more)
    controller.start()
    mailbox.port = controller.port
    try:
        yield mailbox
    finally:
        controller.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
