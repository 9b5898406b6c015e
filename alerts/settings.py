"""What a user may decide about delivery: one class of settings for each type of receiver.

They check themselves, so that a mistake in the configuration is told with the key it is in.
Whatever is secret is in a file that they name; it is read at every use, never kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

LONGEST_NAME = 100
_URL = re.compile(r"https?://[^/\s]+\S*")
_ADDRESS = re.compile(r"(udp|tcp)://(\[[^\]\s]+\]|[^:/\s]+):\d{1,5}|/\S+")
_HOST = re.compile(r"(\[[^\]\s]+\]|[^:/\s@]+)(:\d{1,5})?")


class SettingsError(ValueError):
    """Settings lack something, or contradict each other.

    Attributes:
        key: the one that is wrong; "" when it is not one alone.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """What all of them have.

    Attributes:
        name: unique; stored with every delivery.
        timeout_s: longest wait for one answer, seconds.
    """

    # What pydantic is to refuse, without the need to import it
    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid"}

    name: str
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= LONGEST_NAME:
            raise SettingsError(f"1 to {LONGEST_NAME} characters", key="name")
        if not 0 < self.timeout_s <= 60:
            raise SettingsError("above 0, and at most 60 s", key="timeout_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings(_Settings):
    """Anything that takes a POST.

    Attributes:
        url: where to.
        url_file: file with that URL, when it is a secret itself.
        secret_file: file with the secret (`whsec_…`) that signs; unsigned without.
        format: what is sent: "native" (Standard Webhooks), "alertmanager" (the body of its webhook,
            version 4) or "cloudevents" (1.0, binary mode, over the native body).
    """

    type: Literal["webhook"] = "webhook"
    url: str | None = None
    url_file: Path | None = None
    secret_file: Path | None = None
    format: Literal["native", "alertmanager", "cloudevents"] = "native"

    def __post_init__(self) -> None:
        _Settings.__post_init__(self)
        _check_url(self.url)
        if (self.url is None) == (self.url_file is None):
            raise SettingsError('a webhook needs url = "https://…", or else url_file')


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackSettings(_Settings):
    """A channel of Slack: by a bot, or by an incoming webhook.

    Attributes:
        url: an incoming webhook; or with `token_file` the base of the Web API (default
            https://slack.com/api/), so that a test server can stand in.
        url_file: file with the incoming webhook's URL, as it is a secret.
        token_file: file with a bot token (`xoxb-…`); needs `channel`.
        channel: where the bot posts.
    """

    type: Literal["slack"] = "slack"
    url: str | None = None
    url_file: Path | None = None
    token_file: Path | None = None
    channel: str | None = None

    def __post_init__(self) -> None:
        _Settings.__post_init__(self)
        _check_url(self.url)
        if self.token_file is not None:
            if not self.channel:
                raise SettingsError('a token_file needs channel = "#…", where the bot posts')
            if self.url_file is not None:
                raise SettingsError("url_file is of an incoming webhook, token_file of a bot")
            return
        if self.channel is not None:
            raise SettingsError("channel needs token_file (an incoming webhook has its own)")
        if (self.url is None) == (self.url_file is None):
            raise SettingsError(
                "slack needs url (incoming webhook), or token_file and channel; "
                "the webhook's URL can be in a file, url_file"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertmanagerSettings(_Settings):
    """Prometheus' Alertmanager, or what speaks its API (Mimir, VictoriaMetrics, Grafana).

    Attributes:
        url: its base, without /api/v2.
        token_file: file with a bearer token.
        username: for basic authentication, with `password_file`.
        password_file: file with the password.
    """

    type: Literal["alertmanager"] = "alertmanager"
    url: str
    token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None

    def __post_init__(self) -> None:
        _Settings.__post_init__(self)
        _check_url(self.url)
        if self.token_file is not None and self.username is not None:
            raise SettingsError("token_file or username, not both")
        _check_login(self.username, self.password_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class PagerDutySettings(_Settings):
    """A service of PagerDuty, by its Events API v2.

    Attributes:
        routing_key_file: file with the integration key, 32 characters.
        url: base of the API (in the EU: https://events.eu.pagerduty.com).
    """

    type: Literal["pagerduty"] = "pagerduty"
    routing_key_file: Path
    url: str = "https://events.pagerduty.com"

    def __post_init__(self) -> None:
        _Settings.__post_init__(self)
        _check_url(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamsSettings(_Settings):
    """A channel or chat of Microsoft Teams, by a workflow.

    Attributes:
        url_file: file with the workflow's URL, which is a secret.
    """

    type: Literal["teams"] = "teams"
    url_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailSettings(_Settings):
    """People who read mail.

    Attributes:
        server: host and port of the SMTP server; 587, 465 or 25 when there is no port.
        encryption: "starttls", "tls" (from the first byte) or "none".
        sender: address it comes from, "Tailrace <tailrace@example.com>" or without the name.
        recipients: addresses it goes to.
        username: to log in with, with `password_file`.
        password_file: file with the password.
        ca_file: certificates to trust in place of the system's.
    """

    type: Literal["email"] = "email"
    server: str
    encryption: Literal["starttls", "tls", "none"] = "starttls"
    sender: str
    recipients: tuple[str, ...]
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        _Settings.__post_init__(self)
        if not _HOST.fullmatch(self.server):
            raise SettingsError('write it like "mail.example.com:587"', key="server")
        if not self.recipients:
            raise SettingsError("at least one address", key="recipients")
        for key, address in (
            ("sender", self.sender),
            *(("recipients", a) for a in self.recipients),
        ):
            if not re.fullmatch(r"[^@\r\n]+@[^@\r\n]+", address):
                raise SettingsError(f"not an address: {address!r}", key=key)
        _check_login(self.username, self.password_file)
        if self.username is not None and self.encryption == "none":
            raise SettingsError("a password is only sent encrypted: starttls or tls")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogSettings(_Settings):
    """A syslog server, RFC 5424.

    Attributes:
        address: path of a socket, "udp://host:514" or "tcp://host:514".
    """

    type: Literal["syslog"] = "syslog"
    address: str = "/dev/log"

    def __post_init__(self) -> None:
        _Settings.__post_init__(self)
        if not _ADDRESS.fullmatch(self.address):
            raise SettingsError(
                'a socket\'s path, or written like "udp://host:514" or "tcp://host:601"',
                key="address",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings(_Settings):
    """The systemd journal, with fields.

    Attributes:
        address: path of its socket.
    """

    type: Literal["journal"] = "journal"
    address: Path = Path("/run/systemd/journal/socket")


@dataclass(frozen=True, slots=True, kw_only=True)
class StdoutSettings(_Settings):
    """Standard output: what a container's log collector reads.

    Attributes:
        format: "text", or "json" for the webhook's native body; one line either way.
    """

    type: Literal["stdout"] = "stdout"
    format: Literal["text", "json"] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppriseSettings(_Settings):
    """Whatever the library Apprise reaches.

    Attributes:
        url_file: file with one of its URLs; they hold secrets.
    """

    type: Literal["apprise"] = "apprise"
    url_file: Path


ReceiverSettings = (
    WebhookSettings
    | SlackSettings
    | AlertmanagerSettings
    | PagerDutySettings
    | TeamsSettings
    | EmailSettings
    | SyslogSettings
    | JournalSettings
    | StdoutSettings
    | AppriseSettings
)


def _check_url(url: str | None) -> None:
    # The URL itself may be a secret: it is not repeated
    if url is not None and not _URL.fullmatch(url):
        raise SettingsError("not a URL, write it like https://host/path", key="url")


def _check_login(username: str | None, password_file: Path | None) -> None:
    if (username is None) != (password_file is None):
        raise SettingsError("username and password_file go together")
