"""Webhooks by the Standard Webhooks rules 1.0: signed, with an id that is stable over retries."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Mapping

import httpx
from standardwebhooks import Webhook as Signer
from standardwebhooks.webhooks import EmptyWebhookSecretError

from alerts.errors import DeliveryError
from alerts.receivers.base import (
    AnyMessage,
    DigestMessage,
    check_status,
    network_error,
    read_secret,
)
from alerts.settings import ReceiverSettings
from detector.finding import rfc3339


class Webhook:
    """POSTs `{type, timestamp, data}`; any 2xx is success, redirects are not followed."""

    pace_s = 0.0

    def __init__(self, settings: ReceiverSettings) -> None:
        if not settings.url:
            raise ValueError(f"receiver {settings.name}: a webhook needs a url")
        self.name = settings.name
        self._url = settings.url
        self._secret_file = settings.secret_file
        for library in ("httpx", "httpcore"):
            # They log the whole URL and all headers, which may hold a token
            logging.getLogger(library).setLevel(logging.WARNING)
        self._client = httpx.Client(
            timeout=settings.timeout_s,
            follow_redirects=False,
            headers={"content-type": "application/json", "user-agent": "tailrace"},
        )

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:
        """Make one attempt; there is nothing to remember of it.

        Raises:
            DeliveryError: no 2xx came back.
        """
        body = render(message)
        headers = self._signed(message.id, body, now=now)
        try:
            # The answer's body is not wanted: it could be endless
            with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                status, retry_after = answer.status_code, answer.headers.get("retry-after")
        except httpx.TimeoutException:
            raise DeliveryError("timeout", retry=True) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise DeliveryError("misconfigured", "url", retry=False) from None
        except httpx.HTTPError as error:
            # None: the original's text and request hold the URL
            raise network_error(error) from None
        check_status(status, retry_after=retry_after, now=now)
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
        self._client.close()


def render(message: AnyMessage) -> bytes:
    """Return the body of a message; the same message has the same bytes."""
    if isinstance(message, DigestMessage):
        body = {
            "type": "incident.digest",
            "timestamp": message.digest.made,
            "data": message.digest.to_json(),
        }
    else:
        body = {
            "type": "incident.test" if message.test else f"incident.{message.event}",
            "timestamp": rfc3339(message.incident.changed),
            "data": message.incident.to_json(),
        }
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
