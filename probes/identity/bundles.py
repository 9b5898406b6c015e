"""Containers by the files that their runtimes leave: containerd and CRI-O, without asking them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from probes.identity.containers import Container

_PLACES: Final = (
    "containerd/io.containerd.runtime.v2.task/*/{id}/config.json",
    "containers/storage/overlay-containers/{id}/userdata/config.json",
)
"""Under /run: an OCI bundle's configuration (opencontainers/runtime-spec, config.md)."""

_POD: Final = {
    "io.kubernetes.pod.name": "io.kubernetes.cri.sandbox-name",
    "io.kubernetes.pod.namespace": "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.container.name": "io.kubernetes.cri.container-name",
}
"""Label of the kubelet's: what containerd calls it."""

_NAMES: Final = ("nerdctl/name", "io.kubernetes.container.name", "io.kubernetes.cri.container-name")
_IMAGES: Final = ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName")
_MOST_BYTES: Final = 1 << 20


class BundleContainers:
    """Reads them when it is asked, and keeps what it read."""

    def __init__(self, run: Path = Path("/run")) -> None:
        """Start empty.

        Args:
            run: where runtimes keep the state of what is running.
        """
        self._run = run
        self._known: dict[str, Container] = {}
        self.generation = 0

    def get(self, container: str, pod: str = "") -> Container | None:  # noqa: ARG002
        """Return a container by its id; None if no runtime has files of it."""
        known = self._known.get(container)
        if known is None and (known := self._read(container)):
            self._known[container] = known
        return known

    def at(self, address: str) -> Container | None:  # noqa: ARG002 - of Containers
        """Return None: no address stands in their files."""
        return None

    def _read(self, container: str) -> Container | None:
        for path in self._paths(container):
            try:
                with path.open("rb") as file:
                    said = json.loads(file.read(_MOST_BYTES))
            except (OSError, ValueError):
                continue
            annotations = _texts(said)
            name = next((annotations[key] for key in _NAMES if key in annotations), "")
            if name:
                image = next((annotations[key] for key in _IMAGES if key in annotations), "")
                return Container(container, name, image, annotations)
        return None

    def _paths(self, container: str) -> Iterable[Path]:
        for place in _PLACES:
            yield from self._run.glob(place.format(id=container))


def _texts(said: Any) -> Mapping[str, str]:
    annotations = said.get("annotations") if isinstance(said, dict) else None
    if not isinstance(annotations, dict):
        return {}
    texts = {str(key): value for key, value in annotations.items() if isinstance(value, str)}
    for label, name in _POD.items():
        if name in texts:
            texts.setdefault(label, texts[name])
    return texts
