"""Microsoft Teams: an Adaptive Card to a workflow's URL, one card per change of state.

The texts are runs, which Teams shows as they are: in its Markdown a service's name could become
a link or a mention.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from alerts.receivers import telling
from alerts.receivers.base import AnyMessage, DigestMessage, Message, secret_url
from alerts.receivers.http import Poster, as_json
from alerts.settings import TeamsSettings

PACE_S: Final = 1.0
"""Teams takes four messages a second, and fewer in the long run."""
SIZE_LIMIT_BYTES: Final = 28_000
VERSION: Final = "1.4"
"""The newest that Teams shows on all of its clients."""
TITLE_LIMIT: Final = 200

_COLOURS: Final = {"critical": "attention", "warning": "warning", "info": "accent"}


class Teams:
    """POSTs cards; there is no way to change one that was posted."""

    pace_s = PACE_S
    resend_s = None

    def __init__(self, settings: TeamsSettings) -> None:
        self.name = settings.name
        self._url_file: Path = settings.url_file
        self._poster = Poster(timeout_s=settings.timeout_s)

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:
        """Make one attempt; return what was told, so that the next card can say what changed.

        Raises:
            DeliveryError: no 2xx came back.
        """
        self._poster.post(secret_url(None, self._url_file), as_json(render(message)), now=now)
        return {} if isinstance(message, DigestMessage) else telling.remembered(message.incident)

    def close(self) -> None:
        """Close its connections."""
        self._poster.close()


def render(message: AnyMessage) -> dict[str, Any]:
    """Return the envelope with one card, below Teams' limit of 28 kB."""
    body = _of_digest(message) if isinstance(message, DigestMessage) else _of_incident(message)
    envelope = _envelope(body, fallback=telling.title(message))
    while len(as_json(envelope)) > SIZE_LIMIT_BYTES:
        # From the end: the title, what changed and the facts come first
        del body[-1]
    return envelope


def _envelope(body: list[dict[str, Any]], *, fallback: str) -> dict[str, Any]:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": VERSION,
        "fallbackText": telling.shortened(fallback, TITLE_LIMIT),
        "msteams": {"width": "Full"},
        "body": body,
    }
    kind = "application/vnd.microsoft.card.adaptive"
    attachment = {"contentType": kind, "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _of_incident(message: Message) -> list[dict[str, Any]]:
    incident = message.incident
    colour = "good" if message.event == "resolved" else _COLOURS[incident.severity]
    body = [_title(message, colour), _runs(_run(telling.what(incident)))]
    if telling.picture(incident).strip():
        body.append(_runs(_run(telling.picture(incident), monospace=True)))
    changed = telling.changes(incident, message.earlier) if message.event == "updated" else ""
    facts = [*([("Changed", changed)] if changed else []), *telling.facts(message)]
    body += [_runs(_run(f"{label}: ", bold=True), _run(text)) for label, text in facts]
    body += [
        _runs(_run(f"{label}: ", bold=True), _run(command, monospace=True))
        for label, command in telling.commands(message)
    ]
    if len(incident.findings) > 1:
        body.append(_runs(_run(f"{len(incident.findings)} findings", bold=True)))
        body += [_runs(_run(f"• {line}")) for line in telling.symptoms(incident)]
    return body


def _of_digest(message: DigestMessage) -> list[dict[str, Any]]:
    lines = telling.digest_lines(message.digest)
    return [_title(message, "default"), *(_runs(_run(line)) for line in lines)]


def _title(message: AnyMessage, colour: str) -> dict[str, Any]:
    text = telling.shortened(f"{telling.sign(message)} {telling.title(message)}", TITLE_LIMIT)
    return _runs(_run(text, bold=True) | {"size": "large", "color": colour})


def _runs(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs), "spacing": "small"}


def _run(text: str, *, bold: bool = False, monospace: bool = False) -> dict[str, Any]:
    run = {"type": "TextRun", "text": text}
    if bold:
        run["weight"] = "bolder"
    if monospace:
        run["fontType"] = "monospace"
    return run
