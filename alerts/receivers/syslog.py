"""Syslog, RFC 5424: by a socket of this host, UDP or TCP.

`logging.handlers.SysLogHandler` speaks an older form, and swallows what goes wrong.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from alerts.receivers import local
from alerts.receivers.base import AnyMessage, network_error
from alerts.settings import SyslogSettings
from detector.finding import rfc3339

FACILITY: Final = 3
"""System daemons."""


class Syslog:
    """Sends one packet a message; over TCP, with its length before it (RFC 6587)."""

    pace_s = 0.0
    resend_s = None

    def __init__(self, settings: SyslogSettings) -> None:
        self.name = settings.name
        self._address = settings.address
        self._timeout_s = settings.timeout_s

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:
        """Make one attempt; there is nothing to remember of it.

        Raises:
            DeliveryError: it could not be sent. Over UDP nobody says that nothing arrives.
        """
        packet = render(message, now=now)
        try:
            self._send(packet)
        except OSError as error:
            raise network_error(error) from None
        return {}

    def _send(self, packet: bytes) -> None:
        if self._address.startswith("/"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.settimeout(self._timeout_s)
                to.connect(self._address)
                to.send(packet)
            return
        parts = urlsplit(self._address)
        host, port = parts.hostname or "", parts.port or 0
        if parts.scheme == "tcp":
            with socket.create_connection((host, port), timeout=self._timeout_s) as to:
                to.sendall(b"%d %b" % (len(packet), packet))
            return
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[
            0
        ]
        with socket.socket(family, kind, protocol) as to:
            to.sendto(packet, address)

    def close(self) -> None:
        """Do nothing: every message has a socket of its own."""


def render(message: AnyMessage, *, now: float) -> bytes:
    """Return a message as RFC 5424 has it: header, no structured data, then UTF-8 with its mark.

    Structured data of our own would need a number that IANA gives to an enterprise.
    """
    priority = FACILITY * 8 + local.priority(message)
    host = re.sub(r"[^!-~]", "", socket.gethostname())[:255] or "-"
    header = f"<{priority}>1 {rfc3339(now)} {host} tailrace {os.getpid()} {message.event} - "
    return header.encode("ascii") + b"\xef\xbb\xbf" + local.line(message).encode("utf-8", "replace")
