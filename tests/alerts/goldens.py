"""What each receiver sends, as it is checked in.

`python -m tests.alerts.goldens` writes it anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from alerts.receivers import (
    AnyMessage,
    alertmanager,
    email,
    journal,
    local,
    pagerduty,
    prometheus_alert,
    slack_message,
    syslog,
    teams,
    webhook,
)
from alerts.settings import EmailSettings
from tests.alerts import messages
from tests.alerts.examples import T0

EMAIL = EmailSettings(
    name="mail",
    server="mail.example.com",
    sender="Tailrace <tailrace@example.com>",
    recipients=("on-call@example.com", "team@example.com"),
)
NOW = T0 + 601


def _slack(message: AnyMessage) -> Any:
    if message.event == "digest":
        return slack_message.render(message)
    return {
        "message": slack_message.render(message, in_place=True),
        "reply": slack_message.render_reply(message, first=message.event == "firing"),
        "webhook": slack_message.render(message),
    }


def _email(message: AnyMessage) -> Any:
    mail = email.render(message, EMAIL, now=NOW)
    text, page = mail.get_body(("plain",)), mail.get_body(("html",))
    headers = {name: str(value) for name, value in mail.items() if name != "Content-Type"}
    return {"headers": headers, "text": text.get_content(), "html": page.get_content()}


def _pagerduty(message: AnyMessage) -> Any:
    event = None if message.event == "digest" else pagerduty.event(message)
    return {"event": event, "change": pagerduty.change_event(message)}


def _cloudevents(message: AnyMessage) -> Any:
    headers = webhook.cloudevents_headers(message)
    return {name: value for name, value in headers.items() if name != "ce-source"}


def _syslog(message: AnyMessage) -> Any:
    # The name of the host and the number of the process are this machine's
    parts = syslog.render(message, now=NOW).decode("utf-8-sig").split(" ", 5)
    return " ".join([*parts[:2], "HOST", parts[3], "PROCESS", parts[5]])


RENDERED: dict[str, Callable[[AnyMessage], Any]] = {
    "alertmanager": lambda message: alertmanager.render(message, now=NOW),
    "cloudevents": _cloudevents,
    "email": _email,
    "journal": journal.fields,
    "pagerduty": _pagerduty,
    "slack": _slack,
    "stdout": local.line,
    "syslog": _syslog,
    "teams": teams.render,
    "webhook": lambda message: json.loads(webhook.render(message)),
    "webhook-alertmanager": lambda m: prometheus_alert.webhook_body(m, receiver="pager"),
}
"""By receiver (of webhooks: by format), what it sends, as JSON."""

EARLIER = {"severity": "warning", "root": "api", "findings": "2", "affected": "2"}


def message(event: str) -> AnyMessage:
    """Return the message whose payloads are checked in."""
    if event == "digest":
        return messages.digest()
    return messages.EVENTS[event](earlier={} if event == "firing" else EARLIER)


EVENTS = (*messages.EVENTS, "digest")


def golden(receiver: str, event: str) -> Any:
    """Return what is checked in."""
    return json.loads((messages.GOLDEN / f"{receiver}-{event}.json").read_text(encoding="utf-8"))


def check(receiver: str, event: str) -> None:
    """Fail when a receiver's payload is another than the one that is checked in."""
    assert RENDERED[receiver](message(event)) == golden(receiver, event)


def write() -> None:
    """Write all of them."""
    for receiver, render in RENDERED.items():
        for event in EVENTS:
            text = json.dumps(render(message(event)), ensure_ascii=False, indent=2)
            (messages.GOLDEN / f"{receiver}-{event}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    write()
