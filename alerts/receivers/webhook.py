"""Webhooks by the Standard Webhooks rules 1.0: signed, with an id that is stable over retries.

The body is ours, or that of Alertmanager's webhook, or ours as a CloudEvent; all are signed.
"""

from __future__ import annotations

import datetime as dt
import socket
from collections.abc import Mapping
from urllib.parse import quote

from standardwebhooks import Webhook as Signer
from standardwebhooks.webhooks import EmptyWebhookSecretError

from alerts.errors import DeliveryError
from alerts.receivers import prometheus_alert
from alerts.receivers.base import AnyMessage, DigestMessage, read_secret, secret_url
from alerts.receivers.http import Poster, as_json
from alerts.settings import WebhookSettings
from detector.finding import rfc3339


class Webhook:
    """POSTs one body a message; any 2xx is success, redirects are not followed."""

    pace_s = 0.0
    resend_s = None

    def __init__(self, settings: WebhookSettings) -> None:
        self.name = settings.name
        self._url = settings.url
        self._url_file = settings.url_file
        self._secret_file = settings.secret_file
        self._format = settings.format
        self._poster = Poster(timeout_s=settings.timeout_s)

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:
        """Make one attempt; there is nothing to remember of it.

        Raises:
            DeliveryError: no 2xx came back.
        """
        if self._format == "alertmanager":
            body = as_json(prometheus_alert.webhook_body(message, receiver=self.name))
        else:
            body = render(message)
        headers = self._signed(message.id, body, now=now)
        if self._format == "cloudevents":
            headers |= cloudevents_headers(message)
        url = secret_url(self._url, self._url_file)
        self._poster.post(url, body, headers=headers, now=now)
        return {}

    def _signed(self, message_id: str, body: bytes, *, now: float) -> dict[str, str]:
        headers = {"webhook-id": message_id, "webhook-timestamp": str(int(now))}
        if self._secret_file is None:
            return headers
        moment = dt.datetime.fromtimestamp(int(now), tz=dt.UTC)
        try:
            # One secret a line: while a secret is rotated, both sign
            headers["webhook-signature"] = " ".join(
                Signer(secret.strip()).sign(message_id, moment, body.decode())
                for secret in read_secret(self._secret_file).splitlines()
                if secret.strip()
            )
        except (ValueError, RuntimeError, EmptyWebhookSecretError):
            detail = f"{self._secret_file} holds no whsec_ secret"
            raise DeliveryError("secret_unreadable", detail, retry=True) from None
        return headers

    def close(self) -> None:
        """Close its connections."""
        self._poster.close()


def kind(message: AnyMessage) -> str:
    """Return the type of a message, e.g. "incident.firing"."""
    test = not isinstance(message, DigestMessage) and message.test
    return f"incident.{'test' if test else message.event}"


def _moment(message: AnyMessage) -> str:
    if isinstance(message, DigestMessage):
        return message.digest.made
    return rfc3339(message.incident.changed)


def render(message: AnyMessage) -> bytes:
    """Return the native body of a message; the same message has the same bytes."""
    told = message.digest if isinstance(message, DigestMessage) else message.incident
    return as_json({"type": kind(message), "timestamp": _moment(message), "data": told.to_json()})


def cloudevents_headers(message: AnyMessage) -> dict[str, str]:
    """Return the attributes of a CloudEvent 1.0 as headers of HTTP's binary mode.

    Source: CloudEvents' HTTP Protocol Binding 1.0.2, 3.1.3 on what is percent-encoded.
    """
    subject = message.digest.id if isinstance(message, DigestMessage) else message.incident.id
    attributes = {
        "specversion": "1.0",
        "id": message.id,
        "source": f"/tailrace/{quote(socket.gethostname(), safe='')}",
        "type": f"tailrace.{kind(message)}",
        "subject": subject,
        "time": _moment(message),
    }
    # All printable ASCII but space, quote and per cent stays as it is
    safe = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
    return {f"ce-{name}": quote(value, safe=safe) for name, value in attributes.items()}
