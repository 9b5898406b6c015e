"""From sweeps of the kernel's maps to windows: what happened between two sweeps, per pair."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.matching import match_ends
from probes.naming import IGNORED, PairNames
from probes.programs import Snapshot
from probes.tally import Tally, tally
from probes.window import Pair, Window

_STATE: Final = np.dtype(
    [
        ("id", "u8"),
        ("bytes_out", "u8"),
        ("bytes_in", "u8"),
        ("turnarounds", "u8"),
        ("sampled_ns", "u8"),
        ("segments_out", "u4"),
        ("retransmits", "u4"),
        ("pair", "i4"),
        ("tgid", "u4"),
        ("established", "?"),
        ("failed", "?"),
        ("over", "?"),
        ("matched", "?"),
    ]
)
_SETTLED_NS: Final = 10_000_000  # a reset is flagged a moment after the state became CLOSE
_FORGET_S: Final = 3600.0
_LATENCY: Final = np.dtype([("id", "u8"), ("bucket", "u4"), ("number", "u8")])


class Tracker:
    """Turns successive snapshots into windows.

    Counters of a connection only grow, so a window is the difference of two snapshots. A record
    born while the maps were being read waits for the next snapshot: by then its other end, if it
    is on this host, is sure to be there too.
    """

    def __init__(self, names: PairNames, *, rtt: bool = True, segments: bool = True) -> None:
        """Start without history.

        Args:
            names: assigns pairs.
            rtt: whether round-trip times may be used.
            segments: whether segment counters may be used.
        """
        self._names = names
        self._rtt = rtt
        self._segments = segments
        self._state = np.empty(0, _STATE)
        self._held = np.empty(0, layout.CONNECTION)
        self._held_latencies = np.empty(0, _LATENCY)
        self._recent: list[NDArray[Any]] = []
        self._active: NDArray[np.float64] = np.empty(0)

    @property
    def connections(self) -> int:
        """How many connections are followed."""
        return len(self._state)

    def watched(self) -> list[tuple[Pair, float]]:
        """Return the pairs that get a row in every window, and when each was last active."""
        latest = self._active.max(initial=-np.inf)
        return [
            (self._names.pairs[i], float(self._active[i]))
            for i in np.flatnonzero(latest - self._active < _FORGET_S)
        ]

    def watch(self, pair: Pair, active: float) -> None:
        """Give a pair rows, as if it had last been active at that time (epoch seconds)."""
        index = self._names.number(pair)
        self._make_room()
        self._active[index] = max(self._active[index], active)

    def _make_room(self) -> None:
        fresh = len(self._names.pairs) - len(self._active)
        self._active = np.append(self._active, np.full(fresh, -np.inf))

    def update(
        self, snapshot: Snapshot, *, now_ns: int, time: float, width: float, nominal: float
    ) -> Window:
        """Return the window that ends with this snapshot.

        Args:
            snapshot: of the maps, read at or after `now_ns`.
            now_ns: CLOCK_MONOTONIC when reading began.
            time: start of the window, epoch seconds.
            width: since the last snapshot, seconds.
            nominal: what it should have been.
        """
        rows, final = self._rows(snapshot, now_ns)
        latencies = self._latencies(snapshot)
        before = self._before(rows["id"])
        state = self._assign(rows, before)
        self._current(state, rows, final, now_ns)
        counted = tally(
            rows,
            state,
            before,
            latencies,
            pairs=len(self._names.pairs),
            rtt=self._rtt,
            segments=self._segments,
        )
        self._hold_latencies(latencies, rows["id"])
        self._state = state[~final]
        closed = rows[final]
        self._recent = [*self._recent[-1:], closed[closed["role"] == layout.CLIENT]]
        return self._window(counted, time, width, nominal, snapshot.lost)

    def _rows(self, snapshot: Snapshot, now_ns: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return (one record per connection, ascending by id; whether it is the last of it)."""
        closed = np.concatenate((self._held, snapshot.closed))
        late = closed["opened_ns"] >= now_ns
        self._held, closed = closed[late], closed[~late]
        live = snapshot.live[snapshot.live["opened_ns"] < now_ns]
        rows = np.concatenate((live, closed))
        final = np.arange(len(rows)) >= len(live)
        # of a connection that closed between the two reads, the closed record is the later one
        _, last = np.unique(rows["id"][::-1], return_index=True)
        keep = len(rows) - 1 - last
        return rows[keep], final[keep]

    def _latencies(self, snapshot: Snapshot) -> NDArray[Any]:
        fresh = np.empty(len(snapshot.latency_id), _LATENCY)
        fresh["id"] = snapshot.latency_id
        fresh["bucket"] = snapshot.latency_bucket
        fresh["number"] = snapshot.latency_number
        return np.concatenate((self._held_latencies, fresh))

    def _hold_latencies(self, latencies: NDArray[Any], ids: NDArray[np.uint64]) -> None:
        """Keep samples of connections that are not in this window yet, once."""
        unknown = latencies[len(self._held_latencies) :]
        self._held_latencies = unknown[~np.isin(unknown["id"], ids)]

    def _before(self, ids: NDArray[np.uint64]) -> NDArray[Any]:
        """Return what was known of each id at the last window; zeros of a new one."""
        before = np.zeros(len(ids), _STATE)
        before["pair"] = IGNORED
        if len(self._state):
            at = np.minimum(np.searchsorted(self._state["id"], ids), len(self._state) - 1)
            known = self._state["id"][at] == ids
            before[known] = self._state[at[known]]
        return before

    def _assign(self, rows: NDArray[Any], before: NDArray[Any]) -> NDArray[Any]:
        """Give new connections their pair, and unmatched ones their other end if it has come."""
        state = before.copy()
        fresh = before["id"] == 0
        state["id"] = rows["id"]
        state["tgid"] = rows["owner"]["tgid"]
        # a child has its listener's owner until somebody else is seen at work on it
        handed_on = (state["tgid"] != before["tgid"]) & ~fresh
        if not (fresh | handed_on).any():
            return state
        open_ = np.flatnonzero(~before["matched"] | handed_on.any())
        is_client = rows["role"][open_] == layout.CLIENT
        clients, servers = open_[is_client], open_[~is_client]
        past = np.concatenate([np.empty(0, layout.CONNECTION), *self._recent])
        near = np.concatenate((rows[clients], past))
        server_of, client_of = match_ends(near, rows[servers])
        peers = np.zeros(len(rows), layout.CONNECTION)
        found = np.zeros(len(rows), np.bool_)
        news = fresh | handed_on | ~before["matched"]
        at = np.flatnonzero(server_of[: len(clients)] >= 0)
        partner = servers[server_of[at]]
        peers[clients[at]] = rows[partner]
        found[clients[at]] = True
        news[clients[at]] |= handed_on[partner]
        at = np.flatnonzero(client_of >= 0)
        peers[servers[at]] = near[client_of[at]]
        found[servers[at]] = True
        state["matched"] |= found
        # whose other end is already gone keeps the name that it gave
        renamed = news & (found | fresh | (handed_on & ~before["matched"]))
        state["pair"][renamed] = self._names.assign(rows[renamed], peers[renamed], found[renamed])
        return state

    @staticmethod
    def _current(
        state: NDArray[Any], rows: NDArray[Any], final: NDArray[np.bool_], now_ns: int
    ) -> None:
        for name in ("bytes_out", "bytes_in", "turnarounds", "sampled_ns"):
            state[name] = rows[name]
        state["segments_out"] = rows["segments_out"]
        state["retransmits"] = rows["retransmits"]
        attempt = rows["flags"] & layout.FLAG_ATTEMPT > 0
        state["established"] = attempt & (rows["established_ns"] > 0)
        state["failed"] = rows["flags"] & layout.FLAG_FAILED > 0
        settled = (rows["closed_ns"] > 0) & (rows["closed_ns"] + _SETTLED_NS < now_ns)
        state["over"] = (final | settled) & (rows["established_ns"] > 0)

    def _window(
        self, counted: Tally, time: float, width: float, nominal: float, lost: int
    ) -> Window:
        self._make_room()
        self._active[counted.active] = time
        watched = np.flatnonzero(time - self._active < _FORGET_S)
        if self._names.crowded:
            idle = np.setdiff1d(np.arange(len(self._active)), watched)
            idle = np.setdiff1d(idle, self._state["pair"])
            self._names.forget(idle)
        return counted.window(
            watched,
            pairs=tuple(self._names.pairs),
            time=time,
            width=width,
            nominal=nominal,
            lost=lost,
        )
