"""From a process to its service, remembered after the process is gone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from probes.identity import processes, versions
from probes.identity.cgroups import Membership, membership
from probes.identity.containers import POD_UID, Containers, service_of
from probes.identity.processes import Process
from probes.identity.programs import script_of
from probes.identity.rules import Rule, Subject, first
from probes.identity.service import Facts, Service, program_name

_MOST: Final = 20_000
_DOCKER_PROXY: Final = "docker-proxy"
_NOBODY: Final = Subject("", "", (), 0)


class Instance(NamedTuple):
    """Where a process runs for its service.

    Attributes:
        service: which.
        place: what is counted as an instance of it: the pod, the container, or the cgroup.
        roams: whether another place may take over from this one, as a container's successor does.
    """

    service: Service
    place: str
    roams: bool


class _Found(NamedTuple):
    """A name, and of a process in a container what else it follows from."""

    service: Service
    container: str = ""
    pod: str = ""
    subject: Subject = _NOBODY
    cgroup: str = ""
    followed: bool = False  # by a cluster, which tells of its pods' comings and goings itself


class Services:
    """Names processes. It never waits: what is not known yet is named by the next best.

    Attributes:
        unresolved: containers that were named by their id, since nobody knew more.
    """

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        readable: bool = True,
        rules: Sequence[Rule] = (),
        containers: Containers | None = None,
    ) -> None:
        """Start empty.

        Args:
            proc: where procfs is.
            readable: whether its process ids are the kernel's; if not, only what the kernel side
                said names a process.
            rules: of the configuration.
            containers: who knows containers; None if nobody does.
        """
        self._proc = proc
        self._readable = readable
        self._rules = tuple(rules)
        self._ruled = {rule.name for rule in rules}
        self._by_port = any(rule.port is not None for rule in rules)
        self._containers = containers
        self._known: dict[tuple[object, ...], _Found] = {}
        self._cgroups: dict[int, Membership] = {}
        self._generation = 0
        self.unresolved: set[str] = set()

    @property
    def generation(self) -> int:
        """A number that grows when a process may have another name than before."""
        return 0 if self._containers is None else self._containers.generation

    def service(self, facts: Facts, port: int = 0) -> Service:
        """Return the service of a process.

        Args:
            facts: what the kernel said of it.
            port: where it listens, if it is a server.
        """
        return self._found(facts, port).service

    def instance(self, facts: Facts, port: int = 0) -> Instance:
        """Return where a process runs for its service; arguments as of `service`."""
        found = self._found(facts, port)
        place = found.pod or found.container or found.cgroup
        return Instance(found.service, place, bool(found.container) and not found.followed)

    def _found(self, facts: Facts, port: int) -> _Found:
        if self.generation != self._generation:
            self._generation = self.generation
            self._rename()
        # a process may execute another program, and be the same; a connection counts for the one
        # that opened it
        key = (
            facts.tgid,
            facts.started,
            facts.command,
            facts.executable,
            facts.arguments,
            port if self._by_port else 0,
        )
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MOST:
                for old in list(self._known)[: _MOST // 2]:
                    del self._known[old]
            known = self._known[key] = self._find(facts, port)
        return known

    def _rename(self) -> None:
        """Look at the containers again, and at them only: their processes may be gone by now."""
        self.unresolved.clear()
        for key, found in self._known.items():
            if found.container or found.pod:
                named = self._of_container(found.container, found.pod, found.subject)
                self._known[key] = named or found

    def is_ruled(self, name: str) -> bool:
        """Return whether a name is the user's own."""
        return name in self._ruled

    def by_tgid(self, tgid: int) -> Service | None:
        """Return the service of a living process of which only the id is known."""
        found = processes.facts_of(self._proc, tgid) if self._readable else None
        return None if found is None else self.service(found)

    def forwarded(self, facts: Facts) -> tuple[Service, int] | None:
        """Return the service, and its port, that a process only hands on to.

        None if it does more than that, or nobody knows to whom. Docker runs a docker-proxy for
        each published port, for what comes from this host itself.
        """
        if facts.executable != _DOCKER_PROXY or self._containers is None:
            return None
        process = processes.read(self._proc, facts) if self._readable else None
        arguments = process.arguments if process else facts.arguments
        given = dict(itertools.pairwise(arguments))
        container = self._containers.at(given.get("-container-ip", ""))
        port = given.get("-container-port", "")
        return (service_of(container), int(port)) if container and port.isdigit() else None

    def _find(self, facts: Facts, port: int) -> _Found:
        process = processes.read(self._proc, facts) if self._readable and facts.tgid else None
        member = self._membership(facts, process)
        subject = _subject(facts, process, port) if self._rules else _NOBODY
        if named := self._of_container(member.container, member.pod, subject):
            return named
        version = versions.of_process(self._proc, facts, process)
        cgroup = _unified(process) or facts.cgroup_name
        if rule := first(self._rules, subject):
            return _Found(Service(rule.name, "rule", version=version), cgroup=cgroup)
        service = _of_host(facts, process, member, version)
        return _Found(service, "", member.pod, subject, cgroup)

    def _of_container(self, name: str, pod: str, subject: Subject) -> _Found | None:
        """Return what a container is called; None for a pod's cgroup that nobody knows."""
        container = None
        if (name or pod) and self._containers is not None:
            container = self._containers.get(name, pod)
        if container is None:
            if not name:
                return None
            self.unresolved.add(name)
        labels = container.labels if container else {}
        if rule := first(self._rules, replace(subject, labels=labels)):
            service = Service(rule.name, "rule", version=container.image if container else "")
        elif container:
            service = service_of(container)
        else:
            service = Service(name[:12], "container id")
        pod = pod or labels.get(POD_UID, "")
        followed = container is not None and container.service is not None
        return _Found(service, name, pod, subject, followed=followed)

    def _membership(self, facts: Facts, process: Process | None) -> Membership:
        """What its cgroups say; of one that is gone, what they said of another in the same."""
        if process is None:
            known = self._cgroups.get(facts.cgroup)
            return known or membership(f"/{facts.cgroup_name}")
        said = [(controllers, membership(path)) for controllers, path in process.cgroups]
        # with v1, some hierarchies may know less than others
        best = max((one for _, one in said), key=_tells, default=Membership())
        # of the hierarchy that the kernel side tells of: in the others, its mates are elsewhere
        unified = next((one for controllers, one in said if not controllers), None)
        if facts.cgroup and unified:
            self._cgroups.pop(facts.cgroup, None)  # last used, last forgotten
            self._cgroups[facts.cgroup] = unified
            if len(self._cgroups) > _MOST:
                del self._cgroups[next(iter(self._cgroups))]
        return best


def _subject(facts: Facts, process: Process | None, port: int) -> Subject:
    return Subject(
        executable=(process.executable if process else "") or facts.executable,
        command=" ".join(process.arguments if process else facts.arguments),
        cgroups=tuple(path for _, path in process.cgroups) if process else (),
        port=port,
    )


def _unified(process: Process | None) -> str:
    cgroups = process.cgroups if process else ()
    return next((path for controllers, path in cgroups if not controllers), "")


def _of_host(facts: Facts, process: Process | None, member: Membership, version: str) -> Service:
    if member.unit:
        return Service(member.unit, "user unit" if member.user else "unit", member.machine, version)
    if member.machine:
        return Service(member.machine, "machine", version=version)
    script = script_of(facts.executable, process.arguments if process else facts.arguments)
    if script:
        return Service(script, "script", version=version)
    return Service(program_name(facts), "program", version=version)


def _tells(member: Membership) -> tuple[bool, bool, bool]:
    return bool(member.container), bool(member.machine), bool(member.unit)
