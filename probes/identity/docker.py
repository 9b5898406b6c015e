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
        socket: where it listens.
    """

    def __init__(self, socket: Path) -> None:
        """Begin to follow an engine, or to wait for it; `close` it.

        Args:
            socket: where it listens.
        """
        self.generation = 0
        self.problem = "not asked yet"
        self.socket = socket
        self._lock = threading.Lock()
        self._known: dict[str, Container] = {}
        self._missed: set[str] = set()
        self._stop = threading.Event()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._follow, name="docker", daemon=True)
        self._thread.start()

    def get(self, container: str) -> Container | None:
        """Return a container by its id; None if the engine has not told of it (yet)."""
        with self._lock:
            known = self._known.get(container)
            if known is None:
                self._missed.add(container)
        return known

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(Exception):  # it may be in any state
                stream.close()
        self._thread.join(_TIMEOUT_S + 1)

    def _follow(self) -> None:
        failures = 0
        while not self._stop.is_set():
            if not self.socket.exists():  # it may be installed any day
                self.problem = "there is no such socket"
                self._stop.wait(_PAUSES_S[-1])
                continue
            try:
                import docker  # noqa: PLC0415 - an extra, and slow to import

                client = docker.APIClient(
                    f"unix://{self.socket}", version="auto", timeout=_TIMEOUT_S
                )
                with contextlib.closing(client):
                    self._listen(client)
                    failures = 0
            except ImportError:
                self.problem = "the package docker is not installed: pip install tailrace[docker]"
                return
            except Exception as error:  # whatever it sent, names are no reason to stop
                self.problem = f"{type(error).__name__}: {error}"[:200]
            self._stop.wait(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
            failures += 1

    def _listen(self, client: Any) -> None:
        # first the events, so that nothing happens between them and the list
        self._stream = client.events(decode=True, filters={"type": ["container"]})
        try:
            listed = client.containers(all=True)
            self._take(_listed(each) for each in listed)
            self.problem = ""
            for event in self._stream:
                if self._stop.is_set():
                    return
                if event.get("Action") in _TOLD:
                    self._take([self._looked_up(client, event)])
        finally:
            self._stream.close()
            self._stream = None

    def _looked_up(self, client: Any, event: Mapping[str, Any]) -> Container:
        """What the event says, and what the engine adds if the container is still there."""
        actor = event["Actor"]
        told = {str(key): str(value) for key, value in actor["Attributes"].items()}
        with contextlib.suppress(Exception):
            said = client.inspect_container(actor["ID"])
            config = said["Config"]
            return Container(
                said["Id"],
                said["Name"].removeprefix("/"),
                _image(config["Image"], said["Image"]),
                config.get("Labels") or {},
            )
        return Container(actor["ID"], told.get("name", ""), told.get("image", ""), told)

    def _take(self, containers: Iterable[Container]) -> None:
        with self._lock:
            for one in containers:
                before = self._known.pop(one.id, None)
                self._known[one.id] = one
                changed = before is not None and service_of(before) != service_of(one)
                if changed or one.id in self._missed:
                    self.generation += 1
                    self._missed.discard(one.id)
            while len(self._known) > _MOST:
                del self._known[next(iter(self._known))]


def _listed(said: Mapping[str, Any]) -> Container:
    # a container that others link to is listed under their names too, as /other/alias
    names = sorted(said["Names"] or ["/"], key=lambda name: name.count("/"))
    return Container(
        said["Id"],
        names[0].removeprefix("/"),
        _image(said["Image"], said["ImageID"]),
        said.get("Labels") or {},
    )


def _image(reference: str, digest: str) -> str:
    """The reference may be moved to another image; the digest's first digits tell them apart."""
    return f"{reference}@{digest[:19]}"
