"""The objects of a Kubernetes cluster, each change with its number, and what goes wrong there.

They are kept as etcd does: a log of changes answers watches, and once the log is compacted whoever
is behind is told so.
"""

from __future__ import annotations

import random
import threading
import uuid
from dataclasses import dataclass, field

from tests.support.kubernetes_objects import Said

PATHS = {
    "/api/v1/pods": ("Pod", "v1"),
    "/api/v1/services": ("Service", "v1"),
    "/apis/discovery.k8s.io/v1/endpointslices": ("EndpointSlice", "discovery.k8s.io/v1"),
    "/apis/apps/v1/replicasets": ("ReplicaSet", "apps/v1"),
    "/apis/batch/v1/jobs": ("Job", "batch/v1"),
}


@dataclass
class Faults:
    """What goes wrong, from now on.

    Attributes:
        refused: by plural: the status that a request for them gets.
        hang_up: chance that a stream ends behind an event, at times in the middle of a line.
        garbage: chance that nonsense stands in front of an event, or in its place.
        gone_as_status: whether a watch that is behind gets 410 as its status, not in its stream.
        delay_s: before every answer.
        trickle: whether lists come byte by byte, some every 10 ms.
        silent: whether streams say nothing at all.
    """

    refused: dict[str, int] = field(default_factory=dict)
    hang_up: float = 0.0
    garbage: float = 0.0
    gone_as_status: bool = False
    delay_s: float = 0.0
    trickle: bool = False
    silent: bool = False


class Cluster:
    """The objects, their changes, and who may ask.

    Attributes:
        token: that a request must bring; "" for none.
        faults: what goes wrong.
        bookmark_s: how often a quiet stream says where it is.
        asked: requests so far: (kind, "list" or "watch", status).
        gone: how often somebody was told 410.
    """

    def __init__(self, *, token: str = "", seed: int = 0) -> None:
        self.token = token
        self.faults = Faults()
        self.bookmark_s = 1.0
        self.asked: list[tuple[str, str, int]] = []
        self.gone = 0
        self.random = random.Random(seed)
        self._version = 1000
        self._compacted = 0
        self._epoch = 0
        self._objects: dict[str, dict[tuple[str, str], Said]] = {
            kind: {} for kind, _ in PATHS.values()
        }
        self._log: list[tuple[int, str, str, Said]] = []
        self._pages: dict[str, tuple[int, list[Said]]] = {}
        self.changed = threading.Condition()

    def put(self, said: Said) -> Said:
        """Create or replace an object, as whole as it is given."""
        meta = said["metadata"]
        with self.changed:
            self._version += 1
            known = self._objects[said["kind"]]
            key = meta["namespace"], meta["name"]
            what = "MODIFIED" if key in known else "ADDED"
            said = {**said, "metadata": {**meta, "resourceVersion": str(self._version)}}
            known[key] = said
            self._log.append((self._version, said["kind"], what, said))
            self.changed.notify_all()
        return said

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Remove an object."""
        with self.changed:
            said = self._objects[kind].pop((namespace, name))
            self._version += 1
            meta = {**said["metadata"], "resourceVersion": str(self._version)}
            self._log.append((self._version, kind, "DELETED", {**said, "metadata": meta}))
            self.changed.notify_all()

    def compact(self) -> None:
        """Forget all changes so far; streams that are behind them are told so."""
        with self.changed:
            self._compacted = self._version
            self._log.clear()
            self._pages.clear()
            # what other kinds have done moves on without those who watch this one
            self._version += 1
            self.changed.notify_all()

    def hang_up(self) -> None:
        """End all streams."""
        with self.changed:
            self._epoch += 1
            self.changed.notify_all()

    def all(self, kind: str) -> list[Said]:
        """Return all objects of a kind."""
        with self.changed:
            return list(self._objects[kind].values())

    def page(self, kind: str, limit: int, token: str) -> tuple[list[Said], str, int] | None:
        """Return (objects, token of the rest, version); None if they are too old by now."""
        with self.changed:
            if token:
                if token not in self._pages:
                    return None
                version, rest = self._pages.pop(token)
            else:
                version, rest = self._version, sorted(
                    self._objects[kind].values(),
                    key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"]),
                )  # fmt: skip
            now, later = (rest[:limit], rest[limit:]) if limit else (rest, [])
            following = ""
            if later:
                following = uuid.uuid4().hex
                self._pages[following] = version, later
            return now, following, version

    def after(self, kind: str, version: int) -> list[tuple[int, str, Said]] | None:
        """Return the changes behind a version; None if some of them are forgotten."""
        if version < self._compacted:
            return None
        return [(at, what, said) for at, of, what, said in self._log if at > version and of == kind]

    @property
    def version(self) -> int:
        """The number of the last change."""
        return self._version

    @property
    def epoch(self) -> int:
        """How often all streams were ended."""
        return self._epoch
