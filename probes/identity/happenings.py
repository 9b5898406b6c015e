"""What happens to services: deploys, restarts, reloads, scaling, kills for want of memory."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable
from typing import Final

from probes.identity.kubernetes import KubernetesNames
from probes.identity.kubernetes_index import Running
from probes.identity.kubernetes_objects import Key
from probes.identity.process_watch import ProcessWatch
from probes.identity.resolver import Services
from probes.identity.roster import Member, Roster
from probes.identity.service import Facts
from probes.identity.service_event import ServiceEvent

_PAUSE_S: Final = 0.9
_RENAMED_S: Final = 60.0
"""All pods are asked again for their names once in so long, if any name has changed."""
_MOST: Final = 1_000


class Happenings:
    """Follows the services of this host, and of its cluster. `close` it."""

    def __init__(
        self,
        services: Services,
        *,
        own_tgid: int,
        readable: bool = True,
        cluster: KubernetesNames | None = None,
        is_known: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Start without services; the first sight of one is no event.

        Args:
            services: names processes.
            own_tgid: our own process, to which nothing happens.
            readable: whether procfs shows the kernel's process ids; if not, only what the cluster
                tells is known.
            cluster: tells of pods; None if there is none.
            is_known: whether a service has traffic that is seen: of others, nothing is told.
        """
        self._services, self._cluster, self._is_known = services, cluster, is_known
        self._roster = Roster()
        self._processes = ProcessWatch(services, self._roster, own_tgid=own_tgid)
        self._readable = readable
        self._pods: dict[Key, str] = {}
        self._events: deque[ServiceEvent] = deque(maxlen=_MOST)
        self._updated = 0.0
        self._generation = services.generation
        self._asked_again = 0.0

    def sight(self, facts: Facts, port: int = 0, *, serves: bool) -> None:
        """Take note that a process has traffic; see `ProcessWatch.sight`."""
        if self._readable:
            self._processes.sight(facts, port, serves=serves)

    def has_met(self, tgid: int, started: int, port: int) -> bool:
        """Return whether a server was sighted already; see `ProcessWatch.has_met`."""
        return not self._readable or self._processes.has_met(tgid, started, port)

    def events(self) -> list[ServiceEvent]:
        """Return what has happened since the last call, in the order in which it was noticed."""
        found = [event for event in self._events if self._is_known(event.service)]
        self._events.clear()
        return found

    def update(self, now: float) -> None:
        """Look what has happened, if it is time for that again.

        Args:
            now: epoch seconds.
        """
        if 0 <= now - self._updated < _PAUSE_S:
            return
        self._updated = now
        generation = self._services.generation
        if generation != self._generation:
            self._generation = generation
            self._processes.rename(now)
            if self._cluster is not None and not 0 <= now - self._asked_again < _RENAMED_S:
                self._asked_again = now
                self._cluster.touch(self._pods)
        self._take_pods(now)
        self._events += self._processes.update(now)
        self._events += self._roster.reconsider(now)

    @property
    def problems(self) -> list[str]:
        """What keeps services from being followed, in words."""
        return self._processes.problems

    @property
    def watched(self) -> int:
        """How many processes are watched."""
        return len(self._processes)

    def close(self) -> None:
        """Follow none any more."""
        self._processes.close()

    def _take_pods(self, now: float) -> None:
        for key, running in [] if self._cluster is None else self._cluster.moved():
            before = self._pods.get(key)
            if before is not None and (running is None or running.uid != before):
                self._roster.leave(before, now)
                del self._pods[key]
            if running is not None:
                self._pods[key] = running.uid
                self._roster.join(running.uid, _member(running), now)


def _member(running: Running) -> Member:
    try:
        created = dt.datetime.fromisoformat(running.created).timestamp()
    except ValueError:  # it was there before
        created = 0.0
    return Member(
        service=running.service.name,
        place=running.uid,
        version=running.service.version,
        started=created,
        roams=True,
        revision=running.revision,
    )
