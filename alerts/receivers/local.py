"""One line on this host: what journal, syslog and standard output share."""

from __future__ import annotations

from typing import Final

from alerts.receivers import telling
from alerts.receivers.base import AnyMessage, DigestMessage

LINE_LIMIT: Final = 1500
"""With a header, it fits into a packet that syslog servers must take (2048, RFC 5424)."""

# As of syslog(3); an end is worth less attention than a beginning
CRITICAL, WARNING, NOTICE, INFO = 2, 4, 5, 6
_PRIORITIES: Final = {"critical": CRITICAL, "warning": WARNING, "info": NOTICE}


def priority(message: AnyMessage) -> int:
    """Return how urgent a message is, as syslog and the journal count it."""
    if isinstance(message, DigestMessage) or message.event == "resolved" or message.test:
        return INFO
    return _PRIORITIES[message.incident.severity]


def line(message: AnyMessage) -> str:
    """Return a message as one line."""
    if isinstance(message, DigestMessage):
        text = f"{telling.title(message)}: {telling.one_line(message.digest.reason)}"
        return telling.shortened(f"{text}; tailrace report", LINE_LIMIT)
    incident = message.incident
    facts = "; ".join(f"{label.lower()}: {text}" for label, text in telling.facts(message))
    text = f"{telling.title(message)}; {telling.what(incident)}; {facts}"
    command = f"; {telling.see_more(incident)}"
    return telling.shortened(text, LINE_LIMIT - len(command)) + command
