"""Everything else, by the library Apprise: a hundred chat, push and mail services.

It says that a message did not arrive, and not why: every failure is worth a retry.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import apprise

from alerts.errors import DeliveryError
from alerts.receivers import telling
from alerts.receivers.base import AnyMessage, DigestMessage, read_secret
from alerts.settings import AppriseSettings

PACE_S: Final = 1.0

_TYPES: Final = {
    "critical": apprise.NotifyType.FAILURE,
    "warning": apprise.NotifyType.WARNING,
    "info": apprise.NotifyType.INFO,
}


class Apprise:
    """Notifies one URL of Apprise; with several, a retry would repeat what has arrived."""

    pace_s = PACE_S
    resend_s = None

    def __init__(self, settings: AppriseSettings) -> None:
        self.name = settings.name
        self._url_file = settings.url_file
        # Its log holds URLs, and what servers answered; that of its HTTP client holds paths
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        logging.getLogger("urllib3").setLevel(logging.ERROR)

    def send(self, message: AnyMessage, *, now: float) -> Mapping[str, str]:  # noqa: ARG002
        """Make one attempt; return what was told, so that the next message can say what changed.

        Raises:
            DeliveryError: Apprise does not know the URL, or did not deliver.
        """
        url = read_secret(self._url_file)
        service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Tailrace"))
        try:
            known = len(url.split()) == 1 and service.add(url)
            arrived = known and service.notify(
                title=f"{telling.sign(message)} {telling.title(message)}",
                body="\n".join(telling.as_lines(message)),
                notify_type=_type(message),
                body_format=apprise.NotifyFormat.TEXT,
            )
        except Exception as error:
            detail = type(error).__name__
            raise DeliveryError("server_error", detail, retry=True) from None
        if not known:
            detail = f"{self._url_file} holds no URL of Apprise, or several"
            raise DeliveryError("secret_unreadable", detail, retry=True)
        if not arrived:
            raise DeliveryError("server_error", "apprise did not deliver", retry=True)
        return {} if isinstance(message, DigestMessage) else telling.remembered(message.incident)

    def close(self) -> None:
        """Do nothing: every message has a connection of its own."""


def _type(message: AnyMessage) -> apprise.NotifyType:
    if isinstance(message, DigestMessage):
        return apprise.NotifyType.INFO
    if message.event == "resolved":
        return apprise.NotifyType.SUCCESS
    return _TYPES[message.incident.severity]
