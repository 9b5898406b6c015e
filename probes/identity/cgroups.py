"""What a cgroup's path says of who is in it: container, pod, systemd unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ID: Final = r"(?P<id>[0-9a-f]{64})"
_RUNTIMES: Final = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "containerd": "containerd",
    "nerdctl": "containerd",
    "libpod": "podman",
    "crio": "cri-o",
}
"""How a runtime begins the name of a container's scope: the runtime."""

_SCOPE: Final = re.compile(rf"^(?:(?P<runtime>[a-z-]+?)-)?{_ID}\.scope$")
_DIRECTORY: Final = re.compile(rf"^(?:(?P<runtime>[a-z]+)-)?{_ID}$")
_CRI_V1: Final = re.compile(rf"^.+:(?P<runtime>cri-containerd|crio|docker):{_ID}$")
_CONTAINER: Final = (_SCOPE, _DIRECTORY, _CRI_V1)

_POD: Final = re.compile(
    r"pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice|:|$)"
)
_LXC: Final = re.compile(r"/lxc(?:\.payload\.|/)(?P<name>[^/]+)")
_NSPAWN: Final = re.compile(r"^(?:systemd-nspawn@(?P<a>.+)\.service|machine-(?P<b>.+)\.scope)$")
_USER_MANAGER: Final = re.compile(r"^user@\d+\.service$")
_ESCAPE: Final = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Membership:
    """What a path says; "" where it says nothing.

    Attributes:
        container: 64 hexadecimal digits.
        runtime: "docker", "containerd", "podman" or "cri-o", if the path tells.
        pod: the uid of a Kubernetes pod, with dashes.
        machine: name of an LXC container or of a machine of systemd-nspawn.
        unit: systemd's, without ".service"; of a user's manager, the user's unit.
        user: whether `unit` is a user's own.
    """

    container: str = ""
    runtime: str = ""
    pod: str = ""
    machine: str = ""
    unit: str = ""
    user: bool = False

    def __bool__(self) -> bool:
        return bool(self.container or self.pod or self.machine or self.unit)


def membership(path: str) -> Membership:
    """Return what a cgroup's path says.

    The deepest part that names something wins: a unit inside a container is the unit's, for it
    is the container's own systemd that says so, but the container is told as well.

    Args:
        path: as in /proc/PID/cgroup, of cgroup v2 or of any hierarchy of v1, e.g.
            "/system.slice/nginx.service".
    """
    lxc = _LXC.match(path)
    machine = lxc["name"] if lxc else ""
    container = runtime = pod = unit = ""
    user = False
    for part in path.split("/"):
        found = next((match for each in _CONTAINER if (match := each.match(part))), None)
        if match := _POD.search(part):
            pod = _dashed(match["uid"])
        if found:
            container = found["id"]
            runtime = _RUNTIMES.get(found["runtime"] or "", "") or _runtime_above(path)
            machine = unit = ""  # of the host, which runs it
            user = False
        elif match := _NSPAWN.match(part):
            machine, unit, user = _unescaped(match["a"] or match["b"]), "", False
        elif _USER_MANAGER.match(part):
            user = True
        elif part.endswith(".service"):
            unit = _unescaped(part.removesuffix(".service"))
    return Membership(container, runtime, pod, machine, unit, user and bool(unit))


def _runtime_above(path: str) -> str:
    """Return the runtime that the directories above say: /docker/ID, /machine.slice/libpod-ID."""
    return "docker" if "/docker/" in path else ""


def _dashed(uid: str) -> str:
    digits = uid.replace("_", "").replace("-", "")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _unescaped(name: str) -> str:
    """Undo systemd's escaping of characters (systemd.unit(5)); a slash stays escaped as "-"."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), name)
