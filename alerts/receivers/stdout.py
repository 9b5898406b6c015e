"""Standard output, one line a message, for whoever collects it."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from alerts.errors import DeliveryError
from alerts.receivers import local
from alerts.receivers.base import AnyMessage
from alerts.receivers.webhook import render
from alerts.settings import StdoutSettings


class Stdout:
    """Writes and flushes, so that what is written is out."""

    pace_s = 0.0
    resend_s = None

    def __init__(self, settings: StdoutSettings) -> None:
        self.name = settings.name
        self._format = settings.format

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:  # noqa: ARG002
        """Make one attempt; there is nothing to remember of it.

        Raises:
            DeliveryError: it cannot be written, as when nobody reads the pipe any more.
        """
        as_text = self._format == "text"
        text = local.line(message) if as_text else render(message).decode()
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            raise DeliveryError("network", type(error).__name__, retry=True) from None
        return {}

    def close(self) -> None:
        """Do nothing: standard output is not ours."""
