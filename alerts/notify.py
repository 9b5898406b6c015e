"""The notification log: what each receiver was told last of each incident, and what it is due.

In: incidents as they are, the policy, the time. Out: messages. Pure: what was told is kept here
and written by `alerts.notifications`, in one transaction with the messages, so that after a crash
both are there or neither. A receiver is told

* that an incident fires, once, after its route's wait; not while it is pending, is suppressed, or
  recovers already;
* that it became worse, at once; that it became another, when that matters and not more often than
  its route allows;
* that it is still there, as often as its route or the receiver itself asks for;
* that it is over, at once, suppressed or not; but only who was told that it fires.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from alerts.incident import Event, Incident
from alerts.outbox import message_id
from alerts.policy import Destination, Policy
from alerts.severity import SEVERITIES, Severity

RESEND_RESOLVED_S: Final = 300.0
"""A receiver that wants to hear again of what it was told is told so long that it is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one receiver was told last of one incident.

    Attributes:
        event: what it was told.
        at: when, epoch seconds.
        severity: what it was then.
        digest: of what mattered then, see `digest`.
        sequence: how many messages that makes, from 1.
    """

    event: Event
    at: float
    severity: Severity
    digest: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A message that is due.

    Attributes:
        id: stable: the same message has the same id however often it is asked for, and no other
            message ever has it.
        incident: as it is told.
        event: what it tells of.
        receiver: to whom.
        told: what the receiver will have been told by it.
    """

    id: str
    incident: Incident
    event: Event
    receiver: str
    told: Told


def digest(incident: Incident) -> str:
    """Return a digest of what of an incident is worth another message when it changes.

    That is its severity, its most probable root, what set it off, and how many feel it, in
    powers of two: who hears of three is told of four, and then of eight.
    """
    trigger = incident.trigger
    parts = (
        incident.severity,
        incident.root.service,
        incident.root.side,
        "" if trigger is None else f"{trigger.kind} {trigger.service}",
        str(len(incident.affected).bit_length()),
    )
    return _hash(*parts)


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


class Notifier:
    """The log, and what follows from it.

    Attributes:
        log: what was told last, by incident's id and receiver.
    """

    def __init__(self, log: Mapping[tuple[str, str], Told] | None = None) -> None:
        self.log: dict[tuple[str, str], Told] = dict(log or {})

    def due(
        self,
        incidents: Iterable[Incident],
        policy: Policy,
        now: float,
        *,
        held: Mapping[str, str] | None = None,
    ) -> list[Notification]:
        """Return what is to be told now; the log stays as it is until `record`.

        Args:
            incidents: all that are not over, and those whose end may not have been told: that
                were not over the last time, or ended within `RESEND_RESOLVED_S`.
            policy: who is told of what.
            now: epoch seconds.
            held: why incidents are held back for other reasons than the policy's, by id, e.g.
                for the budget of false alerts.
        """
        return [
            notification
            for incident in incidents
            for notification in self._due(incident, policy, now, (held or {}).get(incident.id, ""))
        ]

    def record(self, notifications: Iterable[Notification]) -> None:
        """Take note that messages are told."""
        for each in notifications:
            self.log[each.incident.id, each.receiver] = each.told

    def _due(
        self, incident: Incident, policy: Policy, now: float, held: str
    ) -> Iterable[Notification]:
        if incident.state == "pending":
            return
        if incident.state == "resolved":
            for receiver, resend_s in policy.rules.receivers.items():
                told = self.log.get((incident.id, receiver))
                if told is not None and _end_is_due(incident, told, resend_s, now):
                    yield self._message(incident, "resolved", receiver, now)
            return
        if held or policy.suppression(incident, now):
            return
        for destination in policy.destinations(incident):
            told = self.log.get((incident.id, destination.receiver))
            if event := _event(incident, told, destination, now):
                yield self._message(incident, event, destination.receiver, now)

    def _message(self, incident: Incident, event: Event, receiver: str, now: float) -> Notification:
        before = self.log.get((incident.id, receiver))
        sequence = 1 if before is None else before.sequence + 1
        return Notification(
            id=message_id(incident.id, event, receiver, number=sequence),
            incident=dataclasses.replace(incident, suppressed=""),
            event=event,
            receiver=receiver,
            told=Told(
                event=event,
                at=now,
                severity=incident.severity,
                digest=digest(incident),
                sequence=sequence,
            ),
        )


def _event(
    incident: Incident, told: Told | None, destination: Destination, now: float
) -> Event | None:
    """Return what a receiver is due of an incident that fires or recovers; None for nothing."""
    fires = incident.state == "firing"
    if told is None or told.event == "resolved":
        waited = _passed(incident.detected, now, destination.wait_s)
        return "firing" if fires and waited else None
    worse = SEVERITIES.index(incident.severity) < SEVERITIES.index(told.severity)
    changed = told.digest != digest(incident)
    if fires and changed and (worse or _passed(told.at, now, destination.update_every_s)):
        return "updated"
    # What a receiver needs to hear lest it takes it for over, it needs to hear to the end
    again_s = [destination.resend_s, destination.repeat_every_s if fires else None]
    if any(each is not None and _passed(told.at, now, each) for each in again_s):
        return "firing"
    return None


def _end_is_due(incident: Incident, told: Told, resend_s: float | None, now: float) -> bool:
    """Return whether a receiver that was told something is due that an incident is over."""
    if told.event != "resolved":
        return True
    recent = incident.resolved is not None and not _passed(
        incident.resolved, now, RESEND_RESOLVED_S
    )
    return resend_s is not None and recent and _passed(told.at, now, resend_s)


def _passed(since: float, now: float, seconds: float) -> bool:
    # since > now: the clock was set back, and nobody is to wait for it to catch up
    return not 0.0 <= now - since < seconds
