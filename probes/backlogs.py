"""Connections that a listening socket turned away, before anybody could accept them.

The kernel counts them twice: at the socket (`sk_drops`, where a repeated SYN counts too) and, by
cause, for a whole network namespace (ListenDrops and ListenOverflows of /proc/PID/net/netstat, see
tcp_listendrop() and tcp_conn_request()). The first says which listener it was, the second how many
and why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probes.naming import PairNames

_PROC: Final = Path("/proc")


class Refusals(NamedTuple):
    """What a listener turned away between two sweeps.

    Attributes:
        owner: OWNER, who listens.
        port: where.
        accept_queue: handshakes for which nobody called accept(2) in time.
        syn: SYNs that came while too many others were half open.
    """

    owner: Any
    port: int
    accept_queue: int
    syn: int


class _Total(NamedTuple):
    """Of a network namespace, since it exists; `overflows` are among the `drops`."""

    overflows: int
    drops: int


class Backlogs:
    """Finds what was turned away, from one sweep to the next."""

    def __init__(self, names: PairNames, *, readable: bool = True, proc: Path = _PROC) -> None:
        """Start without history: what was turned away before the first sweep does not count.

        Args:
            names: knows who listens where.
            readable: whether procfs shows the kernel's process ids.
            proc: where procfs is.
        """
        self._names = names
        self._proc = proc if readable else None
        self._sockets: NDArray[np.uint64] | None = None
        self._drops: NDArray[np.uint32] = np.empty(0, np.uint32)
        self._totals: dict[int, _Total | None] = {}

    def update(self, backlogs: NDArray[Any]) -> list[Refusals]:
        """Return who turned connections away since the last call.

        Args:
            backlogs: BACKLOG[n], of all listening sockets.
        """
        backlogs = backlogs[np.argsort(backlogs["socket"], kind="stable")]
        grown = self._grown(backlogs)
        found: list[Refusals] = []
        netns = backlogs["at"]["netns"]
        present = set(np.unique(netns).tolist())
        for gone in self._totals.keys() - present:
            del self._totals[gone]
        for number in present:
            mine = np.flatnonzero((netns == number) & (grown > 0))
            if len(mine) or number not in self._totals:
                of = backlogs[netns == number]
                found += self._shared_out(backlogs[mine], grown[mine], self._growth(number, of))
        return found

    def _grown(self, backlogs: NDArray[Any]) -> NDArray[np.int64]:
        """Return the growth of each socket's own count, and keep it for the next time."""
        sockets, drops = backlogs["socket"].copy(), backlogs["drops"].copy()
        grown = drops.astype(np.int64)
        if self._sockets is None:
            grown[:] = 0
        elif len(self._sockets):
            at = np.minimum(np.searchsorted(self._sockets, sockets), len(self._sockets) - 1)
            since = np.where(self._sockets[at] == sockets, self._drops[at], 0)
            # less than before: another socket at the same place in memory
            grown -= np.where(since <= drops, since, 0)
        self._sockets, self._drops = sockets, drops
        return grown

    def _growth(self, netns: int, listeners: NDArray[Any]) -> _Total | None:
        """Return what the namespace's own counts have grown by; None if they cannot be told."""
        now = self._total(netns, listeners)
        before, self._totals[netns] = self._totals.get(netns), now
        if now is None or before is None:
            return None
        return _Total(now.overflows - before.overflows, now.drops - before.drops)

    def _total(self, netns: int, listeners: NDArray[Any]) -> _Total | None:
        """Ask any of the processes that listen there."""
        if self._proc is None:
            return None
        for listener in listeners:
            owner = self._names.listener(listener["at"])
            if owner is None:
                continue
            process = self._proc / str(int(owner["tgid"]))
            try:
                if (process / "ns" / "net").stat().st_ino == netns:
                    return _netstat((process / "net" / "netstat").read_text())
            except OSError:
                continue  # it is gone, and another of its kind may have the socket
        return None

    def _shared_out(
        self, listeners: NDArray[Any], grown: NDArray[np.int64], total: _Total | None
    ) -> list[Refusals]:
        """Give each listener its part of what the namespace counted."""
        full = listeners["length"] > listeners["limit"]
        overflows = int(grown[full].sum()) if total is None else total.overflows
        accept_queue = np.zeros_like(grown)
        for at in np.argsort(~full, kind="stable"):  # a queue that is full now was so before
            accept_queue[at] = min(int(grown[at]), overflows)
            overflows -= accept_queue[at]
        syn = grown - accept_queue
        if total is not None and syn.any():
            others = max(total.drops - total.overflows, 0)
            share = min(others, int(syn.sum())) / syn.sum()
            syn = np.diff(np.rint(np.cumsum(syn) * share).astype(np.int64), prepend=0)
        found = []
        for listener, one, other in zip(listeners, accept_queue, syn, strict=True):
            owner = self._names.listener(listener["at"])
            if owner is not None and one + other:
                found.append(Refusals(owner, int(listener["at"]["port"]), int(one), int(other)))
        return found


def _netstat(text: str) -> _Total | None:
    """Return the counts of a /proc/PID/net/netstat: a line of names, then one of numbers."""
    lines = [line.split() for line in text.splitlines() if line.startswith("TcpExt:")]
    if len(lines) != 2:
        return None
    told = dict(zip(*lines, strict=False))
    try:
        return _Total(int(told["ListenOverflows"]), int(told["ListenDrops"]))
    except (KeyError, ValueError):
        return None
