"""What can go wrong in this package, each with a short reason a program can switch on.

Neither error ever carries a secret: no token, no URL, no text that a remote server chose freely.
"""

from __future__ import annotations

from typing import Literal

StoreReason = Literal[
    "busy",
    "closed",
    "corrupt",
    "disk_full",
    "io",
    "locked",
    "missing",
    "newer_schema",
    "not_writable",
    "read_only",
]

Reason = Literal[
    "client_error",
    "disabled",
    "expired",
    "gone",
    "internal",
    "misconfigured",
    "network",
    "rate_limited",
    "redirect",
    "rejected",
    "secret_unreadable",
    "server_error",
    "superseded",
    "timeout",
    "upgraded",
]

REMEDIES: dict[Reason, str] = {
    "client_error": "the receiver refuses the message: check its url",
    "disabled": "the receiver answered 410 Gone: correct its url, then restart",
    "expired": "the receiver was unavailable for too long",
    "gone": "the receiver answered 410 Gone: correct its url, then restart",
    "internal": "this is a fault of Tailrace: please report it",
    "misconfigured": "correct the receiver's settings",
    "network": "check that the receiver runs and can be reached from here",
    "rate_limited": "the receiver asks for fewer messages; they are sent later",
    "redirect": "redirects are not followed: set url to where it leads",
    "rejected": "check token or login, channel or recipients, and permissions",
    "secret_unreadable": "check that the file exists and that the daemon may read it",
    "server_error": "the receiver has a fault of its own",
    "upgraded": "it was an older version's: what still goes on is told as an incident",
    "superseded": "a later message about the same incident was sent instead",
    "timeout": "the receiver answers too slowly: check it, or raise timeout_s",
}
"""What to do about each reason."""


class StoreError(Exception):
    """The store cannot do what was asked; nothing that it already holds is lost.

    Attributes:
        reason: a short label, one of `StoreReason`.
    """

    def __init__(self, message: str, *, reason: StoreReason) -> None:
        super().__init__(message)
        self.reason: StoreReason = reason


class DeliveryError(Exception):
    """One attempt to deliver one message failed.

    Attributes:
        reason: a short label, one of `Reason`.
        detail: a few words more, e.g. "HTTP 503"; never a secret.
        retry: whether another attempt can succeed.
        retry_after_s: how long the receiver asks to be left alone; None when it does not say.
        disable: whether nothing may be sent to this receiver any more.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        retry: bool,
        retry_after_s: float | None = None,
        disable: bool = False,
    ) -> None:
        label = f"{reason} ({detail})" if detail else reason
        super().__init__(f"{label}: {REMEDIES[reason]}")
        self.reason: Reason = reason
        self.detail = detail
        self.retry = retry
        self.retry_after_s = retry_after_s
        self.disable = disable
