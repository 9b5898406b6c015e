"""Where notifications go: one module per kind of receiver.

In: a message and the receiver's settings. Out: the receiver's own receipt, or a
`DeliveryError` with a reason. A receiver makes one attempt; the outbox owns every retry.
"""

from __future__ import annotations

import importlib

from alerts.errors import DeliveryError
from alerts.receivers.base import AnyMessage, DigestMessage, Message, Receiver
from alerts.settings import ReceiverSettings, SlackSettings

__all__ = ["AnyMessage", "DigestMessage", "Message", "Receiver", "make_receiver"]

_CLASSES = {
    "alertmanager": "Alertmanager",
    "apprise": "Apprise",
    "email": "Email",
    "journal": "Journal",
    "pagerduty": "PagerDuty",
    "stdout": "Stdout",
    "syslog": "Syslog",
    "teams": "Teams",
    "webhook": "Webhook",
}


def make_receiver(settings: ReceiverSettings) -> Receiver:
    """Return the receiver that `settings` describe.

    Raises:
        DeliveryError: what it needs is not installed; the message says how to get it.
    """
    if isinstance(settings, SlackSettings):
        name = "SlackWebhook" if settings.token_file is None else "SlackBot"
    else:
        name = _CLASSES[settings.type]
    # Imported late: `tailrace report` needs no HTTP client, and a library may not be there
    try:
        module = importlib.import_module(f"alerts.receivers.{settings.type}")
    except ModuleNotFoundError as error:
        detail = f"{error.name} is not installed: pip install tailrace[{settings.type}]"
        raise DeliveryError("misconfigured", detail, retry=False) from None
    receiver: Receiver = getattr(module, name)(settings)
    return receiver
