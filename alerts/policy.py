"""What is told to whom: the rules of the configuration, and the silences there are at the time.

Pure: the clock is an argument, and the same rules give the same answers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from alerts.incident import Incident
from alerts.matchers import Matcher, Subject, match, parse_all
from alerts.mutes import Mute
from alerts.severity import SEVERITIES, Severity
from alerts.silences import Silence

UPDATE_EVERY_S: Final = 300.0
DEFAULT_SEVERITY: Final[Severity] = "warning"
"""What is less severe is in the report; a route that says so tells it."""
OBSERVE_ONLY: Final = (
    ("client=~external( .*)?", "side=~client|network"),
    ("client=unknown",),
    ("server=unknown",),
)
"""Pairs that are observed and never told unless the configuration says otherwise: what clients on
the internet do, or what happens on the way to them; and ends that nobody could name. That a server
of ours fails them, or that a peer elsewhere fails a client of ours, is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Who is told of which incidents.

    Attributes:
        name: how it is called to people, e.g. "route 2".
        matchers: which incidents it takes; without any, all.
        severity: and only those at least as severe.
        receivers: who is told.
        goes_on: whether the routes after it are asked as well.
        wait_s: from the detection to the first message; what is over by then is not told.
        update_every_s: least time between messages about changes.
        repeat_every_s: time after which what still fires is told again; None for never.
    """

    name: str
    matchers: tuple[Matcher, ...] = ()
    severity: Severity = DEFAULT_SEVERITY
    receivers: tuple[str, ...]
    goes_on: bool = False
    wait_s: float = 0.0
    update_every_s: float = UPDATE_EVERY_S
    repeat_every_s: float | None = None

    def takes(self, subject: Subject) -> bool:
        """Return whether an incident goes this way."""
        enough = SEVERITIES[: SEVERITIES.index(self.severity) + 1]
        severe = any(each in enough for each in subject.shared.get("severity", ()))
        return severe and match(self.matchers, subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A receiver that is told of an incident, and how often.

    Attributes:
        receiver: its name.
        route: the name of the route that leads there.
        wait_s, update_every_s, repeat_every_s: as of the route.
        resend_s: how often the receiver itself wants to hear of what still fires; None for never.
    """

    receiver: str
    route: str
    wait_s: float = 0.0
    update_every_s: float = UPDATE_EVERY_S
    repeat_every_s: float | None = None
    resend_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the configuration says.

    Attributes:
        receivers: by name how often each wants to hear of what still fires; None for never.
        routes: in their order.
        mutes: the mute windows.
        observe_only: matchers of pairs that are never told, rule by rule.
    """

    receivers: Mapping[str, float | None] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    mutes: tuple[Mute, ...] = ()
    observe_only: tuple[tuple[Matcher, ...], ...] = tuple(map(parse_all, OBSERVE_ONLY))

    @property
    def unrouted(self) -> tuple[str, ...]:
        """The receivers that no route names: they get what no route takes."""
        named = {receiver for route in self.routes for receiver in route.receivers}
        return tuple(receiver for receiver in self.receivers if receiver not in named)

    @property
    def leave_out(self) -> bool:
        """Whether nobody is told of some incidents, critical or warning, as no route takes them."""
        whole = any(not route.matchers and route.severity != "critical" for route in self.routes)
        return bool(self.receivers) and not self.unrouted and not whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules, and the silences there are now.

    Attributes:
        rules: what the configuration says.
        silences: those that have not ended; others do no harm.
    """

    rules: Rules = field(default_factory=Rules)
    silences: tuple[Silence, ...] = ()

    def suppression(self, incident: Incident, now: float) -> str:
        """Return why nobody is told of an incident at a time, in words; "" when people are."""
        subject = Subject.of(incident)
        if reasons := self.quieted(subject, now):
            return reasons[0]
        if self._observed(incident):
            return "observe only"
        if self.rules.receivers and not self.destinations_of(subject):
            return f"no route takes it (severity {incident.severity})"
        return ""

    def quieted(self, subject: Subject, now: float) -> list[str]:
        """Return the silences and mutes that hold for what is known by these labels, in words."""
        silenced = [
            f"silenced by {silence.author} until {_until(silence.ends, now)}: {silence.comment}"
            for silence in self.silences
            if silence.state(now) == "active" and match(silence.matchers, subject)
        ]
        muted = [
            f"muted: {mute.name}"
            for mute in self.rules.mutes
            if mute.holds(now) and match(mute.matchers, subject)
        ]
        return silenced + muted

    def observed(self, subject: Subject) -> bool:
        """Return whether one symptom, or what is known by these labels, is observed only."""
        return any(match(matchers, subject) for matchers in self.rules.observe_only)

    def _observed(self, incident: Incident) -> bool:
        # Each finding must be: one that is not may be the reason to be woken. Those that an
        # incident does not carry whole are not known, so they are not
        known = len(incident.symptoms) >= len(incident.findings) > 0
        return known and all(map(self.observed, Subject.each_of(incident)))

    def destinations(self, incident: Incident) -> tuple[Destination, ...]:
        """Return who is told of an incident that is not suppressed, each receiver once."""
        return self.destinations_of(Subject.of(incident))

    def destinations_of(self, subject: Subject) -> tuple[Destination, ...]:
        """Return who is told of what is known by these labels."""
        found: dict[str, Destination] = {}
        for route in (*self.rules.routes, _rest(self.rules.unrouted)):
            if not route.takes(subject):
                continue
            for receiver in route.receivers:
                if receiver in self.rules.receivers:
                    found.setdefault(receiver, self._destination(route, receiver))
            if not route.goes_on:
                break
        return tuple(found.values())

    def _destination(self, route: Route, receiver: str) -> Destination:
        return Destination(
            receiver=receiver,
            route=route.name,
            wait_s=route.wait_s,
            update_every_s=route.update_every_s,
            repeat_every_s=route.repeat_every_s,
            resend_s=self.rules.receivers[receiver],
        )


def _rest(receivers: tuple[str, ...]) -> Route:
    """Return the way that is always there, after all others."""
    return Route(name="default", receivers=receivers)


def _until(ends: float, now: float) -> str:
    """Return a time for a person: the hour if it is today's, else the day as well."""
    end, today = (dt.datetime.fromtimestamp(each, dt.UTC) for each in (ends, now))
    return f"{end:%H:%M} UTC" if end.date() == today.date() else f"{end:%Y-%m-%d %H:%M} UTC"
