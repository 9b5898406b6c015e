"""The systemd journal by its native protocol, with fields that `journalctl` can filter by.

Source: systemd's "Native Journal Protocol". An entry is one datagram; ours are far below the size
from which it would have to be a sealed file instead.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Final

from alerts.receivers import local, telling
from alerts.receivers.base import AnyMessage, DigestMessage, network_error
from alerts.receivers.webhook import kind
from alerts.settings import JournalSettings

MESSAGE_ID: Final = "6b1c2a4f0f7e4d0c9d3a5e8f7a1b2c3d"
"""Of all entries of ours: `journalctl MESSAGE_ID=…`."""


class Journal:
    """Sends one datagram a message."""

    pace_s = 0.0
    resend_s = None

    def __init__(self, settings: JournalSettings) -> None:
        self.name = settings.name
        self._address = str(settings.address)
        self._timeout_s = settings.timeout_s

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:  # noqa: ARG002
        """Make one attempt; there is nothing to remember of it.

        Raises:
            DeliveryError: nobody listens there.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.settimeout(self._timeout_s)
                to.connect(self._address)
                to.send(encode(fields(message)))
        except OSError as error:
            raise network_error(error) from None
        return {}

    def close(self) -> None:
        """Do nothing: every message has a socket of its own."""


def fields(message: AnyMessage) -> dict[str, str]:
    """Return the fields of a message's entry."""
    known = {
        "MESSAGE": local.line(message),
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": str(local.priority(message)),
        "SYSLOG_IDENTIFIER": "tailrace",
        "TAILRACE_EVENT": kind(message),
        "TAILRACE_MESSAGE": message.id,
    }
    if isinstance(message, DigestMessage):
        return known | {"TAILRACE_DIGEST": message.digest.id}
    incident = message.incident
    return known | {
        "TAILRACE_INCIDENT": incident.id,
        "TAILRACE_SEVERITY": incident.severity,
        "TAILRACE_SERVICE": incident.root.service,
        "TAILRACE_SIDE": incident.root.side,
        "TAILRACE_AFFECTED": telling.affected(incident),
        "TAILRACE_DETAILS": "\n".join(telling.as_lines(message)),
    }


def encode(entry: Mapping[str, str]) -> bytes:
    """Return an entry as the journal takes it; a value of several lines has its length first."""
    parts = []
    for name, value in entry.items():
        data = value.encode("utf-8", "replace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)
