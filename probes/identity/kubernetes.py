"""Names by the Kubernetes API: of containers here, and of whoever is at an address anywhere.

Threads ask and listen, one for each kind of objects; who wants a name gets at once what they have
heard so far. An API server that hangs, refuses or goes away costs names and no time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from probes.endpoints import Where
from probes.identity.containers import Container
from probes.identity.kubernetes_api import IN_CLUSTER, Api, found_config
from probes.identity.kubernetes_index import Index, Running
from probes.identity.kubernetes_objects import Key
from probes.identity.kubernetes_watch import KINDS, Follower, Object, Pace
from probes.identity.service import Service

_MOST: Final = 20_000
_LOOK_AGAIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """Where the cluster is.

    Attributes:
        config: "auto" (this pod's service account, $KUBECONFIG, or what a distribution leaves on
            its nodes), "off", or the path of a kubeconfig.
        context: of the kubeconfig; None for its current one.
    """

    config: str = "auto"
    context: str | None = None


class KubernetesNames:
    """What one cluster says of its pods and Services; a source of containers, and a namer."""

    def __init__(
        self,
        settings: KubernetesSettings | None = None,
        *,
        pace: Pace | None = None,
        find: Callable[[str], str] = found_config,
    ) -> None:
        """Begin to follow the cluster, or to wait for one; `close` it.

        Args:
            settings: where it is; None to look for it.
            pace: how fast to try again what has failed; None for the usual.
            find: says where the configuration is, as `found_config`.
        """
        settings = settings or KubernetesSettings()
        self._settings, self._pace, self._find = settings, pace, find
        self._index = Index()
        self._lock = threading.Lock()
        self._generation = 0
        self._changed = False
        self._containers: dict[tuple[str, str], Container | None] = {}
        self._addresses: dict[tuple[bytes, int], Service | None] = {}
        self._forgot = False
        self._moved: dict[Key, None] = {}
        self._stop, self._begun = threading.Event(), threading.Event()
        self._followers: tuple[Follower, ...] = ()
        self.where = ""
        self._thread: threading.Thread | None = None
        if settings.config != "off":
            self._thread = threading.Thread(target=self._begin, name="kubernetes", daemon=True)
            self._thread.start()

    @property
    def generation(self) -> int:
        """A number that grows when an answer that was given has become another."""
        if self._changed:
            with self._lock:
                self._look_again()
        return self._generation

    def get(self, container: str, pod: str = "") -> Container | None:
        """Return a container of a pod, as `probes.identity.containers.Containers`."""
        key = container, pod
        with self._lock:
            found = self._index.container(container, pod)
            if key in self._containers:
                before = self._containers.pop(key)
                found = found or before  # one that is gone keeps the name it had
                if found != before:  # whoever asked before was told something else
                    self._generation += 1
            self._containers[key] = found
            if len(self._containers) > _MOST:
                del self._containers[next(iter(self._containers))]
        return found

    def at(self, address: str) -> Container | None:  # noqa: ARG002 - of Containers
        """Return None: no address of a pod is behind docker-proxy."""
        return None

    def service(self, where: Where) -> Service | None:
        """Return who is at an address, as `probes.identity.peers.Namer`."""
        key = where.address, where.port
        with self._lock:
            found = self._index.service(where)
            if self._addresses.get(key, found) != found:
                self._generation += 1
            self._addresses[key] = found
            if len(self._addresses) > _MOST:
                self._addresses.clear()
                self._forgot = True
        return found

    def moved(self) -> list[tuple[Key, Running | None]]:
        """Return the pods that have changed since the last call; None for those that run no more.

        Of too many, the first are left out.
        """
        with self._lock:
            moved, self._moved = self._moved, {}
            return [(key, self._index.running(key)) for key in moved]

    def touch(self, keys: Iterable[Key]) -> None:
        """Have `moved` tell of these pods again: they may be called otherwise."""
        with self._lock:
            self._moved |= dict.fromkeys(keys)

    @property
    def problems(self) -> list[str]:
        """What keeps pods and Services from being named, each once."""
        return list(self._problems())

    @property
    def counts(self) -> dict[str, int]:
        """How many objects are known, by kind."""
        with self._lock:
            return {kind.name: self._index.count(kind.name) for kind in KINDS}

    def first_problems(self, within_s: float) -> list[str]:
        """Wait until all kinds have been listed once, or could not be; return `problems`."""
        if self._begun.wait(within_s):
            for follower in self._followers:
                follower.tried.wait(within_s)
        return self.problems

    @property
    def listed(self) -> bool:
        """Whether all that can be known is known."""
        return bool(self._followers) and all(each.listed.is_set() for each in self._followers)

    @property
    def followers(self) -> tuple[Follower, ...]:
        """Those who follow, one for each kind; none while there is no configuration."""
        return self._followers

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)
        for follower in self._followers:
            follower.stop()
        for follower in self._followers:
            follower.join(1.0)

    def _problems(self) -> list[str]:
        by_text: dict[str, list[str]] = {}
        texts = []
        for follower in self._followers:
            if follower.problem:
                by_text.setdefault(follower.problem, []).append(follower.kind.plural)
            if follower.skipped:
                texts.append(
                    f"kubernetes: {follower.skipped} of {follower.kind.plural} not understood, "
                    f"the last: {follower.skipped_last}"
                )
        return [f"kubernetes ({', '.join(who)}): {text}" for text, who in by_text.items()] + texts

    def _begin(self) -> None:
        while not self._stop.is_set():
            where = self._find(self._settings.config)
            if where:
                break
            self._begun.set()
            self._stop.wait(_LOOK_AGAIN_S)  # a cluster may be installed any day
        else:
            return
        self.where = where
        context = None if where == IN_CLUSTER else self._settings.context
        api = Api(where, context)
        followers = tuple(
            Follower(kind, api, put=self._put, drop=self._drop, keys=self._keys, pace=self._pace)
            for kind in KINDS
        )
        for follower in followers:
            follower.start()
        self._followers = followers
        self._begun.set()

    def _put(self, kind: str, one: Object) -> None:
        with self._lock:
            if self._index.put(kind, one):
                self._changed = True
                self._note_moved(kind, one.key)

    def _drop(self, kind: str, key: Key) -> None:
        with self._lock:
            if self._index.drop(kind, key):
                self._changed = True
                self._note_moved(kind, key)

    def _note_moved(self, kind: str, key: Key) -> None:
        if kind == "Pod":
            self._moved[key] = None
            if len(self._moved) > _MOST:
                del self._moved[next(iter(self._moved))]

    def _keys(self, kind: str) -> set[Key]:
        with self._lock:
            return self._index.keys(kind)

    def _look_again(self) -> None:
        """Compare the answers that were given with what they would be now."""
        self._changed = False
        changed, self._forgot = self._forgot, False
        for (container, pod), before in self._containers.items():
            now = self._index.container(container, pod)
            if now is not None and now != before:
                self._containers[container, pod] = now
                changed = True
        for (address, port), known in self._addresses.items():
            found = self._index.service(Where(0, address, port))
            if found != known:
                self._addresses[address, port] = found
                changed = True
        if changed:
            self._generation += 1
