"""Where alerts go: one module per kind of receiver.

In: a message and the receiver's settings. Out: the receiver's own receipt, or a
`DeliveryError` with a reason. A receiver makes one attempt; the outbox owns every retry.
"""

from __future__ import annotations

from alerts.receivers.base import AnyMessage, DigestMessage, Message, Receiver
from alerts.settings import ReceiverSettings

__all__ = ["AnyMessage", "DigestMessage", "Message", "Receiver", "make_receiver"]


def make_receiver(settings: ReceiverSettings) -> Receiver:
    """Return the receiver that `settings` describe.

    Raises:
        ValueError: the settings lack something; the message says what.
    """
    # Imported late: `tailrace report` needs neither HTTP client
    if settings.type == "webhook":
        from alerts.receivers.webhook import Webhook  # noqa: PLC0415

        return Webhook(settings)
    from alerts.receivers.slack import SlackBot, SlackWebhook  # noqa: PLC0415

    return SlackWebhook(settings) if settings.token_file is None else SlackBot(settings)
