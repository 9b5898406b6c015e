"""Watches the processes of services: when they end, replace their workers, or are out of memory.

Watched are those who serve, and clients that have lived for a minute. A process is waited for by
its descriptor, memory by one count of the whole host, and children are looked at every few seconds;
the kernel side has nothing to do for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from probes.identity import oom, processes
from probes.identity.ends import Ended, Ends
from probes.identity.processes import Process
from probes.identity.programs import script_of
from probes.identity.resolver import Services
from probes.identity.roster import Member, Roster
from probes.identity.service import Facts
from probes.identity.service_event import EventKind, ServiceEvent
from probes.identity.workers import Workers

_LOOK_S: Final = 5.0
"""The children of each server are looked at once in so long."""
_ALIVE_S: Final = 5.0
_LASTING_S: Final = 60.0
"""A client that has lived for so long is a service, and no errand."""
_KILLED_S: Final = 3.0
"""A process that is killed for want of memory may take so long to end."""
_MOST_MET: Final = 8_192
_MOST_CLIENTS: Final = 4_096
_MOST_WORKERS: Final = 2
_MOST_FOREBEARS: Final = 4
_FORWARDER: Final = "docker-proxy"


class _Sighting(NamedTuple):
    facts: Facts
    port: int
    serves: bool


class Who(NamedTuple):
    """A process, told from all others that are and were: its id, and its start as procfs has it."""

    tgid: int
    ticks: int


class _Worker(NamedTuple):
    of: Who
    tgid: int


@dataclass(slots=True)
class _Watched:
    """A process that is watched.

    Attributes:
        sighting: by which it was met.
        member: of its service.
        memory: where its memory is counted; None if nowhere of its own.
        kills: what was counted there.
        workers: its children; None of a client.
        look_due: when to look at them.
    """

    sighting: _Sighting
    member: Member
    memory: Path | None
    kills: int
    workers: Workers | None
    look_due: float


class ProcessWatch:
    """The processes of this host's services. `close` it."""

    def __init__(
        self, services: Services, roster: Roster, *, own_tgid: int, proc: Path = Path("/proc")
    ) -> None:
        """Watch nobody.

        Args:
            services: names processes.
            roster: is told who runs for which service.
            own_tgid: our own process, to which nothing happens.
            proc: where procfs is.
        """
        self._services, self._roster, self._own, self._proc = services, roster, own_tgid, proc
        self._met: dict[tuple[int, int, int], None] = {}  # who serves, and where
        self._met_clients: dict[tuple[int, int, int], None] = {}
        self._sightings: list[_Sighting] = []
        self._young: dict[tuple[int, int], tuple[_Sighting, float, bool]] = {}
        self._watched: dict[Who, _Watched] = {}
        self._by_tgid: dict[int, Who] = {}
        self._ends = Ends()
        self._memory = oom.MemoryCgroups(proc)
        self._killed_until = 0.0

    @property
    def problems(self) -> list[str]:
        """What keeps processes from being watched."""
        if not self._ends.refused:
            return []
        return [
            f"no more than {self._ends.most} processes are followed for restarts: raise the limit "
            "of open files (systemd: LimitNOFILE=)"
        ]

    def sight(self, facts: Facts, port: int, *, serves: bool) -> None:
        """Take note that a process has traffic.

        Args:
            facts: what the kernel said of it.
            port: where it listens, if it serves.
            serves: whether others connect to it.
        """
        key, met = (facts.tgid, facts.started, port), self._met if serves else self._met_clients
        if key in met:
            return
        met[key] = None
        if len(met) > _MOST_MET:
            del met[next(iter(met))]
        if facts.tgid in (0, self._own) or facts.executable in ("", _FORWARDER):
            return
        if serves or len(self._sightings) < _MOST_CLIENTS:
            self._sightings.append(_Sighting(facts, port, serves))

    def has_met(self, tgid: int, started: int, port: int) -> bool:
        """Return whether a server was sighted already, as of `Facts`, at this port."""
        return (tgid, started, port) in self._met

    def update(self, now: float) -> list[ServiceEvent]:
        """Look at all that is watched; return what happened that the roster does not tell.

        Args:
            now: epoch seconds.
        """
        ended = self._ends.ended(now)
        events = self._killed(ended, now)
        self._bury(ended)
        self._take_sightings(now)  # after it: who is met now knows of no earlier kill
        return events + self._replaced(now)

    def rename(self, now: float) -> None:
        """Ask again what they are called, and tell the roster of what is otherwise now."""
        for who, watched in self._watched.items():
            facts, port, _ = watched.sighting
            service, place, roams = self._services.instance(facts, port)
            named = replace(
                watched.member,
                service=service.name,
                version=service.version or watched.member.version,
                place=place,
                roams=roams,
                program=_repository(service.version) if roams else watched.member.program,
            )
            if named != watched.member:
                watched.member = named
                self._roster.join(who, named, now)

    def close(self) -> None:
        """Watch nobody any more."""
        self._ends.close()

    def __len__(self) -> int:
        return len(self._watched)

    def _take_sightings(self, now: float) -> None:
        sightings, self._sightings = self._sightings, []
        for each in sightings:
            if each.serves:
                self._watch(each, now)
            elif len(self._young) < _MOST_CLIENTS:
                self._young.setdefault((each.facts.tgid, each.facts.started), (each, now, False))
        for key, (each, since, alive) in list(self._young.items()):
            if now - since < _ALIVE_S:
                break  # those behind it are younger
            if now - since >= _LASTING_S:
                del self._young[key]
                self._watch(each, now)
            elif not alive and os.access(f"{self._proc}/{each.facts.tgid}", os.F_OK):
                self._young[key] = each, since, True
            elif not alive:
                del self._young[key]

    def _watch(self, sighting: _Sighting, now: float) -> None:
        """Watch a process; of several that serve together, the one that has forked the others."""
        if sighting.serves:
            if self._is_child(sighting):
                return
            sighting = sighting._replace(facts=self._chief(sighting))
        facts, port, serves = sighting
        ticks = processes.start_ticks(self._proc, facts.tgid)
        if ticks is None:
            return
        who = Who(facts.tgid, ticks)
        if who in self._watched:
            if serves:
                self._also_serves(who, port, now)
            return
        # first the descriptor: whoever procfs tells of then is who is waited for
        if not self._ends.watch(who, facts.tgid):
            return
        process = processes.read(self._proc, facts)
        if process is None or processes.start_ticks(self._proc, facts.tgid) != ticks:
            self._ends.forget(who)
            return
        memory = self._memory.place(process.cgroups)
        watched = _Watched(
            sighting=sighting,
            member=self._member(sighting, process, processes.started_at(ticks)),
            memory=memory,
            kills=(oom.kills(memory) or 0) if memory else 0,
            workers=self._workers(who) if serves else None,
            look_due=now + _LOOK_S,
        )
        self._watched[who], self._by_tgid[who.tgid] = watched, who
        self._roster.join(who, watched.member, now)

    def _is_child(self, sighting: _Sighting) -> bool:
        """Return whether a process was forked by a server that is watched, to serve there."""
        above = self._by_tgid.get(processes.parent(self._proc, sighting.facts.tgid) or 0)
        if above is None:
            return False
        member = self._watched[above].member
        name = self._services.service(sighting.facts, sighting.port).name
        return member.service == name and sighting.port in member.ports

    def _also_serves(self, who: Who, port: int, now: float) -> None:
        watched = self._watched[who]
        ports = watched.member.ports | {port}
        watched.member = replace(watched.member, serves=True, ports=ports)
        watched.workers = watched.workers or self._workers(who)
        self._roster.join(who, watched.member, now)

    def _chief(self, sighting: _Sighting) -> Facts:
        """Return the process that has forked this one, and others, to serve with it."""
        facts, port, _ = sighting
        file = processes.file_of(self._proc, facts.tgid)
        name = self._services.service(facts, port).name
        for _ in range(_MOST_FOREBEARS):
            above = processes.parent(self._proc, facts.tgid)
            if not above or file is None or processes.file_of(self._proc, above) != file:
                break
            found = processes.facts_of(self._proc, above)
            if found is None or self._services.service(found, port).name != name:
                break
            facts = found
        return facts

    def _member(self, sighting: _Sighting, process: Process, started: float) -> Member:
        facts, port, serves = sighting
        service, place, roams = self._services.instance(facts, port)
        program = script_of(facts.executable, process.arguments) or facts.executable
        return Member(
            service=service.name,
            place=place,
            version=service.version,
            started=started,
            serves=serves,
            roams=roams,
            ports=frozenset({port}) if serves else frozenset(),
            program=_repository(service.version) if roams else program,
        )

    def _workers(self, who: Who) -> Workers:
        workers = Workers(self._proc, who.tgid)
        self._wait_for(who, workers)
        return workers

    def _wait_for(self, who: Who, workers: Workers) -> None:
        """Have it told how a server's workers end, if they are few."""
        for pid in workers.pids[:_MOST_WORKERS]:
            self._ends.watch(_Worker(who, pid), pid)

    def _bury(self, ended: list[Ended]) -> None:
        for who, at, how in ended:
            if isinstance(who, _Worker):
                watched = self._watched.get(who.of)
                if watched is not None and watched.workers is not None:
                    watched.workers.ended(who.tgid, how)
            elif isinstance(who, Who):
                watched = self._watched.pop(who)
                del self._by_tgid[who.tgid]
                for pid in watched.workers.pids if watched.workers else ():
                    self._ends.forget(_Worker(who, pid))
                self._roster.leave(who, at, how)

    def _replaced(self, now: float) -> list[ServiceEvent]:
        """Return who has replaced its workers."""
        events = []
        for who, watched in self._watched.items():
            if watched.workers is None or now < watched.look_due:
                continue
            watched.look_due = now + _LOOK_S
            replaced = watched.workers.look(now)
            self._wait_for(who, watched.workers)
            if replaced is None:
                continue
            kind: EventKind = "reload" if replaced.on_purpose else "restart"
            some = "1 worker" if replaced.number == 1 else f"{replaced.number} workers"
            how = "replaced" if replaced.on_purpose else (replaced.how or "ended")
            detail = f"{some} {how}"
            if not replaced.on_purpose:
                detail += ", and as many took their place"
            service = watched.member.service
            events.append(ServiceEvent(kind=kind, service=service, at=replaced.at, detail=detail))
        return events

    def _killed(self, ended: list[Ended], now: float) -> list[ServiceEvent]:
        """Return of whom the kernel has killed a process for want of memory."""
        if self._memory.any_killed():
            self._killed_until = now + _KILLED_S
        if now > self._killed_until:
            return []
        killed = {one.who for one in ended if one.how == "killed by SIGKILL"}
        perhaps = killed | {one.who for one in ended if not one.how}
        events: dict[str, ServiceEvent] = {}
        sharing: dict[Path | None, list[Who]] = {}
        for who, watched in self._watched.items():
            sharing.setdefault(watched.memory, []).append(who)
        for place, whose in sharing.items():
            count = None if place is None else oom.kills(place)
            if count is None:  # it went with its process, or there is none: as far as we know
                victims = [who for who in whose if who in (killed if place is None else perhaps)]
            else:
                since = [who for who in whose if count > self._watched[who].kills]
                names = {self._watched[who].member.service for who in since}
                victims = since if len(names) == 1 else [who for who in since if who in perhaps]
            for who in victims:
                service = self._watched[who].member.service
                detail = oom.detail(place)
                events[service] = ServiceEvent(
                    kind="oom_kill", service=service, at=now, detail=detail
                )
            for who in whose if victims and count is not None else ():
                self._watched[who].kills = max(count or 0, self._watched[who].kills)
        return list(events.values())


def _repository(image: str) -> str:
    """Return an image's name without what tells its versions apart."""
    name = image.partition("@")[0]
    directory, slash, last = name.rpartition("/")
    return directory + slash + last.partition(":")[0]
