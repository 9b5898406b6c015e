"""Before anything is believed: do the probes see a connection of our own as the kernel reports it?

A field at a wrong offset does not fail, it lies (round trips of minutes have been "measured").
So at start a loopback connection is made, refused, used and closed, and what the probes say of
it is held against TCP_INFO (include/uapi/linux/tcp.h).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.endpoints import mapped
from probes.errors import ProbeError
from probes.histogram import bucket_of
from probes.programs import Programs, Snapshot

_ROUNDS = 3
_QUESTION, _ANSWER = 100, 50
_REST_S = 0.05  # until the last delayed acknowledgement (40 ms, TCP_DELACK_MIN) has come


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """What was found.

    Attributes:
        tgid: our process id as the kernel's root namespace has it.
        own_pid_namespace: whether /proc's process ids are not the kernel's (we are in a container).
        rtt: whether round-trip times agree with TCP_INFO.
        segments: whether segment counters agree with TCP_INFO.
        notes: in words, what will not be used and why.
    """

    tgid: int
    own_pid_namespace: bool
    rtt: bool
    segments: bool
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Truth:
    """What the kernel says of our connection, once at rest."""

    port: int
    rtt_us: int
    retransmitted: int
    segments: int


def _talk(programs: Programs) -> tuple[_Truth, Snapshot]:
    """Make the connections; return what is true, and what was seen while the first was open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server, _ = listener.accept()
            with server:
                for _ in range(_ROUNDS):
                    client.sendall(b"x" * _QUESTION)
                    server.recv(_QUESTION, socket.MSG_WAITALL)
                    server.sendall(b"y" * _ANSWER)
                    client.recv(_ANSWER, socket.MSG_WAITALL)
                time.sleep(_REST_S)
                seen = programs.sweep()
                info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
                (rtt,) = struct.unpack_from("I", info, 68)
                (retransmitted,) = struct.unpack_from("I", info, 100)
                (segments,) = struct.unpack_from("I", info, 156)
    with contextlib.suppress(ConnectionRefusedError):  # which is what it is for
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return _Truth(port, rtt, retransmitted, segments), seen


def check(programs: Programs) -> SelfCheck:
    """Run the check against attached programs.

    Raises:
        ProbeError: what every signal rests on (addresses, ports, bytes, roles, errors) is wrong.
    """
    truth, before = _talk(programs)
    seen = programs.sweep()
    ours = _find(seen, layout.CLIENT, truth.port)
    theirs = _find(seen, layout.SERVER, truth.port)
    wrong = _wrong(seen, ours, theirs)
    if wrong:
        raise ProbeError(
            f"the probes do not see a connection of our own as the kernel reports it ({wrong}). "
            "What they would say of others cannot be trusted, so Tailrace stops. Please report "
            f"this with your kernel's version, {os.uname().release}."
        )
    assert ours is not None
    slot = int(seen.slots[ours])
    return _verdict(seen.groups[ours], _rtts(before, slot), truth)


def _find(seen: Snapshot, role: int, port: int) -> int | None:
    key = seen.groups["key"]
    mine = (key["role"] == role) & (key["port"] == port) & (key["transport"] == layout.TCP)
    # others may use that port too; in a container our process id is not the kernel's, but the
    # namespace and the name are
    mine &= key["netns"] == Path("/proc/self/ns/net").stat().st_ino
    mine &= seen.groups["owner"]["command"] == Path("/proc/self/comm").read_bytes().rstrip(b"\n")
    if role == layout.CLIENT:
        mine &= key["remote"] == np.void(mapped("127.0.0.1"))
    found = np.flatnonzero(mine)
    return int(found[0]) if len(found) == 1 else None


def _rtts(seen: Snapshot, slot: int) -> NDArray[Any]:
    keys = seen.latency_keys
    mine = (keys["group"] == slot) & (keys["kind"] == layout.LATENCIES.index("rtt"))
    found: NDArray[Any] = keys["bucket"][mine]
    return found


def _wrong(seen: Snapshot, ours: int | None, theirs: int | None) -> str:
    """Return what the two ends' groups have wrong, "" if nothing."""
    if ours is None or theirs is None:
        return "it was not seen"
    client, server = seen.groups[ours], seen.groups[theirs]
    sent, received = _ROUNDS * _QUESTION, _ROUNDS * _ANSWER
    here = Path("/proc/self/ns/net").stat().st_ino
    seen_and_true = {
        "network namespace": (int(client["key"]["netns"]), here),
        "its other end": (int(server["key"]["peer"]), int(client["id"])),
        "command": (bytes(client["owner"]["command"]), bytes(server["owner"]["command"])),
    }
    for what, true in (
        ("established", 1), ("ended", 1), ("refused", 1), ("bytes_out", sent),
        ("bytes_in", received), ("requests", _ROUNDS),
    ):  # fmt: skip
        seen_and_true[what] = (_count(client, what), true)
    for what, true in (("bytes_out", received), ("bytes_in", sent), ("requests", _ROUNDS)):
        seen_and_true[f"{what} of the server"] = (_count(server, what), true)
    return ", ".join(
        f"{what}: {seen!r}, not {true!r}"
        for what, (seen, true) in seen_and_true.items()
        if seen != true
    )


def _count(group: Any, name: str) -> int:
    return int(group["counts"][layout.COUNTERS.index(name)])


def _verdict(client: Any, rtts: NDArray[Any], truth: _Truth) -> SelfCheck:
    notes = []
    wanted = int(bucket_of(truth.rtt_us * 1000))
    rtt = len(rtts) == 1 and abs(int(rtts[0]) - wanted) <= 1
    if not rtt:
        notes.append(
            f"round-trip times are not used: the kernel says {truth.rtt_us} us of a connection of "
            f"our own, the probes something else (buckets {rtts.tolist()}, not {wanted})"
        )
    seen = (_count(client, "segments"), _count(client, "retransmits"))
    counted = seen == (truth.segments, truth.retransmitted)
    if not counted:
        notes.append(
            f"retransmits are not used: the kernel says {truth.segments} segments sent on a "
            f"connection of our own, the probes {seen[0]}"
        )
    tgid = int(client["owner"]["tgid"])
    foreign = tgid != os.getpid()
    if foreign:
        notes.append(
            "Tailrace runs in a process namespace of its own: processes are named by their command "
            "only. Run it in the host's (docker run --pid=host)"
        )
    return SelfCheck(
        tgid=tgid,
        own_pid_namespace=foreign,
        rtt=rtt,
        segments=counted,
        notes=tuple(notes),
    )
