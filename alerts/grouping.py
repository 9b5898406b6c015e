"""Findings that share a cause become one incident, which lives: the state machine of incidents.

In: the findings of each window. Out: the incidents that changed, and what receivers are to be told
of them. Pure: `now` is the end of a window, all state goes to JSON and back, and the same windows
give the same incidents, byte for byte. Findings are taken in order of their onset, so that their
order within a window does not matter.

A finding belongs to an open incident if it is of a pair of it, if both began together at a service
that both may lie at, or if one explains the other (`alerts.relation`). What counts is the
incident's *roots*, its findings that no other explains. A finding that explains a root, or lies
where a root does, is part of the cause; two incidents that it ties together so are one, and the
younger becomes part of the older. A finding that is only an effect belongs to the oldest incident
that explains it, and ties nothing: two faults that one caller feels stay two incidents
(`alerts.homes`).
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Self

from alerts import blame, impact, life, telling
from alerts.case import MOST_WHOLE, Case, incident_id
from alerts.graph import ServiceGraph
from alerts.history import History
from alerts.homes import homes_of
from alerts.impact import Symptom
from alerts.incident import Event, Incident, Trigger
from alerts.relation import TOGETHER_S, explains
from alerts.severity import worst
from alerts.trigger import Triggers
from detector.finding import Finding
from probes.window import EVERY, Window

VERSION: Final = 2
MOST_FLAPS: Final = 1000
YOUNG_S: Final = 120.0
"""What happened to services is heard of late: an incident of this age still looks for it."""


class Change(NamedTuple):
    """An incident that changed.

    Attributes:
        incident: as it is now.
        event: whether it fires from now on or is over, or in a replay also what is worth an update;
            None for anything else. Who is told of that, `alerts.notify` decides.
    """

    incident: Incident
    event: Event | None


class Incidents:
    """The open incidents, and the service graph that joins findings."""

    def __init__(self) -> None:
        self.graph = ServiceGraph()
        self.history = History()
        self._open: dict[str, Case] = {}
        # Where each service is an end of a finding: ids of open incidents
        self._at: dict[str, set[str]] = {}
        self._of_finding: dict[str, str] = {}
        self._flaps: dict[str, tuple[float, int]] = {}
        self._triggers = Triggers()
        self._window_s = math.nan
        self._last = math.nan

    @property
    def together_s(self) -> float:
        """Onsets this close are simultaneous, seconds: one change may begin in two windows."""
        return max(TOGETHER_S, 2.0 * self.window_s)

    @property
    def window_s(self) -> float:
        """Length of a window, seconds; 1 until it is known."""
        return 1.0 if math.isnan(self._window_s) else self._window_s

    def __len__(self) -> int:
        return len(self._open)

    def knows(self, finding_id: str) -> bool:
        """Return whether a finding belongs to an open incident."""
        return finding_id in self._of_finding

    def current(self) -> list[Incident]:
        """Return the open incidents, in the order they began."""
        cases = sorted(self._open.values(), key=lambda case: (case.started, case.id))
        return [telling.describe(case) for case in cases]

    def update(
        self, window: Window, findings: Iterable[Finding], triggers: Iterable[Trigger] = ()
    ) -> list[Change]:
        """Take a window and what the detector found with it; return what changed, in order.

        Args:
            window: it has a row at least.
            findings: those that began or ended with it.
            triggers: what has happened to services since the last call.
        """
        width = next((w for w in (window.width, window.nominal) if w > 0), 0.0)
        self._window_s = self._length(window)
        self._last = window.time
        self.graph.update(window)
        self.history.update(window)
        return self.step(findings, now=window.time + width, triggers=triggers)

    def _length(self, window: Window) -> float:
        """Return how long windows are; where they do not say, as long as the least gap was."""
        if said := next((w for w in (window.nominal, window.width) if w > 0), None):
            return said
        gap = window.time - self._last
        # Of a NaN and a number, min returns the first
        return min(gap, self._window_s) if gap > 0 else self._window_s

    def step(
        self, findings: Iterable[Finding], *, now: float, triggers: Iterable[Trigger] = ()
    ) -> list[Change]:
        """Take findings that began or ended by `now`; return what changed, in order."""
        self._hear(list(triggers), now=now)
        changes: list[Change] = []
        for finding in sorted(findings, key=_order):
            if finding.state == "firing":
                changes += self._begin(finding, now=now)
            else:
                self._end(finding)
        for case in sorted(self._open.values(), key=lambda case: (case.detected, case.id)):
            changes += self._advance(case, now=now)
        return changes

    def _hear(self, triggers: Sequence[Trigger], *, now: float) -> None:
        """Take note of what happened to services; young incidents of theirs look at it."""
        self._triggers.add(triggers, now=now)
        for service in {each.service for each in triggers}:
            for case_id in self._at.get(service, ()):
                case = self._open[case_id]
                case.dirty = case.dirty or now - case.started < YOUNG_S

    # A finding that began

    def _begin(self, finding: Finding, *, now: float) -> list[Change]:
        known = self._of_finding.get(finding.id)
        if known is not None:
            return []
        homes = homes_of(
            finding, self._near(finding), explains=self._explains, together_s=self.together_s
        )
        if homes:
            case = homes[0]
            changes = [self._merge(other, case, now=now) for other in homes[1:]]
        else:
            case, changes = self._opened(finding, now=now), []
        self._join(case, finding, now=now)
        return changes

    def _opened(self, finding: Finding, *, now: float) -> Case:
        case = Case(id=incident_id(finding), detected=now, grown=now, changed=now)
        ended, flaps = self._flaps.get(_key(finding), (-math.inf, 0))
        if 0.0 <= now - ended <= life.flaps_within_s(flaps, window_s=self.window_s):
            case.flaps = flaps + 1
        self._open[case.id] = case
        return case

    def _near(self, finding: Finding) -> list[Case]:
        """Return the incidents that a finding can have to do with: no rule looks further."""
        clients, server = self.graph.clients(finding.pair), finding.pair.server
        callers = (caller for client in clients for caller in self.graph.callers(client))
        around = {EVERY, *clients, server, *self.graph.callees(server), *callers}
        ids = {id_ for service in around for id_ in self._at.get(service, ())}
        return [self._open[id_] for id_ in sorted(ids)]

    def _explains(self, cause: Finding, effect: Finding) -> bool:
        return explains(cause, effect, self.graph, together_s=self.together_s)

    def _join(self, case: Case, finding: Finding, *, now: float) -> None:
        for end in finding.pair[:2]:
            self._at.setdefault(end, set()).add(case.id)
        case.ids[finding.id] = finding.onset
        case.firing.add(finding.id)
        self._of_finding[finding.id] = case.id
        case.calm_since, case.latest_adopted, case.grown, case.dirty = None, False, now, True
        symptom = Symptom(
            finding=finding,
            rate=self.graph.traffic(finding.pair),
            share=self.graph.share(finding.pair),
        )
        self._keep(case, symptom)

    def _keep(self, case: Case, symptom: Symptom) -> None:
        """Keep a finding whole if there is room, or if it is a root and an effect can go."""
        new, members = symptom.finding, case.findings
        explained = {f.id for f in members if self._explains(new, f)}
        is_root = not any(self._explains(f, new) for f in members)
        if not is_root and explained and not case.unexplained - explained:
            is_root = True  # they explain each other: the cause is among them
        if len(case.symptoms) >= MOST_WHOLE:
            spare = [f.id for f in members if f.id not in case.unexplained]
            if not is_root or not spare:
                return
            del case.symptoms[spare[-1]]
        case.symptoms[new.id] = symptom
        case.unexplained -= explained
        if is_root:
            case.unexplained.add(new.id)

    def _merge(self, younger: Case, older: Case, *, now: float) -> Change:
        """Make one incident part of another; return how the one ends."""
        self._judge(younger, now=now)
        younger.state, younger.changed = "resolved", now
        ended = telling.describe(
            younger,
            resolved=now,
            ended_as="merged",
            suppressed="" if younger.fired else f"part of {older.id}",
            part_of=older.id,
        )
        self._close(younger)
        for symptom in younger.symptoms.values():
            for end in symptom.finding.pair[:2]:
                self._at.setdefault(end, set()).add(older.id)
        self._of_finding |= dict.fromkeys(younger.ids, older.id)
        older.ids |= younger.ids
        older.firing |= younger.firing
        older.adopted |= younger.adopted
        older.flaps = max(older.flaps, younger.flaps)
        older.severity = worst([older.severity, younger.severity])
        for symptom in younger.symptoms.values():
            self._keep(older, symptom)
        older.grown, older.dirty = now, True
        if older.firing:
            older.calm_since, older.latest_adopted = None, False
        return Change(ended, "resolved" if younger.fired else None)

    # A finding that ended

    def _end(self, finding: Finding) -> None:
        case = self._open.get(self._of_finding.get(finding.id, ""))
        if case is None or finding.id not in case.firing:
            return
        case.firing.discard(finding.id)
        case.dirty = True
        if finding.state == "adopted":
            case.adopted.add(finding.id)
        if finding.id in case.symptoms:
            old = case.symptoms[finding.id]
            case.symptoms[finding.id] = Symptom(finding=finding, rate=old.rate, share=old.share)
        if not case.firing:
            case.calm_since = finding.detected if finding.ended is None else finding.ended
            case.latest_adopted = finding.state == "adopted"

    # Time that passes

    def _advance(self, case: Case, *, now: float) -> list[Change]:
        _not_ahead(case, now)
        if case.firing and not case.lasting and now - case.started >= impact.LASTING_S:
            case.lasting = case.dirty = True
        touched = case.dirty
        if touched:
            case.changed = now
            self._judge(case, now=now)
        changes: list[Change] = []
        for turn in life.advance(case, now=now, window_s=self.window_s):
            if turn.event is not None:
                first = telling.in_order(case)[0]
                case.picture = self.history.picture(first.pair, first.signal) or case.picture
            incident = telling.describe(
                case, resolved=turn.resolved, ended_as=turn.ended_as, suppressed=turn.suppressed
            )
            changes.append(Change(incident, turn.event))
        if case.state == "resolved":
            self._forget(case, now=now)
        if touched and not changes:
            changes.append(Change(telling.describe(case), None))
        return changes

    def _judge(self, case: Case, *, now: float) -> None:
        findings = case.findings
        case.roots = blame.rank(findings, self.graph, together_s=self.together_s)
        lasted_s = now - case.started
        found = impact.overall(case.symptoms.values(), lasted_s=lasted_s)
        case.severity = worst([case.severity, found])
        case.trigger = self._trigger(case) or case.trigger
        case.dirty = False

    def _trigger(self, case: Case) -> Trigger | None:
        """Return what probably set an incident off: something that happened to a root, or near."""
        roots = [root.service for root in case.roots]
        ends = {end for f in case.findings if f.id in case.unexplained for end in f.pair[:2]}
        services = [*roots, *sorted(ends - {EVERY, *roots})]
        return self._triggers.probable(services, case.started, blur_s=self.window_s)

    def _forget(self, case: Case, *, now: float) -> None:
        self._close(case)
        for id_ in case.ids:
            self._of_finding.pop(id_, None)
        for finding in case.findings:
            if finding.id in case.unexplained:
                key = _key(finding)
                self._flaps.pop(key, None)
                self._flaps[key] = now, case.flaps
        while len(self._flaps) > MOST_FLAPS:
            del self._flaps[next(iter(self._flaps))]

    def _close(self, case: Case) -> None:
        del self._open[case.id]
        for service, ids in list(self._at.items()):
            ids.discard(case.id)
            if not ids:
                del self._at[service]

    # State

    def to_bytes(self) -> bytes:
        """Return all state; `from_bytes` goes on from it as if never stopped."""
        state = {
            "version": VERSION,
            "window_s": [self._window_s, self._last],
            "graph": self.graph.to_json(),
            "history": self.history.to_json(),
            "open": [case.to_json() for case in self._open.values()],
            "flaps": [[key, *value] for key, value in self._flaps.items()],
            "triggers": self._triggers.to_json(),
        }
        return json.dumps(state, separators=(",", ":"), default=float).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return what `to_bytes` was made of.

        Raises:
            ValueError: it is not, or it is of another version.
        """
        self = cls()
        try:
            state: dict[str, Any] = json.loads(data)
            if state["version"] != VERSION:
                raise ValueError(f"open incidents of version {state['version']}, not {VERSION}")
            self._window_s, self._last = state["window_s"]
            self.graph = ServiceGraph.from_json(state["graph"])
            self.history = History.from_json(state["history"])
            cases = [Case.from_json(case) for case in state["open"]]
            self._flaps = {key: (at, flaps) for key, at, flaps in state["flaps"]}
            self._triggers.from_json(state["triggers"])
        except (KeyError, TypeError, AttributeError, zlib.error) as error:
            raise ValueError(f"no open incidents: {error!r}") from error
        self._open = {case.id: case for case in cases}
        self._of_finding = {id_: case.id for case in cases for id_ in case.ids}
        for case in cases:
            for finding in case.findings:
                for end in finding.pair[:2]:
                    self._at.setdefault(end, set()).add(case.id)
        return self


def _order(finding: Finding) -> tuple[Any, ...]:
    # Begins first: what ends and comes back in one window has never been over
    return (finding.state != "firing", finding.onset, finding.id)


def _not_ahead(case: Case, now: float) -> None:
    """Let nothing of an incident lie in the future: a clock that was set back."""
    case.detected, case.grown = min(case.detected, now), min(case.grown, now)
    if case.calm_since is not None:
        case.calm_since = min(case.calm_since, now)


def _key(finding: Finding) -> str:
    return "\0".join([*map(str, finding.pair), finding.signal, finding.direction])
