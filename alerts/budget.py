"""The budget of false alerts, kept at the last step before people: a token bucket of incidents.

In: alerts as they fire and end, and what confirms them. Out: which of them may be told now. Pure:
the clock is an argument, the state is plain values, and the same calls give the same answers.

An incident is what begins together: alerts whose onsets lie within some seconds and that share a
service. To tell of one takes a token; N tokens come back per week. What proves real gives its
token back, so that only what does not prove real is limited, and that without exception: in any
time t, at most capacity + N t incidents are told that were not proven, and one more for each from
before that proves real in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

from alerts.alert import Alert
from alerts.severity import SEVERITIES
from detector.finding import Finding
from probes.window import EVERY

WEEK_S: Final = 604_800.0
DAY_S: Final = 86_400.0
TOGETHER_S: Final = 15.0
"""Onsets this close belong together: they are estimates, a few seconds wide."""
MOST_ALERTS: Final = 20
"""One incident tells of so many alerts; what comes after is another, with a token of its own."""
LEAST_CAPACITY: Final = 5.0
"""A user who allows one false alert a week is still told of the first five things that happen."""
PROVEN_A_DAY: Final = 3
"""What comes and goes is proven by its own data so many times a day; then it takes tokens."""
PATIENCE_S: Final = 600.0
"""How long an alert waits for a token before it is listed in a digest: by then the detector has
taken for normal what did not end."""
DIGEST_EVERY_S: Final = 3600.0
SETTLING_S: Final = 60.0
"""What is younger than this may still prove real, and is not listed yet."""

Standing = Literal["paid", "proven", "free", "held"]
"""paid: told, for a token. proven: told, and its token given back (or never taken). free: told, as
hard failures always are. held: not told."""
Proof = Literal["", "corroborated", "lasted", "confirmed"]
Verdict = Literal["", "confirmed", "dismissed"]

_FLOW: Final = frozenset({"connections", "requests", "waits", "bytes_sent", "bytes_received"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the user allows.

    Attributes:
        per_week: incidents a week that need not be real, > 0.
        text: the same as the user wrote it.
        together_s: onsets this close belong together, seconds; at least two windows.
    """

    per_week: float
    text: str = ""
    together_s: float = TOGETHER_S

    @property
    def capacity(self) -> float:
        """How many tokens there can be: a third of a week's, and never less than five."""
        return max(LEAST_CAPACITY, self.per_week / 3.0)

    @property
    def reason(self) -> str:
        """Why an alert is held back, in words."""
        return f"no token was left of false_alerts = {self.text or f'{self.per_week:g}/week'}"


@dataclass(slots=True, kw_only=True)
class Member:
    """An alert of an incident.

    Attributes:
        since: when it came, epoch seconds.
        rank: of its severity, 0 is the most severe.
        firing: whether it has not ended.
        told: whether receivers are told of it.
        listed: whether a digest has it.
    """

    since: float
    rank: int
    firing: bool = True
    told: bool = False
    listed: bool = False


@dataclass(slots=True, kw_only=True)
class Incident:
    """Alerts that began together.

    Attributes:
        id: of its first alert.
        fingerprint: of its first alert.
        onset: of its first alert, epoch seconds.
        opened: when its first alert came, epoch seconds.
        standing: what it cost, see `Standing`.
        proof: why it counts as real; "" while it does not.
        proven: when it was proven, epoch seconds; None while it is not.
        verdict: what the user said of it.
        lasted: whether one of its alerts lasted, with a plain effect.
        services: clients and servers of its alerts.
        measured: what changed, by pair: what says the same twice is there once.
        members: its alerts by id.
    """

    id: str
    fingerprint: str
    onset: float
    opened: float
    standing: Standing
    proof: Proof = ""
    proven: float | None = None
    verdict: Verdict = ""
    lasted: bool = False
    services: set[str] = field(default_factory=set)
    measured: set[str] = field(default_factory=set)
    members: dict[str, Member] = field(default_factory=dict)

    @property
    def firing(self) -> bool:
        """Whether any of its alerts has not ended."""
        return any(member.firing for member in self.members.values())

    @property
    def open(self) -> bool:
        """Whether anything can still come of it: it fires, or waits to be listed."""
        return any(m.firing or not (m.told or m.listed) for m in self.members.values())

    def evidence(self) -> Proof:
        """Return what speaks for it, the user's word first; "" for nothing."""
        if self.verdict:
            return "confirmed" if self.verdict == "confirmed" else ""
        if len(self.measured) > 1:
            return "corroborated"
        return "lasted" if self.lasted else ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        members = {
            id_: [m.since, m.rank, m.firing, m.told, m.listed] for id_, m in self.members.items()
        }
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "services": sorted(self.services),
            "measured": sorted(self.measured),
            "members": members,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return what `to_json` was made of."""
        members = {
            id_: Member(since=since, rank=rank, firing=firing, told=told, listed=listed)
            for id_, (since, rank, firing, told, listed) in data["members"].items()
        }
        return cls(
            **{name: data[name] for name in _PLAIN},
            services=set(data["services"]),
            measured=set(data["measured"]),
            members=members,
        )


_PLAIN: Final = (
    "id", "fingerprint", "onset", "opened", "standing", "proof", "proven", "verdict", "lasted",
)  # fmt: skip


class Ledger:
    """The tokens, and the incidents that may still take or give back one.

    Attributes:
        budget: what is allowed.
        tokens: how many there are, 0 to `budget.capacity`.
        at: when `tokens` was right, epoch seconds; None before the first time.
        digested: when the latest digest was made, epoch seconds; None before the first.
        incidents: by id; those of the last day, and older ones that are still open.
        touched: ids of incidents that changed since this was last emptied, for who stores them.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        tokens: float | None = None,
        at: float | None = None,
        digested: float | None = None,
        incidents: Iterable[Incident] = (),
    ) -> None:
        self.budget = budget
        self.tokens = budget.capacity if tokens is None else min(tokens, budget.capacity)
        self.at, self.digested = at, digested
        self.incidents: dict[str, Incident] = {}
        self.touched: set[str] = set()
        self._of_alert: dict[str, str] = {}
        for incident in incidents:
            self.add(incident)

    def add(self, incident: Incident) -> None:
        """Take up an incident that was stored."""
        self.incidents[incident.id] = incident
        self._of_alert |= dict.fromkeys(incident.members, incident.id)

    def incident_of(self, alert_id: str) -> Incident | None:
        """Return the incident that an alert belongs to; None when it is not known here."""
        return self.incidents.get(self._of_alert.get(alert_id, ""))

    def fire(self, alert: Alert, *, now: float) -> bool:
        """Take an alert that fires, or has become more severe; return whether to tell of it now.

        A hard failure (severity critical) is always told, and all of its incident with it.
        """
        self._refill(now)
        rank = SEVERITIES.index(alert.severity)
        incident = self.incident_of(alert.id) or self._together(alert)
        if incident is None:
            incident = self._opened(alert, now=now)
        member = incident.members.setdefault(alert.id, Member(since=now, rank=rank))
        self._of_alert[alert.id] = incident.id
        member.rank, member.firing = rank, True
        incident.services |= _services(alert)
        incident.measured |= _measured(alert.findings[0])
        if rank == 0 and incident.standing == "held":
            incident.standing = "free"
        member.told = member.told or incident.standing != "held"
        self.touched.add(incident.id)
        return member.told

    def end(self, alert_id: str) -> None:
        """Take note that an alert is over."""
        if (incident := self.incident_of(alert_id)) is not None:
            incident.members[alert_id].firing = False
            self.touched.add(incident.id)

    def lasted(self, alert_id: str) -> None:
        """Take note that an alert lasted, with a plain effect."""
        incident = self.incident_of(alert_id)
        if incident is not None and not incident.lasted:
            incident.lasted = True
            self.touched.add(incident.id)

    def judge(self, alert_id: str, verdict: Verdict, *, now: float) -> None:
        """Take the user's word for an alert's incident: real ("confirmed"), or not ("dismissed").

        What was given back for an incident that is dismissed is taken again.
        """
        self._refill(now)
        incident = self.incident_of(alert_id)
        if incident is None or incident.verdict == verdict:
            return
        incident.verdict = verdict
        if verdict == "dismissed" and incident.standing == "proven":
            self.tokens = max(0.0, self.tokens - 1.0)
            incident.standing, incident.proof, incident.proven = "paid", "", None
        self.touched.add(incident.id)

    def settle(self, *, now: float) -> list[str]:
        """Give back what is due; return ids of alerts that waited and are to be told now.

        Call it after each step's alerts and confirmations. Of those that wait, the most severe
        and then the oldest go first.
        """
        self._refill(now)
        for incident in sorted(self.incidents.values(), key=lambda i: (i.opened, i.id)):
            self._prove(incident, now=now)
        waiting = [i for i in self.incidents.values() if i.standing == "held" and i.firing]
        for incident in sorted(waiting, key=_urgency):
            if self.tokens < 1.0:
                break
            self.tokens -= 1.0
            incident.standing = "paid"
            self.touched.add(incident.id)
        return self._released()

    def digest(self, *, now: float) -> list[str]:
        """Return ids of the alerts that a digest is to list now, in order; [] for no digest."""
        if self.digested is not None and self.digested <= now < self.digested + DIGEST_EVERY_S:
            return []
        waiting = {
            id_: (member, incident)
            for incident in self.incidents.values()
            for id_, member in incident.members.items()
            # since > now: the clock was set back
            if not (member.told or member.listed) and not 0 <= now - member.since < SETTLING_S
        }
        if not any(not 0 <= now - m.since < PATIENCE_S for m, _ in waiting.values()):
            return []
        for member, incident in waiting.values():
            member.listed = True
            self.touched.add(incident.id)
        self.digested = now
        return sorted(waiting, key=lambda id_: (waiting[id_][0].rank, waiting[id_][0].since, id_))

    def forget(self, *, now: float) -> None:
        """Let go of incidents that nothing more can come of."""
        for incident in list(self.incidents.values()):
            if not incident.open and not 0 <= now - incident.opened < DAY_S:
                del self.incidents[incident.id]
                for id_ in incident.members:
                    self._of_alert.pop(id_, None)

    def _refill(self, now: float) -> None:
        # A clock that was set back brings nothing, and takes nothing
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        gained = passed * self.budget.per_week / WEEK_S
        self.tokens, self.at = min(self.budget.capacity, self.tokens + gained), now

    def _together(self, alert: Alert) -> Incident | None:
        first = alert.findings[0]
        near = [
            incident
            for incident in self.incidents.values()
            if abs(incident.onset - first.onset) <= self.budget.together_s
            and len(incident.members) < MOST_ALERTS
            and incident.services & _services(alert)
        ]
        return min(near, key=lambda i: (i.standing == "held", i.opened, i.id), default=None)

    def _opened(self, alert: Alert, *, now: float) -> Incident:
        standing: Standing = "held"
        if alert.severity == "critical":
            standing = "free"
        elif self.tokens >= 1.0:
            standing = "paid"
            self.tokens -= 1.0
        incident = Incident(
            id=alert.id,
            fingerprint=alert.fingerprint,
            onset=alert.findings[0].onset,
            opened=now,
            standing=standing,
        )
        self.incidents[incident.id] = incident
        return incident

    def _prove(self, incident: Incident, *, now: float) -> None:
        proof = incident.evidence()
        if not proof or incident.standing not in ("paid", "held"):
            return
        if incident.standing == "held" and not incident.firing:
            return  # nobody was told, and there is nothing to tell of now
        if proof != "confirmed" and self._proven_today(incident.fingerprint, now) >= PROVEN_A_DAY:
            return
        if incident.standing == "paid":
            self.tokens = min(self.budget.capacity, self.tokens + 1.0)
        incident.standing, incident.proof, incident.proven = "proven", proof, now
        self.touched.add(incident.id)

    def _proven_today(self, fingerprint: str, now: float) -> int:
        return sum(
            each.fingerprint == fingerprint
            and each.proof in ("corroborated", "lasted")
            and each.proven is not None
            and each.proven > now - DAY_S
            for each in self.incidents.values()
        )

    def _released(self) -> list[str]:
        released = []
        for incident in self.incidents.values():
            if incident.standing == "held":
                continue
            for id_, member in incident.members.items():
                if member.firing and not member.told:
                    member.told = True
                    released.append((member.rank, member.since, id_))
                    self.touched.add(incident.id)
        return [id_ for _, _, id_ in sorted(released)]


def _urgency(incident: Incident) -> tuple[object, ...]:
    return (min(m.rank for m in incident.members.values()), incident.opened, incident.id)


def _services(alert: Alert) -> set[str]:
    pair = alert.findings[0].pair
    return {pair.client, pair.server} - {EVERY}


def _measured(finding: Finding) -> set[str]:
    """Return what a finding is evidence of: one name for signals that rise and fall as one.

    Requests bring bytes and connections with them, so those say the same thing. That a pair is
    new is no evidence of anything else.
    """
    if finding.direction == "new":
        return set()
    flow = finding.signal in _FLOW or finding.direction == "gone"
    return {"\0".join([*map(str, finding.pair), "flow" if flow else finding.signal])}
