"""Control groups of our own, named as a kubelet's are."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

_SCRIPT = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


class Container:
    """The cgroup of a container.

    Attributes:
        id: the container's, 64 hexadecimal digits.
        path: where the cgroup is.
    """

    def __init__(self, path: Path, container: str) -> None:
        self.path, self.id = path, container

    def running(self, *command: object) -> list[str]:
        """Return the command that runs another in here."""
        return ["/bin/sh", "-c", _SCRIPT, str(self.path), *map(str, command)]


@contextlib.contextmanager
def pod_container(pod_uid: str) -> Iterator[Container]:
    """Make the cgroups of a pod with one container; remove them at the end."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    root = next(Path(line.split()[1]) for line in lines if line.split()[2] == "cgroup2")
    container = uuid.uuid4().hex * 2
    pod = root / f"kubepods-burstable-pod{pod_uid.replace('-', '_')}.slice"
    path = pod / f"cri-containerd-{container}.scope"
    path.mkdir(parents=True)
    try:
        yield Container(path, container)
    finally:
        for directory in (path, pod):
            _remove(directory)


def _remove(directory: Path) -> None:
    """Remove a cgroup, which takes a moment to be empty after its last process."""
    for _ in range(100):
        try:
            directory.rmdir()
        except OSError:
            time.sleep(0.05)
        else:
            return
