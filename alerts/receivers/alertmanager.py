"""Alertmanager's own API: it groups, silences and routes what it is told of.

It forgets what it is not told of again: an alert is over for it once `endsAt` has passed, which
is four times the interval at which it is repeated, as Prometheus does it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx

from alerts.receivers import prometheus_alert
from alerts.receivers.base import AnyMessage, DigestMessage, read_secret
from alerts.receivers.http import Poster, as_json
from alerts.settings import AlertmanagerSettings
from detector.finding import rfc3339

RESEND_S: Final = 60.0
"""Prometheus' own pace (rules.alert.resend-delay)."""
KEPT_S: Final = 4 * RESEND_S


class Alertmanager:
    """POSTs to /api/v2/alerts; to repeat a message does no harm."""

    pace_s = 0.0
    resend_s = RESEND_S

    def __init__(self, settings: AlertmanagerSettings) -> None:
        self.name = settings.name
        self._url = f"{settings.url.rstrip('/')}/api/v2/alerts"
        self._token_file = settings.token_file
        self._username = settings.username
        self._password_file = settings.password_file
        self._poster = Poster(timeout_s=settings.timeout_s)

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:
        """Make one attempt; return the labels under which Alertmanager knows the incident.

        Raises:
            DeliveryError: no 2xx came back.
        """
        body = as_json(render(message, now=now))
        self._poster.post(self._url, body, headers=self._authorization(), now=now)
        return {"labels": json.dumps(prometheus_alert.labels_of(message))}

    def _authorization(self) -> dict[str, str]:
        if self._token_file is not None:
            return {"authorization": f"Bearer {read_secret(self._token_file)}"}
        if self._username is not None and self._password_file is not None:
            login = httpx.BasicAuth(self._username, read_secret(self._password_file))
            request = next(login.auth_flow(httpx.Request("POST", "http://unused")))
            return {"authorization": request.headers["authorization"]}
        return {}

    def close(self) -> None:
        """Close its connections."""
        self._poster.close()


def render(message: AnyMessage, *, now: float) -> list[dict[str, Any]]:
    """Return the alerts to tell Alertmanager of.

    They are two when the incident's labels are other than they were, as when it got worse: under
    the earlier ones it is over, or it would be there twice.
    """
    labels = prometheus_alert.labels_of(message)
    if isinstance(message, DigestMessage):
        starts, over = message.digest.made, None
    else:
        starts = rfc3339(message.incident.started)
        resolved = message.incident.resolved
        over = (now if resolved is None else resolved) if message.event == "resolved" else None
    alert = {
        "labels": labels,
        "annotations": prometheus_alert.annotations_of(message),
        "startsAt": starts,
        # An end that is not over yet counts as firing until then
        "endsAt": rfc3339(now + KEPT_S if over is None else min(over, now)),
    }
    earlier = {} if isinstance(message, DigestMessage) else message.earlier
    before: dict[str, str] = json.loads(earlier.get("labels", "{}"))
    if not before or before == labels:
        return [alert]
    return [alert | {"labels": before, "endsAt": rfc3339(now)}, alert]
