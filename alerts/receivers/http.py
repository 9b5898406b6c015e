"""One POST by HTTP, for every receiver that is nothing more than that."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import httpx

from alerts.errors import DeliveryError
from alerts.receivers.base import check_status, network_error


class Poster:
    """Makes single attempts; redirects are not followed, answers are not read.

    Args:
        timeout_s: longest wait for each phase of an attempt, seconds.
    """

    def __init__(self, *, timeout_s: float) -> None:
        for library in ("httpx", "httpcore"):
            # They log the whole URL and all headers, which may hold a token
            logging.getLogger(library).setLevel(logging.WARNING)
        self._client = httpx.Client(
            timeout=timeout_s,
            follow_redirects=False,
            headers={"content-type": "application/json", "user-agent": "tailrace"},
        )

    def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str] | None = None, now: float
    ) -> None:
        """Return when a 2xx came back.

        Raises:
            DeliveryError: none did.
        """
        try:
            # The answer's body is not wanted: it could be endless
            with self._client.stream("POST", url, content=body, headers=headers) as answer:
                status, retry_after = answer.status_code, answer.headers.get("retry-after")
        except httpx.TimeoutException:
            raise DeliveryError("timeout", retry=True) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise DeliveryError("misconfigured", "url", retry=False) from None
        except httpx.HTTPError as error:
            # None: the original's text and request hold the URL
            raise network_error(error) from None
        except UnicodeError:
            # A secret that cannot be in a header; the error's text holds it
            raise DeliveryError("misconfigured", "not ASCII", retry=False) from None
        check_status(status, retry_after=retry_after, now=now)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def as_json(body: Any) -> bytes:
    """Return JSON, the same bytes for the same body."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
