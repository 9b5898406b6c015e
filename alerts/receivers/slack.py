"""Slack: by a bot token (one message per incident, kept up to date) or by an incoming webhook.

slack_sdk would follow redirects (sending the token along), retry by itself and log URLs; here it
does none of these.
"""

from __future__ import annotations

import http.client
import logging
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import WebClient
from slack_sdk.webhook import WebhookClient, WebhookResponse

from alerts.errors import DeliveryError
from alerts.receivers import slack_message, telling
from alerts.receivers.base import (
    AnyMessage,
    DigestMessage,
    Message,
    check_status,
    network_error,
    read_secret,
    retry_after_s,
    secret_url,
)
from alerts.settings import SettingsError, SlackSettings

API_URL = "https://slack.com/api/"
PACE_S = 1.0
"""Slack takes one message per second and channel."""
ANSWER_LIMIT_BYTES = 1_000_000
"""More than any answer of Slack's; whatever else answers is not read to its end."""

_TRANSIENT = frozenset(
    {"fatal_error", "internal_error", "request_timeout", "service_unavailable", "timeout"}
)
_NOT_THERE = frozenset(
    {"cant_update_message", "edit_window_closed", "message_not_found", "thread_not_found"}
)
"""The earlier message was removed, or can no longer be changed."""

_PLACES = 1000
"""Of so many messages whose thread could not be written yet the place is known."""

log = structlog.get_logger("tailrace.alerts")

# Its debug messages hold URLs and headers, its errors repeat what we report ourselves
_silent = logging.Logger("alerts.receivers.slack.sdk", level=logging.CRITICAL + 1)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects())


class _WebhookClient(WebhookClient):
    def _perform_http_request_internal(
        self, url: str, req: urllib.request.Request
    ) -> WebhookResponse:
        with _opener.open(req, timeout=self.timeout) as answer:
            return WebhookResponse(
                url=url,
                status_code=answer.status,
                body=answer.read(ANSWER_LIMIT_BYTES).decode("utf-8", "replace"),
                headers=dict(answer.headers),
            )


class _WebClient(WebClient):
    def _perform_urllib_http_request_internal(
        self,
        url: str,  # noqa: ARG002 - the request holds it
        req: urllib.request.Request,
    ) -> dict[str, Any]:
        with _opener.open(req, timeout=self.timeout) as answer:
            body = answer.read(ANSWER_LIMIT_BYTES).decode("utf-8", "replace")
            return {"status": answer.status, "headers": answer.headers, "body": body}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where an incident's message is: channel and ts; and whether it was posted just now."""

    at: Mapping[str, str]
    is_new: bool


class SlackWebhook:
    """An incoming webhook: one message per change of state."""

    pace_s = PACE_S
    resend_s = None

    def __init__(self, settings: SlackSettings) -> None:
        self.name = settings.name
        self._url = settings.url
        self._url_file = settings.url_file
        self._timeout_s = _whole_s(settings.timeout_s)

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:
        """Make one attempt; return what was told, so that the next message can say what changed.

        Raises:
            DeliveryError: Slack did not answer "ok".
        """
        rendered = slack_message.render(message)
        client = _WebhookClient(
            secret_url(self._url, self._url_file),
            timeout=self._timeout_s,
            logger=_silent,
            retry_handlers=[],
            user_agent_prefix="tailrace",
        )
        try:
            answer = client.send(text=rendered["text"], blocks=rendered["blocks"])
        except _TROUBLE as error:
            # None: the original's text may hold the URL, which is the secret
            raise _trouble(error) from None
        code = _label(answer.body)
        if 400 <= answer.status_code < 500 and answer.status_code not in (408, 410, 429):
            raise DeliveryError("rejected", code or f"HTTP {answer.status_code}", retry=False)
        check_status(answer.status_code, retry_after=_retry_after(answer.headers), now=now)
        if code != "ok":
            raise DeliveryError("server_error", "an answer that is not Slack's", retry=True)
        return telling.remembered(message.incident) if isinstance(message, Message) else {}

    def close(self) -> None:
        """Do nothing: every message has a connection of its own."""


class SlackBot:
    """A bot: one message per incident, kept up to date, with its history in the thread."""

    pace_s = PACE_S
    resend_s = None

    def __init__(
        self, settings: SlackSettings, *, wait: Callable[[float], object] = time.sleep
    ) -> None:
        if settings.token_file is None or settings.channel is None:
            raise SettingsError(f"receiver {settings.name}: a bot needs token_file and channel")
        self.name = settings.name
        self._url = settings.url or API_URL
        self._token_file = settings.token_file
        self._channel = settings.channel
        self._timeout_s = _whole_s(settings.timeout_s)
        self._wait = wait
        self._placed: dict[str, _Place] = {}

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:
        """Make one attempt; return channel and ts of the message, to change it later.

        Raises:
            DeliveryError: Slack did not take all of it; another attempt repeats only what
                does no harm twice, and the reply that was not taken.
        """
        client = _WebClient(
            token=read_secret(self._token_file),
            base_url=self._url,
            timeout=self._timeout_s,
            logger=_silent,
            retry_handlers=[],
            user_agent_prefix="tailrace",
        )
        if isinstance(message, DigestMessage):
            return self._post(client, slack_message.render(message), now=now)
        place = self._placed.get(message.id)
        if place is None:
            place = self._update(client, message, now=now) or _Place(
                at=self._post(client, slack_message.render(message, in_place=True), now=now),
                is_new=True,
            )
            self._remember(message.id, place)
            if place.is_new:
                self._wait(PACE_S)
        self._reply(client, message, place, now=now)
        self._placed.pop(message.id, None)
        return {**place.at, **telling.remembered(message.incident)}

    def _post(
        self, client: WebClient, rendered: Mapping[str, Any], *, now: float
    ) -> dict[str, str]:
        posted = _call(client, "chat.postMessage", channel=self._channel, now=now, **rendered)
        return {"channel": str(posted["channel"]), "ts": str(posted["ts"])}

    def _update(self, client: WebClient, message: Message, *, now: float) -> _Place | None:
        """Change the earlier message; None when there is none, or none any more."""
        at = {key: message.earlier[key] for key in ("channel", "ts") if key in message.earlier}
        if len(at) < 2:
            return None
        rendered = slack_message.render(message, in_place=True)
        try:
            _call(client, "chat.update", now=now, **at, **rendered)
        except DeliveryError as error:
            if error.detail == "message_not_found":
                return None
            if error.detail not in _NOT_THERE:
                raise
        return _Place(at=at, is_new=False)

    def _reply(self, client: WebClient, message: Message, place: _Place, *, now: float) -> None:
        reply = slack_message.render_reply(message, first=place.is_new)
        channel, ts = place.at["channel"], place.at["ts"]
        try:
            _call(client, "chat.postMessage", channel=channel, thread_ts=ts, now=now, **reply)
        except DeliveryError as error:
            if error.retry:
                raise
            # The message itself is there: giving it up because of its thread would lose its place
            log.warning("slack refuses the thread", receiver=self.name, detail=error.detail)

    def _remember(self, message_id: str, place: _Place) -> None:
        self._placed[message_id] = place
        if len(self._placed) > _PLACES:
            del self._placed[next(iter(self._placed))]

    def close(self) -> None:
        """Do nothing: every message has a connection of its own."""


_TROUBLE = (OSError, http.client.HTTPException, SlackClientError, ValueError)


def _call(client: WebClient, method: str, *, now: float, **arguments: Any) -> Mapping[str, Any]:
    try:
        answer = client.api_call(method, json=arguments)
    except SlackApiError as error:
        response = error.response
        raise _refusal(response.status_code, response.headers, response.data, now=now) from None
    except _TROUBLE as error:
        raise _trouble(error) from None
    data = answer.data
    if not isinstance(data, dict) or (method == "chat.postMessage" and "ts" not in data):
        raise DeliveryError("server_error", "an answer that is not Slack's", retry=True)
    return data


def _refusal(status: int, headers: Any, data: Any, *, now: float) -> DeliveryError:
    code = _label(data.get("error", "")) if isinstance(data, dict) else ""
    if code in ("ratelimited", "rate_limited"):
        wait_s = retry_after_s(_retry_after(headers), now=now)
        return DeliveryError("rate_limited", code, retry=True, retry_after_s=wait_s)
    try:
        check_status(status, retry_after=_retry_after(headers), now=now)
    except DeliveryError as error:
        return error
    if not code:
        return DeliveryError("server_error", "an answer that is not Slack's", retry=True)
    if code in _TRANSIENT:
        return DeliveryError("server_error", code, retry=True)
    return DeliveryError("rejected", code, retry=False)


def _trouble(error: Exception) -> DeliveryError:
    network = isinstance(error, OSError | http.client.HTTPException)
    if network and not isinstance(error, http.client.InvalidURL):
        return network_error(error)
    return DeliveryError("misconfigured", "url or token", retry=False)


def _label(text: Any) -> str:
    """Return Slack's error code; "" for any other text, which is not to be repeated."""
    return str(text) if re.fullmatch(r"[a-z_]{1,60}", str(text)) else ""


def _retry_after(headers: Any) -> str | None:
    return next((str(v) for k, v in dict(headers).items() if k.lower() == "retry-after"), None)


def _whole_s(seconds: float) -> int:
    return max(1, round(seconds))
