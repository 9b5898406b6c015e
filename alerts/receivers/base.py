"""What every receiver takes and gives, and how HTTP answers become reasons."""

from __future__ import annotations

import datetime as dt
import email.utils
import math
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from alerts.digest import Digest
from alerts.errors import DeliveryError
from alerts.incident import Event, Incident
from alerts.outbox import LONGEST_DELAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message about one incident.

    Attributes:
        id: the same in every attempt to deliver it.
        event: what it tells of.
        incident: the incident as it was then.
        earlier: the receipt of the same incident's earlier message; {} when there is none.
        test: sent by hand, to see that a receiver works.
    """

    id: str
    event: Event
    incident: Incident
    earlier: Mapping[str, str] = field(default_factory=dict)
    test: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestMessage:
    """One message that lists what was held back.

    Attributes:
        id: the same in every attempt to deliver it.
        digest: the list.
        event: always "digest".
    """

    id: str
    digest: Digest
    event: Literal["digest"] = "digest"


AnyMessage = Message | DigestMessage

RESEND_RESOLVED_S = 300.0
"""How long a receiver with `resend_s` is told again that an incident is over."""


class Receiver(Protocol):
    """Something that can be told of incidents.

    Attributes:
        name: as in its settings.
        pace_s: shortest time between two messages.
        resend_s: it forgets an incident that it is not told of again within a few times this, so
            what fires is repeated that often, and what is over for `RESEND_RESOLVED_S`; None for a
            receiver that remembers. A message that comes again does no harm there.
    """

    name: str
    pace_s: float
    resend_s: float | None

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:
        """Make one attempt; return a receipt to store, {} when there is nothing to remember.

        Raises:
            DeliveryError: the message did not arrive, or nobody knows whether it did.
        """

    def close(self) -> None:
        """Close its connections."""


def retry_after_s(header: str | None, *, now: float) -> float | None:
    """Return the wait that a Retry-After header asks for, as seconds or as an HTTP date.

    A wait is at most `LONGEST_DELAY_S`; a header that cannot be read is None.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        wait_s = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else _until(text) - now
    except (ValueError, OverflowError):
        return None
    return min(max(wait_s, 0.0), LONGEST_DELAY_S) if math.isfinite(wait_s) else LONGEST_DELAY_S


def _until(http_date: str) -> float:
    moment = email.utils.parsedate_to_datetime(http_date)
    # "-0000" makes a naive time, which still means UTC
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def check_status(status: int, *, retry_after: str | None, now: float) -> None:
    """Return when an HTTP status means success.

    Raises:
        DeliveryError: it does not. 5xx, 429 and 408 are worth another attempt; 410 disables.
    """
    if 200 <= status < 300:
        return
    detail = f"HTTP {status}"
    wait_s = retry_after_s(retry_after, now=now)
    if status == 429:
        raise DeliveryError("rate_limited", detail, retry=True, retry_after_s=wait_s)
    if status == 408:
        raise DeliveryError("timeout", detail, retry=True, retry_after_s=wait_s)
    if status >= 500:
        raise DeliveryError("server_error", detail, retry=True, retry_after_s=wait_s)
    if status == 410:
        raise DeliveryError("gone", detail, retry=False, disable=True)
    if 300 <= status < 400:
        # Whoever runs the receiver may take the redirect away again, so it is worth a retry
        raise DeliveryError("redirect", detail, retry=True, retry_after_s=wait_s)
    raise DeliveryError("client_error", detail, retry=False)


def network_error(error: BaseException) -> DeliveryError:
    """Return an error of the network in words of our own: its text may hold a URL."""
    chain: list[BaseException] = []
    cause: object = error
    while isinstance(cause, BaseException) and cause not in chain:
        chain.append(cause)
        cause = getattr(cause, "reason", None) or cause.__cause__ or cause.__context__
    if any(isinstance(link, TimeoutError) for link in chain):
        return DeliveryError("timeout", retry=True)
    for kind, detail in _NETWORK_DETAILS:
        if any(isinstance(link, kind) for link in chain):
            return DeliveryError("network", detail, retry=True)
    return DeliveryError("network", type(error).__name__, retry=True)


_NETWORK_DETAILS: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "connection refused"),
    (ssl.SSLCertVerificationError, "certificate not trusted"),
    (ssl.SSLError, "TLS failed"),
    (ConnectionResetError, "connection reset"),
)


def read_secret(path: Path) -> str:
    """Return the content of a secret's file; read at every use, so that it can be rotated.

    Raises:
        DeliveryError: it cannot be read or is empty; worth a retry, as files get corrected.
    """
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DeliveryError("secret_unreadable", str(path), retry=True) from error
    if not secret:
        raise DeliveryError("secret_unreadable", f"{path} is empty", retry=True)
    return secret


def secret_url(url: str | None, url_file: Path | None) -> str:
    """Return the URL that is given, or else the one in the file.

    Raises:
        DeliveryError: the file cannot be read or holds no URL; worth a retry, as files get
            corrected.
    """
    if url is not None:
        return url
    assert url_file is not None  # the settings have checked that there is one of the two
    found = read_secret(url_file)
    if not re.fullmatch(r"https?://[^/\s]+\S*", found):
        raise DeliveryError("secret_unreadable", f"{url_file} holds no URL", retry=True)
    return found
