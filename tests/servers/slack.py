"""A Slack-shaped server: the Web API and incoming webhooks, with the limits Slack documents.

Enforced: the bearer token, known channels, one message per second and channel (429 with
Retry-After), 50 blocks, header 150, section 3000, field 2000 and 10 of them, context 10 elements,
text 40,000 characters, and about 13,200 characters in all blocks.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.servers.base import Answer, LocalServer, Request

TOKEN = "xoxb-1111-2222-averysecrettoken"
HOOK_PATH = "/services/T00000000/B00000000/averysecrethookpath"
TOTAL_LIMIT = 13_200


@dataclass(kw_only=True)
class Posted:
    """One message in a channel, as it reads now."""

    channel: str
    ts: str
    text: str
    blocks: list[dict[str, Any]]
    thread_ts: str | None = None
    edits: int = 0


@dataclass(kw_only=True)
class _RefusalError(Exception):
    code: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class SlackServer(LocalServer):
    """Keeps what was posted in `messages`; `calls` names the methods in order."""

    def __init__(
        self,
        *,
        token: str = TOKEN,
        per_message_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.token = token
        self.per_message_s = per_message_s
        self.channels = {"#alerts": "C0ALERTS", "C0ALERTS": "C0ALERTS"}
        self.messages: list[Posted] = []
        self.calls: list[str] = []
        self._clock = clock
        self._latest: dict[str, float] = {}
        self._count = itertools.count(1)

    @property
    def api_url(self) -> str:
        return f"{self.base_url}/api/"

    @property
    def hook_url(self) -> str:
        return f"{self.base_url}{HOOK_PATH}"

    def answer(self, request: Request) -> Answer:
        if request.path.startswith("/services/"):
            return self._hook(request)
        method = request.path.removeprefix("/api/")
        self.calls.append(method)
        try:
            posted = self._call(method, request)
        except _RefusalError as refusal:
            return _json({"ok": False, "error": refusal.code}, refusal)
        message = {"text": posted.text, "ts": posted.ts}
        return _json({"ok": True, "channel": posted.channel, "ts": posted.ts, "message": message})

    def _call(self, method: str, request: Request) -> Posted:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            raise _RefusalError(code="invalid_auth")
        body = json.loads(request.body or b"{}")
        known = {"chat.postMessage": self._post, "chat.update": self._update}
        if method not in known:
            raise _RefusalError(code="unknown_method")
        return known[method](body)

    def _hook(self, request: Request) -> Answer:
        try:
            self._check_path(request.path)
            body = json.loads(request.body)
            self._check(body, status=400)
            self._pace("hook")
            self._add("C0ALERTS", body)
        except _RefusalError as refusal:
            return Answer(
                status=refusal.status, body=refusal.code.encode(), headers=refusal.headers
            )
        return Answer(body=b"ok", headers={"content-type": "text/html"})

    def _check_path(self, path: str) -> None:
        if path != HOOK_PATH:
            raise _RefusalError(code="no_service", status=404)

    def _post(self, body: dict[str, Any]) -> Posted:
        channel = self._channel(body)
        self._check(body)
        thread = body.get("thread_ts")
        if thread is not None and not any(m.ts == thread for m in self.messages):
            raise _RefusalError(code="thread_not_found")
        self._pace(channel)
        return self._add(channel, body)

    def _update(self, body: dict[str, Any]) -> Posted:
        channel = body.get("channel")
        if channel not in self.channels.values():  # unlike posting, updating needs the id
            raise _RefusalError(code="channel_not_found")
        self._check(body)
        for message in self.messages:
            if (message.channel, message.ts) == (channel, body.get("ts")):
                message.text, message.blocks = body.get("text", ""), body.get("blocks", [])
                message.edits += 1
                return message
        raise _RefusalError(code="message_not_found")

    def _channel(self, body: dict[str, Any]) -> str:
        if body.get("channel") not in self.channels:
            raise _RefusalError(code="channel_not_found")
        return self.channels[body["channel"]]

    def _pace(self, channel: str) -> None:
        now = self._clock()
        if now - self._latest.get(channel, -1e9) < self.per_message_s:
            raise _RefusalError(code="ratelimited", status=429, headers={"Retry-After": "1"})
        self._latest[channel] = now

    def _add(self, channel: str, body: dict[str, Any]) -> Posted:
        posted = Posted(
            channel=channel,
            ts=f"1700000000.{next(self._count):06}",
            text=body.get("text", ""),
            blocks=body.get("blocks", []),
            thread_ts=body.get("thread_ts"),
        )
        self.messages.append(posted)
        return posted

    def _check(self, body: dict[str, Any], *, status: int = 200) -> None:
        if not body.get("text") and not body.get("blocks"):
            raise _RefusalError(code="no_text", status=status)
        if len(body.get("text", "")) > 40_000:
            raise _RefusalError(code="msg_too_long", status=status)
        if not blocks_are_valid(body.get("blocks", [])):
            raise _RefusalError(code="invalid_blocks", status=status)


def blocks_are_valid(blocks: Any) -> bool:
    """Return whether Slack would take these blocks."""
    if not isinstance(blocks, list) or len(blocks) > 50:
        return False
    total = sum(len(text["text"]) for block in blocks for text in _texts(block))
    return total <= TOTAL_LIMIT and all(map(_block_is_valid, blocks))


def _texts(block: dict[str, Any]) -> list[dict[str, Any]]:
    own = [block["text"]] if "text" in block else []
    return [*own, *block.get("fields", []), *block.get("elements", [])]


def _block_is_valid(block: dict[str, Any]) -> bool:
    texts = _texts(block)
    if not texts or not all(1 <= len(text["text"]) <= 3000 for text in texts):
        return False
    if not all(text["type"] in ("mrkdwn", "plain_text") for text in texts):
        return False
    if block["type"] == "header":
        return block["text"]["type"] == "plain_text" and len(block["text"]["text"]) <= 150
    if block["type"] == "section":
        fields = block.get("fields", [])
        return len(fields) <= 10 and all(len(text["text"]) <= 2000 for text in fields)
    return block["type"] == "context" and len(texts) <= 10


def _json(body: dict[str, Any], refusal: _RefusalError | None = None) -> Answer:
    headers = {"content-type": "application/json; charset=utf-8"}
    return Answer(
        status=200 if refusal is None else refusal.status,
        body=json.dumps(body).encode(),
        headers=headers if refusal is None else {**headers, **refusal.headers},
    )
