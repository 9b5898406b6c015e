"""Who runs for a service, and what it means when that changes. Pure: the clock is an argument.

A *member* is a process or a pod of a service; a *place* is where it runs, and what is counted as an
instance: a pod, a container, a cgroup. What came before the service was known is no event.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final

from probes.identity.service_event import EventKind, ServiceEvent

_JUDGED_S: Final = 2.0
"""A member is judged so long after it came: what is known of a container may be late."""
_HOLD_S: Final = 10.0
"""A number of instances counts when it has lasted so long: a replacement is no scaling."""
_GRACE_S: Final = 300.0
"""Who comes so long after another has ended may still take its place."""
_CLIENT_GRACE_S: Final = 30.0
_FORGOTTEN_S: Final = 3600.0
_MOST: Final = 5_000
_MOST_LEFT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A process or a pod that runs for a service.

    Attributes:
        service: the service's name.
        place: where it runs.
        version: what it runs; "" if unknown.
        started: when it began, epoch seconds.
        serves: whether others connect to it.
        roams: whether another place may take over from this one: a container's successor is
            another container.
        ports: where it listens.
        program: name of the file that runs, of a container's image without its tag; "" of a pod.
        revision: of the workload's template, that may change while the version does not.
    """

    service: str
    place: str
    version: str = ""
    started: float = 0.0
    serves: bool = True
    roams: bool = False
    ports: frozenset[int] = frozenset()
    program: str = ""
    revision: str = ""


@dataclass(slots=True)
class _Vacancy:
    """What a member left behind that has ended."""

    member: Member
    at: float
    how: str
    here_only: bool = False  # it was counted out already


@dataclass(slots=True)
class _History:
    """A service.

    Attributes:
        since: when it was first seen.
        versions: by program, the last that was put to work.
        revision: the same of the template.
        members: who runs.
        fresh: who came lately and is not judged yet, and when.
        left: what those who ended lately left behind.
        settled: the instances that are counted.
        returned: places that took over from others and so are no new instances.
        changed: when places last changed.
    """

    since: float
    versions: dict[str, str]
    revision: str
    members: dict[Hashable, Member] = field(default_factory=dict)
    fresh: dict[Hashable, float] = field(default_factory=dict)
    left: list[_Vacancy] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)
    returned: set[str] = field(default_factory=set)
    changed: float = 0.0

    @property
    def places(self) -> set[str]:
        return {member.place for member in self.members.values()}


class Roster:
    """Keeps who runs for which service; says what happened."""

    def __init__(self) -> None:
        """Start without services."""
        self._services: dict[str, _History] = {}
        self._where: dict[Hashable, str] = {}  # who: service
        self._busy: set[str] = set()

    def join(self, who: Hashable, member: Member, now: float) -> None:
        """Take note of a member; of one that is known, of what is better known by now.

        Args:
            who: tells it from all others.
            member: what is known of it.
            now: epoch seconds.
        """
        if self._where.get(who, member.service) != member.service:
            self.rename(who)
        history = self._services.get(member.service)
        if history is None:
            self._make_room(now)
            versions = {member.program: member.version}
            history = _History(now, versions, member.revision, changed=now)
            self._services[member.service] = history
        known = who in history.members
        self._where[who] = member.service
        arrived = member.place not in history.places
        if known and who not in history.fresh:
            before = history.members[who].version
            latest = history.versions.get(member.program, "")
            if _same(before, latest):  # of a container that is known whole now
                history.versions[member.program] = member.version or latest
        history.members[who] = member
        if not known and member.started >= history.since:
            history.fresh[who] = now
        elif not known:
            history.settled.add(member.place)
            latest = history.versions.get(member.program, "")
            history.versions[member.program] = latest or member.version
        if arrived:
            history.changed = now
        self._busy.add(member.service)

    def leave(self, who: Hashable, at: float, how: str = "") -> None:
        """Take note that a member has ended.

        Args:
            who: as of `join`.
            at: when, epoch seconds.
            how: "killed by SIGKILL", "exit code 1"; "" if that is not known.
        """
        history = self._history(who)
        if history is None:
            return
        member = history.members.pop(who)
        history.fresh.pop(who, None)
        del self._where[who]
        history.left.append(_Vacancy(member, at, how))
        del history.left[:-_MOST_LEFT]
        history.changed = max(history.changed, at)
        self._busy.add(member.service)

    def rename(self, who: Hashable) -> None:
        """Forget a member that belongs to another service than was thought: nothing happened."""
        history = self._history(who)
        if history is None:
            return
        place = history.members.pop(who).place
        history.fresh.pop(who, None)
        del self._where[who]
        if place not in history.places:
            history.settled.discard(place)

    def reconsider(self, now: float) -> list[ServiceEvent]:
        """Return what has happened, of what has not been told yet."""
        events: list[ServiceEvent] = []
        for service in sorted(self._busy):
            history = self._services.get(service)
            if history is None:
                self._busy.discard(service)
                continue
            ripe = [who for who, since in history.fresh.items() if now - since >= _JUDGED_S]
            for who in sorted(ripe, key=lambda one: history.members[one].started):
                del history.fresh[who]
                events += _told(_newcomer(history, history.members[who]))
            events += _told(_settle(history, service, now))
            history.left = [v for v in history.left if now - v.at < _grace_s(v.member)]
            if not (history.fresh or history.left or history.settled != history.places):
                history.returned.clear()
                self._busy.discard(service)
        return events

    def __len__(self) -> int:
        return len(self._services)

    def _history(self, who: Hashable) -> _History | None:
        service = self._where.get(who)
        return None if service is None else self._services[service]

    def _make_room(self, now: float) -> None:
        if len(self._services) < _MOST:
            return
        gone = [name for name, history in self._services.items() if not history.members]
        for name in [n for n in gone if now - self._services[n].changed > _FORGOTTEN_S] or gone:
            del self._services[name]
            self._busy.discard(name)
        if len(self._services) >= _MOST:  # all run: the longest known gives way
            name = next(iter(self._services))
            for who in self._services.pop(name).members:
                del self._where[who]
            self._busy.discard(name)


def _newcomer(history: _History, member: Member) -> ServiceEvent | None:
    """Return what it means that a member has come."""
    vacancy = _filled(history, member)
    if vacancy is not None:
        history.left.remove(vacancy)
        history.returned.add(member.place)
    at = member.started if vacancy is None else min(vacancy.at, member.started)
    if vacancy is not None and _is_equal(vacancy.member, member):
        pause_s = round(member.started - vacancy.at)
        after = f" after {pause_s} s" if pause_s > 0 else ""
        detail = f"{vacancy.how or 'it ended'}, and another took its place{after}"
        return _event("restart", member, at, detail)
    latest = history.versions.get(member.program, "")
    if _same(member.version, latest):  # it may be the second of a roll-out
        history.versions[member.program] = latest or member.version
        before, history.revision = history.revision, member.revision or history.revision
        if before and history.revision != before:
            return _event("restart", member, at, "rolled out anew, in the same version")
        return None
    others = [
        one
        for one in history.members.values()
        if one is not member and one.program == member.program
    ]
    if any(_same(member.version, one.version) for one in others):
        return None
    if not (vacancy or member.roams or any(one.ports & member.ports for one in others)):
        return None  # another program of that name
    old = vacancy.member.version if vacancy else latest
    history.versions[member.program], history.revision = member.version, member.revision
    return _event("deploy", member, at, f"{member.version} in place of {old}")


def _filled(history: _History, member: Member) -> _Vacancy | None:
    """Return whose place a member takes: of the same version and in the same place if possible."""
    fitting = [
        vacancy
        for vacancy in history.left
        if member.started - vacancy.at < _grace_s(vacancy.member) and _fits(vacancy, member)
    ]
    return max(
        fitting,
        key=lambda each: (
            _is_equal(each.member, member),
            each.member.place == member.place,
            each.at,
        ),
        default=None,
    )


def _fits(vacancy: _Vacancy, member: Member) -> bool:
    """Whether a member does what another did that has ended."""
    before = vacancy.member
    if before.program != member.program:
        return False
    if before.place == member.place:
        return True
    alike = (before.roams and member.roams) or bool(before.ports & member.ports)
    return alike and not vacancy.here_only


def _settle(history: _History, service: str, now: float) -> ServiceEvent | None:
    """Return whether there are more instances, or fewer, once that has lasted."""
    places = history.places
    if history.fresh or places == history.settled or now - history.changed < _HOLD_S:
        return None
    if not _is_even(history.members.values()):
        return None
    came, went = places - history.settled, history.settled - places
    before, history.settled = len(history.settled), places
    gone = [vacancy for vacancy in history.left if vacancy.member.place in went]
    for vacancy in gone:
        vacancy.here_only = bool(places)
    fresh = [m for m in history.members.values() if m.place in came - history.returned]
    # a second session of some client is not what is meant
    if len(places) > before > 0 and any(one.serves or one.roams for one in fresh):
        at = min(one.started for one in fresh)
        return ServiceEvent(
            kind="scale_out", service=service, at=at, detail=_number(len(places), before)
        )
    if len(places) < before and any(vacancy.member.serves for vacancy in gone):
        last = min(gone, key=lambda vacancy: vacancy.at)
        detail = _number(len(places), before) + (f": {last.how}" if last.how else "")
        return ServiceEvent(kind="scale_in", service=service, at=last.at, detail=detail)
    return None


def _is_even(members: Iterable[Member]) -> bool:
    """Whether all run the same, program by program: a roll-out is not under way."""
    first: dict[str, Member] = {}
    return all(_is_equal(first.setdefault(one.program, one), one) for one in members)


def _is_equal(one: Member, other: Member) -> bool:
    return _same(one.version, other.version) and one.revision == other.revision


def _same(one: str, other: str) -> bool:
    """Whether two versions are one: of an image the digest may not be known yet."""
    if one == other or not (one and other):
        return True
    images, others = one.split(", "), other.split(", ")
    return len(images) == len(others) and all(
        a == b or (("@" in a) != ("@" in b) and a.partition("@")[0] == b.partition("@")[0])
        for a, b in zip(images, others, strict=True)
    )


def _grace_s(member: Member) -> float:
    return _GRACE_S if member.serves else _CLIENT_GRACE_S


def _number(now: int, before: int) -> str:
    some = "no instance" if not now else "1 instance" if now == 1 else f"{now} instances"
    return f"{some} in place of {before}"


def _event(kind: EventKind, member: Member, at: float, detail: str) -> ServiceEvent:
    return ServiceEvent(kind=kind, service=member.service, at=at, detail=detail)


def _told(event: ServiceEvent | None) -> list[ServiceEvent]:
    return [] if event is None else [event]
