"""The user's own names, before any other."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from probes.endpoints import Where
from probes.identity.service import Service

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Rule:
    """A name, and who gets it: whoever meets all the conditions that are given.

    Attributes:
        name: of the service.
        executable: pattern of the file's path or its name.
        command: pattern of the command line.
        cgroup: pattern of the path of any of its cgroups.
        labels: patterns of its container's labels.
        port: where it listens.
        address: the network it is in; such a rule is for peers that are not on this host.
    """

    name: str
    executable: str = ""
    command: str = ""
    cgroup: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    address: Network | None = None

    @property
    def of_process(self) -> bool:
        """Whether it can be about a process of this host."""
        return self.address is None


@dataclass(frozen=True, slots=True)
class Subject:
    """A process, as rules look at it."""

    executable: str
    command: str
    cgroups: Sequence[str]
    port: int
    labels: Mapping[str, str] = field(default_factory=dict)


def first(rules: Sequence[Rule], subject: Subject) -> Rule | None:
    """Return the first rule that a process meets, or None."""
    return next((rule for rule in rules if rule.of_process and _meets(subject, rule)), None)


class AddressRules:
    """Names peers elsewhere by the rules that are about addresses."""

    generation = 0

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Take the rules, in order."""
        self._rules = [rule for rule in rules if not rule.of_process]

    def service(self, where: Where) -> Service | None:
        """Return the name that the first fitting rule gives; None if none fits."""
        if not self._rules:
            return None
        parsed = ipaddress.IPv6Address(where.address)
        address = parsed.ipv4_mapped or parsed
        for rule in self._rules:
            if rule.address and address in rule.address and rule.port in (None, where.port):
                return Service(rule.name, "rule")
        return None


def _meets(subject: Subject, rule: Rule) -> bool:
    name = subject.executable.rpartition("/")[2]
    conditions = (
        not rule.executable
        or fnmatchcase(subject.executable, rule.executable)
        or fnmatchcase(name, rule.executable),
        not rule.command or fnmatchcase(subject.command, rule.command),
        not rule.cgroup or any(fnmatchcase(path, rule.cgroup) for path in subject.cgroups),
        all(
            key in subject.labels and fnmatchcase(subject.labels[key], pattern)
            for key, pattern in rule.labels.items()
        ),
        rule.port in (None, subject.port),
    )
    return all(conditions)
