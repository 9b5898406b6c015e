"""Compile, load and attach the programs of `bpf/tcp.c`, and read what they gather."""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.errors import ProbeError
from probes.maps import MapReader
from probes.offsets import read_offsets

HOOKS: Final[Mapping[str, str]] = {
    "on_destroy": "tcp_destroy_sock",
    "on_retransmit": "tcp_retransmit_skb",
    "on_reset_in": "tcp_receive_reset",
    "on_reset_out": "tcp_send_reset",
    "on_set_state": "inet_sock_set_state",
    "on_send": "sock_send_length",
    "on_receive": "sock_recv_length",
}
"""C function: raw tracepoint. In the order of attaching: what ends a connection comes first."""

_CAP_SYS_ADMIN: Final = 21
_CAP_PERFMON: Final = 38
_CAP_BPF: Final = 39
_PROG_TYPE_TRACING: Final = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Entries of the maps; fixed at start, since they are allocated before they are needed."""

    connections: int = 65536
    closed: int = 65536
    latencies: int = 131072
    listeners: int = 8192


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The maps at one moment.

    Attributes:
        live: CONNECTION[n], connections whose socket exists; a view into reused memory, valid
            until the next sweep.
        closed: CONNECTION[m], connections whose socket was destroyed since the last sweep.
        latency_id: uint64[k], connection ids of the latency samples since the last sweep.
        latency_bucket: uint32[k], their bucket of `probes.histogram`.
        latency_number: uint64[k], how many.
        lost: samples lost since the last sweep.
    """

    live: NDArray[Any]
    closed: NDArray[Any]
    latency_id: NDArray[np.uint64]
    latency_bucket: NDArray[np.uint32]
    latency_number: NDArray[np.uint64]
    lost: int


def effective_capabilities() -> int:
    """Return this process's effective capabilities as a bit mask."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def missing_capabilities(effective: int) -> list[str]:
    """Return the names of the capabilities that loading needs and `effective` lacks."""
    if effective >> _CAP_SYS_ADMIN & 1:
        return []
    needed = {"CAP_BPF": _CAP_BPF, "CAP_PERFMON": _CAP_PERFMON}
    return [name for name, bit in needed.items() if not effective >> bit & 1]


def import_bcc() -> Any:
    """Return the bcc module.

    Raises:
        ProbeError: BCC is missing, or it is PyPI's unrelated package of the same name.
    """
    try:
        import bcc  # noqa: PLC0415  (LLVM: only when the kernel is really watched)
    except ImportError as error:
        raise ProbeError(
            f"BCC is not installed ({error}). Install your distribution's package "
            "(Debian, Ubuntu: apt install python3-bpfcc; Fedora: dnf install python3-bcc); a "
            "virtual environment must be made with `/usr/bin/python3 -m venv "
            "--system-site-packages` to see it."
        ) from error
    if not hasattr(bcc, "BPF"):
        raise ProbeError(
            f"the module bcc at {getattr(bcc, '__file__', '?')} is not the BPF compiler collection "
            "but an unrelated package. Remove it (pip uninstall bcc) and install your "
            "distribution's (Debian, Ubuntu: apt install python3-bpfcc)."
        )
    return bcc


class Programs:
    """The loaded programs. From `attach()` on, connections are followed; close it to stop."""

    def __init__(self, capacity: Capacity | None = None) -> None:
        """Compile and load; nothing runs yet.

        Raises:
            ProbeError: no BCC, no BTF, a missing capability, or the kernel's refusal.
        """
        self.capacity = capacity or Capacity()
        lacking = missing_capabilities(effective_capabilities())
        if lacking:
            raise ProbeError(
                f"loading eBPF programs needs {' and '.join(lacking)}. Run as root, or grant it "
                "(systemd: AmbientCapabilities=CAP_BPF CAP_PERFMON)."
            )
        bcc = import_bcc()
        self._lib = bcc.lib
        offsets = read_offsets()
        flags = [f"-I{layout.HERE}"]
        flags += [f"-DOFF_{name}={value}" for name, value in offsets.items()]
        flags += [
            f"-DMAX_{name.upper()}={getattr(self.capacity, name)}"
            for name in ("connections", "closed", "latencies", "listeners")
        ]
        os.environ["BCC_KERNEL_SOURCE"] = str(layout.HEADERS)
        try:
            self._bpf = bcc.BPF(text=layout.TCP_SOURCE.read_bytes(), cflags=flags)
            self._functions = {
                name: self._bpf.load_func(name.encode(), bcc.BPF.RAW_TRACEPOINT) for name in HOOKS
            }
        except Exception as error:  # bcc raises plain Exception for everything
            raise ProbeError(f"the kernel refused Tailrace's eBPF programs: {error}") from error
        self._lost_before = 0
        self._drained: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.uint64]]] = []
        self._busy = False
        self._links: list[int] = []
        self._walk_link: int | None = None
        self._readers = {
            "live": self._reader("connections", np.dtype("u8"), layout.CONNECTION),
            "closed": self._reader("closed", np.dtype("u8"), layout.CONNECTION, drain=True),
            "latencies": self._reader("latencies", layout.LATENCY_KEY, np.dtype("u8"), drain=True),
            "listeners": self._reader("listeners", layout.ENDPOINT, layout.LISTENER),
        }

    def _reader(
        self, name: str, key: np.dtype[Any], value: np.dtype[Any], *, drain: bool = False
    ) -> MapReader:
        return MapReader(
            self._lib,
            self._bpf[name.encode()].map_fd,
            name=name,
            key=key,
            value=value,
            capacity=getattr(self.capacity, name),
            drain=drain,
        )

    def attach(self) -> None:
        """Start following connections.

        Raises:
            ProbeError: a tracepoint does not exist on this kernel.
        """
        for function, tracepoint in HOOKS.items():
            link = self._lib.bpf_attach_raw_tracepoint(
                self._functions[function].fd, tracepoint.encode()
            )
            if link < 0:
                self.detach()
                raise ProbeError(
                    f"this kernel has no tracepoint {tracepoint}. Tailrace needs Linux 6.3 or "
                    f"later (this is {os.uname().release})."
                )
            self._links.append(link)

    def seed(self, *, listeners_only: bool = False) -> None:
        """Find the listeners and connections that are open.

        Before `attach()`, the listeners: by them a connection that is met while it moves data is
        told from its other end. After it, what has come up in between, and the connections.

        Args:
            listeners_only: leave the connections for later.

        Raises:
            ProbeError: this kernel does not run the iterator; connections are then met, with
                their owner, when they first move data.
        """
        if self._walk_link is None:
            self._walk_link = self._attach_walk()
        passes = self._bpf[b"seed_pass"]
        for number in (0,) if listeners_only else (0, 1):
            passes[ct.c_int(0)] = ct.c_uint32(number)
            walk = self._lib.bcc_iter_create(self._walk_link)
            if walk < 0:
                raise ProbeError("the iterator task_file does not start.")
            try:
                while os.read(walk, 4096):
                    pass
            finally:
                os.close(walk)

    def _attach_walk(self) -> int:
        try:
            program = self._bpf.load_func(b"bpf_iter__task_file", _PROG_TYPE_TRACING)
        except Exception as error:  # bcc raises plain Exception for everything
            raise ProbeError(f"the iterator task_file does not load: {error}") from error
        link = int(self._lib.bcc_iter_attach(program.fd, None, 0))
        if link < 0:
            raise ProbeError("the iterator task_file does not attach.")
        return link

    def sweep(self) -> Snapshot:
        """Read all that was gathered.

        The order matters: a connection that closes between the two reads is in both, and its
        counters only grow, so nothing is missed and nothing counted twice.

        Raises:
            ProbeError: the kernel refused to read a map.
        """
        _, live = self._readers["live"].read()
        self.drain()
        closed = np.concatenate([part[0] for part in self._drained])
        key = np.concatenate([part[1] for part in self._drained])
        number = np.concatenate([part[2] for part in self._drained])
        self._drained.clear()
        lost_now = self._lost()
        lost, self._lost_before = lost_now - self._lost_before, lost_now
        return Snapshot(live, closed, key["id"], key["bucket"], number, lost)

    def drain(self) -> None:
        """Empty the maps that only fill up; the next sweep has what was in them."""
        _, closed = self._readers["closed"].read()
        key, number = self._readers["latencies"].read()
        self._busy = (
            len(closed) > self.capacity.closed // 20 or len(number) > self.capacity.latencies // 20
        )
        self._drained.append((closed.copy(), key.copy(), number.copy()))

    @property
    def drain_s(self) -> float:
        """How long the maps may be left alone: short while connections come and go quickly."""
        return 0.1 if self._busy else 1.0

    def listeners(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (ENDPOINT[n], LISTENER[n]): who listens where."""
        return self._readers["listeners"].read()

    def _lost(self) -> int:
        table = self._bpf[b"lost"]
        refused = sum(int(table[ct.c_int(i)].value) for i in range(len(layout.LOST_KINDS)))
        return refused + sum(
            self._fdinfo(f.fd, "recursion_misses") for f in self._functions.values()
        )

    @staticmethod
    def _fdinfo(fd: int, field: str) -> int:
        for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
        return 0

    def run_time_ns(self) -> dict[str, tuple[int, int]]:
        """Return {tracepoint: (ns spent, times run)}; zeros unless kernel.bpf_stats_enabled."""
        return {
            HOOKS[name]: (self._fdinfo(f.fd, "run_time_ns"), self._fdinfo(f.fd, "run_cnt"))
            for name, f in self._functions.items()
        }

    def detach(self) -> None:
        """Stop following connections; what was gathered can still be read."""
        for link in self._links:
            os.close(link)
        self._links.clear()
        if self._walk_link is not None:
            os.close(self._walk_link)
            self._walk_link = None

    def close(self) -> None:
        """Detach and release the programs and maps."""
        self.detach()
        self._bpf.cleanup()
