"""From sweeps of the kernel's groups to windows: what happened between two sweeps, per pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bpf import layout
from probes.backlogs import Refusals
from probes.counted import Door, Tally, add_doors
from probes.marks import Marks
from probes.naming import IGNORED, Met, PairNames
from probes.programs import Snapshot
from probes.ranking import Ranking
from probes.tally import Ends, tally
from probes.waits import Waits
from probes.window import Pair, Window

_COUNTS: Final = len(layout.COUNTERS)
_JOINED: Final = layout.COUNTERS.index("joined")
_LEFT: Final = layout.COUNTERS.index("left")
_REQUESTS: Final = layout.COUNTERS.index("requests")
_REFUSED: Final = layout.COUNTERS.index("refused")
_EVENTS: Final = [
    layout.COUNTERS.index(name)
    for name in ("attempts", "ended", "requests", "waits", "segments", "datagrams")
]
_ESTABLISHED: Final = layout.COUNTERS.index("established")
_FORGET_S: Final = 3600.0
_IDLE_S: Final = 60.0
"""A group without an open connection is given up when it has been still for so long."""
_PROBATION_S: Final = 2.0
"""A group is counted for so long after it can no longer be found: a program may be using it."""
_TOLD_S: Final = 1.0
"""Within so long, it is known how a flow's addresses are translated."""
_NEVER: Final = np.inf
_TIMED_PER_S: Final = 2000.0
_MOST_INTERVAL: Final = 32


class Tracker:
    """Turns successive snapshots into windows.

    Counters of a group only grow, so a window is the difference of two snapshots.

    Attributes:
        paced: groups (int64[n], places) that should time one request in so many (uint32[n]) from
            now on.
        translated: whether it becomes known how a flow's addresses are translated, a moment after
            it is met.
    """

    def __init__(
        self,
        names: PairNames,
        *,
        capacity: int,
        rtt: bool = True,
        segments: bool = True,
    ) -> None:
        """Start without history.

        Args:
            names: assigns pairs.
            capacity: how many groups there can be.
            rtt: whether round-trip times may be used.
            segments: whether segment counters may be used.
        """
        self._names = names
        self.translated = False
        self._rtt = rtt
        self._segments = segments
        self._id = np.zeros(capacity, np.uint64)
        self._fresh = np.zeros(capacity, np.bool_)  # met by the last sweep
        self._link = np.zeros(capacity, np.uint64)
        self._counts = np.zeros((capacity, _COUNTS), np.uint64)
        self._pair = np.full(capacity, IGNORED, np.int32)
        self._interval = np.ones(capacity, np.uint32)
        self._marks = Marks(capacity)
        self._moved_s = np.full(capacity, -_NEVER)  # when a group last changed
        self._met_s = np.full(capacity, -_NEVER)
        self._retired_s = np.full(capacity, _NEVER)
        self._slot_of: dict[int, int] = {}  # id: place
        self._active: NDArray[np.float64] = np.empty(0)
        self._waits = Waits()
        self._places = names.places
        self._ranking = Ranking(names.places)
        self._refusing: set[int] = set()  # ports of listeners that have turned connections away
        self._open = 0
        self._events = 0
        self._generation = names.generation
        self._late = np.empty(0, layout.LATENCY_KEY), np.empty(0, layout.LATENCY)
        self.paced = np.empty(0, np.int64), np.empty(0, np.uint32)

    @property
    def connections(self) -> int:
        """How many connections are followed."""
        return self._open

    @property
    def events(self) -> int:
        """A number that grows as the kernel's programs have work to do."""
        return self._events

    def namespaces(self, snapshot: Snapshot) -> list[tuple[int, int]]:
        """Return (inode of a network namespace, id of a process in it) of groups just met."""
        fresh = snapshot.groups["key"][self._fresh[snapshot.slots]]
        found, first = np.unique(fresh["netns"], return_index=True)
        return list(zip(found.tolist(), fresh["tgid"][first].tolist(), strict=True))

    def watched(self) -> list[tuple[Pair, float]]:
        """Return the pairs that get a row in every window, and when each was last active."""
        latest = self._active.max(initial=-np.inf)
        return [
            (self._places.pairs[i], float(self._active[i]))
            for i in np.flatnonzero(latest - self._active < _FORGET_S)
        ]

    def remembered(self) -> list[tuple[Pair, tuple[float, float, bool, bool]]]:
        """Return what `watch` takes of the pairs that get rows."""
        index, waits = self._places.number, self._waits
        return [
            (pair, (active, float(waits.met[i]), bool(waits.given[i]), bool(waits.works[i])))
            for pair, active in self.watched()
            for i in (index(pair),)
        ]

    def watch(self, pair: Pair, active: float, *, met: float, waits: bool, works: bool) -> None:
        """Give a pair rows.

        Args:
            pair: the pair.
            active: when it was last active, epoch seconds.
            met: when it was first seen, epoch seconds.
            waits: whether it has ever waited on purpose.
            works: whether it waits for what others say.
        """
        index = self._places.number(pair)
        self._make_room(met)
        if self._places.rows[index] != index:
            return  # there are fewer rows than then
        self._active[index] = max(self._active[index], active)
        self._waits.know(index, met=met, given=waits, works=works)

    def _make_room(self, now: float) -> None:
        met = self._places.met()
        self._waits.meet(met, len(self._places.pairs), now)
        fresh = len(self._places.pairs) - len(self._active)
        self._active = np.append(self._active, np.full(fresh, -np.inf))
        self._active[met] = -np.inf

    def update(
        self,
        snapshot: Snapshot,
        *,
        now_s: float,
        time: float,
        width: float,
        nominal: float,
        refusals: Sequence[Refusals] = (),
    ) -> Window:
        """Return the window that ends with this snapshot.

        Args:
            snapshot: of the groups.
            now_s: of a monotonic clock.
            time: start of the window, epoch seconds.
            width: its length, seconds.
            nominal: the length it was asked to have, seconds.
            refusals: what listeners turned away.
        """
        slots, groups = snapshot.slots, snapshot.groups
        self._name(slots, groups, snapshot.details)
        self._met_s[slots[self._fresh[slots]]] = now_s
        counts, waits = self._ready(slots, groups, now_s)
        latency_keys, latencies = self._ready_latencies(slots[waits], snapshot)
        grown = (counts - self._counts[slots]).view(np.int64)
        self._counts[slots] = counts
        self._pace(slots, grown[:, _REQUESTS] / width)
        if counts[0].any() and slots[0] == layout.OVERFLOW:
            self._pair[layout.OVERFLOW] = self._names.overflow_pair()
        self._moved_s[slots[grown.any(axis=1) | self._fresh[slots]]] = now_s
        self._events += int(grown[:, _EVENTS].sum())
        self._open = int((counts[:, _JOINED] - counts[:, _LEFT]).view(np.int64).sum())
        doors = self._doors(groups, grown, refusals)
        self._make_room(time)
        linked = groups["key"]["peer"] != 0
        pair = self._pair[slots].astype(np.int64)
        self._ranking.update(np.where(linked, IGNORED, pair), grown, width)
        ends = Ends(
            slots=slots,
            grown=grown,
            pair=self._counted(pair),
            client=groups["key"]["role"] == layout.CLIENT,
            linked=linked,
            transport=groups["key"]["transport"],
            mark=self._marks.told(slots, groups, now_s),
            served_per_s=_served(groups["key"], grown[:, _REQUESTS] / width),
        )
        counted = tally(
            ends,
            latency_keys,
            latencies,
            waits=self._waits,
            pairs=len(self._places.pairs),
            now=time + width,
            rtt=self._rtt,
            segments=self._segments,
        )
        add_doors(counted, doors)
        window = self._window(counted, time, width, nominal, snapshot.lost)
        self._exchange(now_s, time + width)
        return window

    def _counted(self, pair: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the pairs under which these are counted: themselves, or with `other`."""
        rows = np.append(self._places.rows, IGNORED)  # where IGNORED points, at the end
        return rows[pair]

    def _exchange(self, now_s: float, time: float) -> None:
        """Give rows to the pairs that do most. A pair without rows is not measured: no zeros."""
        folded, unfolded = self._ranking.exchange(now_s)
        self._active[folded] = -np.inf
        self._make_room(time)
        self._active[unfolded] = time

    def tell_again(self) -> None:
        """Have the next window tell all marks: nobody has seen the last."""
        self._marks.tell_again()

    def _pace(self, slots: NDArray[np.int64], rate: NDArray[np.float64]) -> None:
        """Have busy groups time fewer of their requests: enough is 2,000 a second."""
        fold = np.log2(np.maximum(rate / _TIMED_PER_S, 1.0)).astype(np.uint32)
        interval = np.minimum(np.uint32(1) << fold, _MOST_INTERVAL).astype(np.uint32)
        changed = interval != self._interval[slots]
        self.paced = slots[changed], interval[changed]
        self._interval[slots] = interval

    def _ready(
        self, slots: NDArray[np.int64], groups: NDArray[Any], now_s: float
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Return the groups' counts, and which groups wait for the other end to come up.

        A datagram's receiver makes himself known after its sender. A sender that is met between
        the two would be named by an address; he waits one sweep, if nobody has answered him. One
        whose datagrams' addresses may be translated waits until that would be known.
        """
        key, counts = groups["key"], groups["counts"].copy()
        waits = (key["role"] == layout.CLIENT) & (key["transport"] != layout.TCP)
        waits &= groups["link"] == 0
        fresh = self._fresh[slots] & (counts[:, _REQUESTS] == 0)
        if self.translated:
            met = now_s - self._met_s[slots] < _TOLD_S
            fresh |= met & (key["transport"] == layout.UDP) & (counts[:, _REFUSED] == 0)
        waits &= fresh
        # what is told already stays told
        counts[waits] = self._counts[slots[waits]]
        return counts, waits

    def _ready_latencies(
        self, waiting: NDArray[np.int64], snapshot: Snapshot
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the latencies that are new; those of groups that wait, when they do no more."""
        keys = np.concatenate((self._late[0], snapshot.latency_keys))
        values = np.concatenate((self._late[1], snapshot.latencies))
        late = np.isin(keys["group"], waiting)
        self._late = keys[late], values[late]
        return keys[~late], values[~late]

    def _doors(
        self, groups: NDArray[Any], grown: NDArray[np.int64], refusals: Sequence[Refusals]
    ) -> list[Door]:
        """Return who let connections in, and who turned some away, per listener's pair.

        Only of listeners that ever turned one away: the pair of all their clients is made for it.
        """
        self._refusing.update(each.port for each in refusals)
        if not self._refusing:
            return []
        key = groups["key"]
        tcp_server = (key["role"] == layout.SERVER) & (key["transport"] == layout.TCP)
        tcp_server &= np.isin(key["port"], list(self._refusing))
        at = np.flatnonzero(tcp_server & (grown[:, _ESTABLISHED] > 0))
        process = key["tgid"][at].astype(np.uint64) << np.uint64(16) | key["port"][at]
        _, first, which = np.unique(process, return_index=True, return_inverse=True)
        accepted = np.bincount(which, grown[at, _ESTABLISHED])
        doors = [
            Door(self._names.listener_pair(groups["owner"][i], int(key["port"][i])), int(number))
            for i, number in zip(at[first], accepted, strict=True)
        ]
        doors += [
            Door(self._names.listener_pair(r.owner, r.port), 0, r.accept_queue, r.syn)
            for r in refusals
        ]
        rows = self._places.rows
        return [d._replace(pair=int(rows[d.pair])) for d in doors if d.pair != IGNORED]

    def _name(self, slots: NDArray[np.int64], groups: NDArray[Any], details: NDArray[Any]) -> None:
        """Assign pairs to groups that are new, or whose other end or name has become known."""
        fresh = self._fresh[slots] = self._id[slots] != groups["id"]
        for at in np.flatnonzero(fresh):
            slot = int(slots[at])
            self._slot_of.pop(int(self._id[slot]), None)
            self._slot_of[int(groups["id"][at])] = slot
        self._counts[slots[fresh]] = 0
        self._retired_s[slots[fresh]] = _NEVER
        self._interval[slots[fresh]] = 1
        self._id[slots] = groups["id"]
        changed = fresh | (self._link[slots] != groups["link"])
        renamed = self._generation != self._names.generation
        if renamed:
            self._generation = self._names.generation
            changed[:] = True
        self._link[slots] = groups["link"]
        if not changed.any():
            return
        before = self._pair[slots[~fresh]]
        client = groups["key"]["role"] == layout.CLIENT
        # servers after their clients, whose pair they share
        for at in (*np.flatnonzero(changed & client), *np.flatnonzero(changed & ~client)):
            self._pair[slots[at]] = self._pair_of(slots, groups, details, int(at))
        if renamed:  # what is called otherwise now has not fallen silent
            left = np.setdiff1d(before, self._pair)
            self._active[left[left >= 0]] = -np.inf

    def _pair_of(
        self, slots: NDArray[np.int64], groups: NDArray[Any], details: NDArray[Any], at: int
    ) -> int:
        group = groups[at]
        met = Met(group, details[slots[at]])
        if slots[at] == layout.OVERFLOW:
            return IGNORED
        key = group["key"]
        if key["role"] == layout.CLIENT:
            slot = self._slot_of.get(int(group["link"]))
            other = (
                None if slot is None else Met(groups[np.searchsorted(slots, slot)], details[slot])
            )
            return self._names.client_pair(met, other)
        if key["peer"]:
            client = self._slot_of.get(int(key["peer"]))
            return IGNORED if client is None else int(self._pair[client])
        # its client is on this host and counts there, though nobody could tell which it is
        return IGNORED if key["self"] else self._names.server_pair(met)

    def idle(self, now_s: float, *, full: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the places of groups to retire now, and of those to release.

        Args:
            now_s: of a monotonic clock.
            full: whether places have run short.
        """
        still = np.flatnonzero(
            (self._id != 0) & (self._moved_s < now_s - (5.0 if full else _IDLE_S))
        )
        still_open = self._counts[still, _JOINED] != self._counts[still, _LEFT]
        still = still[~still_open & (still != layout.OVERFLOW)]
        retire = still[self._retired_s[still] == _NEVER]
        self._retired_s[retire] = now_s
        release = still[self._retired_s[still] < now_s - _PROBATION_S]
        for slot in release.tolist():
            self._slot_of.pop(int(self._id[slot]), None)
        self._id[release] = 0
        self._link[release] = 0
        self._pair[release] = IGNORED
        return retire, release

    def _window(
        self, counted: Tally, time: float, width: float, nominal: float, lost: int
    ) -> Window:
        self._active[counted.active] = time
        watched = np.flatnonzero(time - self._active < _FORGET_S)
        if self._places.crowded:
            idle = np.setdiff1d(np.arange(len(self._active)), watched)
            forgotten = self._ranking.idle(np.setdiff1d(idle, self._pair))
            self._places.forget(forgotten)
            self._ranking.forget(forgotten)
        return counted.window(
            watched,
            pairs=tuple(self._places.pairs),
            time=time,
            width=width,
            nominal=nominal,
            lost=lost,
        )


def _served(key: NDArray[Any], rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much each group's process answers per second, all its clients together."""
    asked = np.where(key["role"] == layout.SERVER, rate, 0.0)
    _, process = np.unique(key["tgid"], return_inverse=True)
    served: NDArray[np.float64] = np.bincount(process, asked)[process].astype(np.float64)
    return served
