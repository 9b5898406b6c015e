"""PagerDuty by its Events API v2: an incident is one alert, by its id as the `dedup_key`.

What pages nobody is a change event: that an incident ended as the new normal, and the digest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from alerts import words
from alerts.errors import DeliveryError
from alerts.receivers import telling
from alerts.receivers.base import AnyMessage, DigestMessage, Message, read_secret
from alerts.receivers.http import Poster, as_json
from alerts.settings import PagerDutySettings
from detector.finding import rfc3339

PACE_S: Final = 0.5
"""An integration takes about 120 events a minute."""
SUMMARY_LIMIT: Final = 1024
SIZE_LIMIT_BYTES: Final = 512_000
SYMPTOMS_TOLD: Final = 50
SOURCE: Final = "tailrace"


class PagerDuty:
    """Triggers, updates and resolves alerts; to repeat an event does no harm."""

    pace_s = PACE_S
    resend_s = None

    def __init__(self, settings: PagerDutySettings) -> None:
        self.name = settings.name
        self._url = settings.url.rstrip("/")
        self._routing_key_file = settings.routing_key_file
        self._poster = Poster(timeout_s=settings.timeout_s)

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:
        """Make one attempt; there is nothing to remember of it.

        Raises:
            DeliveryError: PagerDuty did not accept the event, or one of two.
        """
        key = read_secret(self._routing_key_file)
        if not re.fullmatch(r"[0-9A-Za-z]{32}", key):
            detail = f"{self._routing_key_file} holds no key of 32 letters and digits"
            raise DeliveryError("secret_unreadable", detail, retry=True)
        if isinstance(message, Message):
            self._post("/v2/enqueue", {"routing_key": key, **event(message)}, now=now)
        change = change_event(message)
        if change is not None:
            self._post("/v2/change/enqueue", {"routing_key": key, **change}, now=now)
        return telling.remembered(message.incident) if isinstance(message, Message) else {}

    def _post(self, path: str, body: Mapping[str, Any], *, now: float) -> None:
        self._poster.post(self._url + path, as_json(body), now=now)

    def close(self) -> None:
        """Close its connections."""
        self._poster.close()


def event(message: Message) -> dict[str, Any]:
    """Return the event of an incident, without the routing key."""
    incident = message.incident
    known = {"dedup_key": message.id if message.test else incident.id}
    if message.event == "resolved":
        return {"event_action": "resolve", **known}
    payload = {
        "summary": telling.shortened(telling.title(message, in_place=True), SUMMARY_LIMIT),
        "source": words.clean(incident.root.service) or SOURCE,
        "severity": "info" if message.test else incident.severity,
        "timestamp": rfc3339(incident.started),
        "custom_details": _details(message),
    }
    if incident.symptoms:
        payload |= {
            "component": words.pair(incident.symptoms[0].pair),
            "class": words.clean(incident.symptoms[0].signal),
        }
    return {"event_action": "trigger", **known, "client": "Tailrace", "payload": payload}


def change_event(message: AnyMessage) -> dict[str, Any] | None:
    """Return the change event of a digest or a new normal, without the routing key; or None."""
    if isinstance(message, DigestMessage):
        summary, moment = telling.title(message), message.digest.made
        details: dict[str, Any] = {"digest": telling.digest_lines(message.digest)}
    elif message.event == "resolved" and message.incident.ended_as == "adopted":
        summary, moment = telling.title(message), rfc3339(message.incident.changed)
        details = _details(message)
    else:
        return None
    return {
        "payload": {
            "summary": telling.shortened(summary, SUMMARY_LIMIT),
            "source": SOURCE,
            "timestamp": moment,
            "custom_details": details,
        }
    }


def _details(message: Message) -> dict[str, Any]:
    incident = message.incident
    changed = telling.changes(incident, message.earlier) if message.event == "updated" else ""
    details = {
        "what": telling.what(incident),
        "changed": changed,
        **{label.lower().replace(" ", "_"): text for label, text in telling.facts(message)},
        "findings": telling.symptoms(incident, limit=SYMPTOMS_TOLD),
        "picture": telling.picture(incident),
        "incident": incident.id,
        **{label.lower().replace(" ", "_"): text for label, text in telling.commands(message)},
    }
    return {key: value for key, value in details.items() if value}
