"""A receiver of Standard Webhooks: checks every signature with the standard's own library."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.servers.base import Answer, LocalServer, Request

SECRET = "whsec_dGFpbHJhY2UtdGVzdHMtb25seS0yMDI2"


@dataclass(frozen=True, kw_only=True)
class Received:
    """One message that was accepted."""

    id: str
    type: str
    body: dict[str, Any]
    arrived: float


class WebhookServer(LocalServer):
    """Answers 204 to what is signed with `secret` (None: to anything), 401 to all else."""

    def __init__(self, *, secret: str | None = SECRET) -> None:
        super().__init__()
        self.secret = secret
        self.accepted: list[Received] = []
        self.refused: list[Request] = []

    @property
    def url(self) -> str:
        return f"{self.base_url}/hook"

    def answer(self, request: Request) -> Answer:
        if self.secret is not None:
            try:
                Webhook(self.secret).verify(request.body, dict(request.headers))
            except WebhookVerificationError:
                self.refused.append(request)
                return Answer(status=401)
        body = json.loads(request.body)
        self.accepted.append(
            Received(
                id=request.headers["webhook-id"],
                type=body["type"],
                body=body,
                arrived=request.arrived,
            )
        )
        return Answer(status=204)

    def ids(self) -> list[str]:
        """Return the ids of all attempts, accepted or not."""
        return [request.headers["webhook-id"] for request in self.requests]
