"""Before anything is believed: do the probes see a connection of our own as the kernel reports it?

A field at a wrong offset does not fail, it lies (round trips of minutes have been "measured").
So at start a loopback connection is made, refused, used and closed, and what the probes say of
it is held against getsockname(2) and TCP_INFO (include/uapi/linux/tcp.h).
"""

from __future__ import annotations

import errno
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
from probes.errors import ProbeError
from probes.naming import mapped
from probes.programs import Programs

_PAUSE_S = 0.06  # longer than SAMPLE_NS of bpf/tcp.c, so that the last receive takes a sample


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


def _tcp_info(connection: socket.socket) -> tuple[int, int, int]:
    """Return (rtt in us, total_retrans, data_segs_out)."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    (rtt,) = struct.unpack_from("I", info, 68)
    (retransmitted,) = struct.unpack_from("I", info, 100)
    (segments,) = struct.unpack_from("I", info, 156)
    return rtt, retransmitted, segments


def _find(rows: NDArray[Any], role: int, local_port: int) -> Any:
    found = rows[(rows["role"] == role) & (rows["local_port"] == local_port)]
    return found[0] if len(found) == 1 else None


def check(programs: Programs) -> SelfCheck:
    """Run the check against attached programs.

    Raises:
        ProbeError: what every signal rests on (addresses, ports, bytes, roles, errors) is wrong.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server, _ = listener.accept()
            with server:
                for _ in range(3):
                    client.sendall(b"x" * 100)
                    server.recv(100, socket.MSG_WAITALL)
                server.sendall(b"y" * 50)
                time.sleep(_PAUSE_S)
                client.recv(50, socket.MSG_WAITALL)
                info = _tcp_info(client)
                tuple_ = client.getsockname()
                # copied: the arrays are the next sweep's
                live = np.array(programs.sweep().live)
    refused = False
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        refused = True
    closed = np.array(programs.sweep().closed)
    ours = _find(live, layout.CLIENT, tuple_[1])
    theirs = _find(live, layout.SERVER, port)
    failed = closed[(closed["flags"] & layout.FLAG_FAILED > 0) & (closed["remote_port"] == port)]
    wrong = _wrong(ours, theirs, port, tuple_)
    if not wrong and refused and [int(e) for e in failed["error"]] != [errno.ECONNREFUSED]:
        wrong = "the error of a refused connect"
    if wrong:
        raise ProbeError(
            f"the probes do not see a connection of our own as the kernel reports it ({wrong}). "
            "What they would say of others cannot be trusted, so Tailrace stops. Please report "
            f"this with your kernel's version, {os.uname().release}."
        )
    return _verdict(ours, info)


def _wrong(ours: Any, theirs: Any, port: int, name: tuple[str, int]) -> str:
    """Return what the two ends' records have wrong, "" if nothing."""
    if ours is None or theirs is None:
        return "it was not seen"
    seen_and_true = {
        "remote address": (bytes(ours["remote_address"]), mapped("127.0.0.1")),
        "remote port": (int(ours["remote_port"]), port),
        "local address": (bytes(ours["local_address"]), mapped(name[0])),
        "bytes sent": (int(ours["bytes_out"]), 300),
        "bytes received": (int(ours["bytes_in"]), 50),
        "bytes received by the server": (int(theirs["bytes_in"]), 300),
        "bytes sent by the server": (int(theirs["bytes_out"]), 50),
        "network namespace": (int(ours["netns"]), Path("/proc/self/ns/net").stat().st_ino),
    }
    return ", ".join(
        f"{what}: {seen!r}, not {true!r}"
        for what, (seen, true) in seen_and_true.items()
        if seen != true
    )


def _verdict(ours: Any, info: tuple[int, int, int]) -> SelfCheck:
    rtt_us, retransmitted, segments = info
    notes = []
    rtt = abs(int(ours["srtt_us"]) - rtt_us) <= max(2, rtt_us // 50)
    if not rtt:
        notes.append(
            f"round-trip times are not used: the kernel says {rtt_us} us of a connection of our "
            f"own, the probe {ours['srtt_us']} us"
        )
    counted = (int(ours["segments_out"]), int(ours["retransmits"])) == (segments, retransmitted)
    if not counted:
        notes.append(
            f"retransmits are not used: the kernel says {segments} segments sent on a connection "
            f"of our own, the probe {ours['segments_out']}"
        )
    tgid = int(ours["owner"]["tgid"])
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
