"""Containers by Docker's engine, or by Podman, which speaks the same API.

A thread asks and listens; who wants a name gets at once what it has heard so far, so an engine
that hangs costs names and no time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from probes.identity.containers import Container, service_of

SOCKETS: Final = (Path("/run/docker.sock"), Path("/run/podman/podman.sock"))
"""Where engines of this host listen."""

_TIMEOUT_S: Final = 5
_PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
_MOST: Final = 20_000
_TOLD: Final = {"create", "start", "rename", "update"}


class DockerContainers:
    """What one engine says of its containers, kept after they are gone.

    Attributes:
        generation: grows when an answer may have changed.
        problem: why the engine is not being followed; "" while it is.
        met: whether it has ever answered.
        socket: where it listens.
    """

    def __init__(self, socket: Path) -> None:
        """Begin to follow an engine, or to wait for it; `close` it.

        Args:
            socket: where it listens.
        """
        self.generation = 0
        self.problem = "it has not answered yet"
        self.met = False
        self.socket = socket
        self._lock = threading.Lock()
        self._known: dict[str, Container] = {}
        self._owners: dict[str, str] = {}  # address: id
        self._missed: dict[str, None] = {}  # ids and addresses that were asked for in vain
        self._early: set[str] = set()
        self._listed = False  # by the last attempt
        self._stop, self._asked = threading.Event(), threading.Event()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._follow, name="docker", daemon=True)
        self._thread.start()

    def get(self, container: str, pod: str = "") -> Container | None:  # noqa: ARG002
        """Return a container by its id; None if the engine has not told of it (yet)."""
        with self._lock:
            known = self._known.get(container)
            if known is None or container in self._early:  # it may be another engine's
                self._miss(container)
        return known

    def at(self, address: str) -> Container | None:
        """Return the container that has an address now; None if none is known to have it."""
        with self._lock:
            owner = self._owners.get(address)
            if owner is None:
                self._miss(address)
            return None if owner is None else self._known.get(owner)

    def _miss(self, what: str) -> None:
        self._missed[what] = None
        if len(self._missed) > _MOST:
            del self._missed[next(iter(self._missed))]

    def first_problem(self, within_s: float) -> str:
        """Wait until it has been asked once; return why it is not being followed, "" if it is."""
        self._asked.wait(within_s)
        return self.problem

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(Exception):  # it may be in any state
                stream.close()
        self._thread.join(1.0)  # it may be waiting for the engine; nobody waits for it

    def _follow(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                if self.socket.exists():
                    self._ask()
                else:  # it may be installed any day, or is being restarted
                    self.problem = "there is no such socket"
            except ImportError:
                self.problem = "the package docker is not installed: pip install tailrace[docker]"
                self._asked.set()
                return
            except Exception as error:  # whatever it sent, names are no reason to stop
                self.problem = f"{type(error).__name__}: {error}"[:200]
                self._asked.set()
            failures = 0 if self._listed else failures
            self._listed = False
            self._stop.wait(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
            failures += 1

    def _ask(self) -> None:
        import docker  # noqa: PLC0415 - an extra, and slow to import

        client = docker.APIClient(f"unix://{self.socket}", version="auto", timeout=_TIMEOUT_S)
        with contextlib.closing(client):
            self._listen(client)

    def _listen(self, client: Any) -> None:
        # first the events, so that nothing happens between them and the list
        self._stream = client.events(decode=True, filters={"type": ["container", "network"]})
        try:
            listed = client.containers(all=True)
            self._take(_listed(each) for each in listed)
            self.problem, self.met, self._listed = "", True, True
            self._asked.set()
            for event in self._stream:
                if self._stop.is_set():
                    return
                self._hear(client, event)
            self.problem = "it has ended the connection"
        finally:
            self._stream.close()
            self._stream = None

    def _hear(self, client: Any, event: Mapping[str, Any]) -> None:
        actor = event["Actor"]
        told = {str(key): str(value) for key, value in actor["Attributes"].items()}
        if event.get("Type") == "network":
            found = self._inspected(client, told["container"]) if "container" in told else None
        elif event.get("Action") in _TOLD:
            one = Container(actor["ID"], told.get("name", ""), told.get("image", ""), told)
            if actor["ID"] not in self._known:
                self._take([one], early=True)
            # if it is gone already, the event has what matters
            found = self._inspected(client, actor["ID"]) or one
        else:
            return
        if found is not None:
            self._take([found])

    @staticmethod
    def _inspected(client: Any, container: str) -> Container | None:
        try:
            said = client.inspect_container(container)
            config = said["Config"]
            return Container(
                said["Id"],
                said["Name"].removeprefix("/"),
                _image(config["Image"], said["Image"]),
                config.get("Labels") or {},
                _addresses(said),
            )
        except Exception:  # gone, slow, or not what we know: the next best will do
            return None

    def _take(self, containers: Iterable[Container], *, early: bool = False) -> None:
        """Keep them; `early`: not all is known of them, and it will be in a moment."""
        with self._lock:
            for one in containers:
                before = self._known.pop(one.id, None)
                self._known[one.id] = one
                for address in before.addresses if before else ():
                    if self._owners.get(address) == one.id:
                        del self._owners[address]
                self._owners |= dict.fromkeys(one.addresses, one.id)
                changed = before is not None and service_of(before) != service_of(one)
                changed = changed and one.id not in self._early
                (self._early.add if early else self._early.discard)(one.id)
                missed = self._missed.keys() & {one.id, *one.addresses}
                if changed or missed:
                    self.generation += 1
                for each in missed:
                    del self._missed[each]
            while len(self._known) > _MOST:
                old = self._known.pop(next(iter(self._known)))
                for address in old.addresses:
                    if self._owners.get(address) == old.id:
                        del self._owners[address]


def _listed(said: Mapping[str, Any]) -> Container:
    # a container that others link to is listed under their names too, as /other/alias
    names = sorted(said["Names"] or ["/"], key=lambda name: name.count("/"))
    return Container(
        said["Id"],
        names[0].removeprefix("/"),
        _image(said["Image"], said["ImageID"]),
        said.get("Labels") or {},
        _addresses(said),
    )


def _addresses(said: Mapping[str, Any]) -> tuple[str, ...]:
    networks = (said.get("NetworkSettings") or {}).get("Networks") or {}
    keys = ("IPAddress", "GlobalIPv6Address")
    found = [network.get(key) for network in networks.values() for key in keys]
    return tuple(address for address in found if address)


def _image(reference: str, digest: str) -> str:
    """The reference may be moved to another image; the digest's first digits tell them apart."""
    return f"{reference}@{digest[:19]}"
