"""What a user may decide about delivery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """One receiver of alerts.

    Attributes:
        name: unique; stored with every delivery.
        type: "webhook" (Standard Webhooks) or "slack".
        url: webhook: where to POST. slack: an incoming webhook, or with `token_file` the base of
            the Web API (default https://slack.com/api/), so that a test server can stand in.
        secret_file: webhook: file with the signing secret (`whsec_…`).
        token_file: slack: file with a bot token (`xoxb-…`); needs `channel`.
        channel: slack: where the bot posts.
        timeout_s: longest wait for one answer.
    """

    name: str
    type: Literal["webhook", "slack"]
    url: str | None = None
    secret_file: Path | None = None
    token_file: Path | None = None
    channel: str | None = None
    timeout_s: float = 10.0
