"""Which thin pairs are judged together, and when that changed so much that a sum starts anew."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.bank import Bank
from detector.catalog import Catalog
from detector.observe import COUNT, LATENCY, RATIO
from detector.table import Column, Table
from probes.window import EVERY, Pair, is_rollup

Floats = NDArray[Any]
Ints = NDArray[np.int64]

PERIOD = 16
"""Windows after which membership is decided anew."""
MEMORY = 16.0
"""Periods that a stream's load looks back on."""
PROBATION = 64.0
"""Windows for which a pair is watched before it is a member: what comes is news of its own."""
JOINS_BELOW, LEAVES_ABOVE = 1.0, 2.0
"""Events per window of a member: who has more is judged alone, and soon."""
AWAY_S, AWAY_WINDOWS = 60.0, 10.0
"""A pair without rows for this long, the longer of both, is no member until it is back."""
LEAST_MEMBERS = 3
LITTLE = 0.15
"""A group that gained or lost this share of its load by regrouping learns anew."""
MODELS = (COUNT, RATIO, LATENCY)
_ROLLED = np.isin(np.arange(5), MODELS)


class Members:
    """Who is a member of which group.

    A group is all clients of a server port, or all servers of a client; its sums are streams of
    its own, one per signal. `table` columns, by number of the stream: `seen` (events of this
    period), `load` (events per window, of late), `member`, and of a group's own stream `moved`
    (share of its load that came or went by regrouping, of late).

    Attributes:
        slot: int32[2, streams], into which of the sums a stream's rows go; -1 for none.
            Empty while there are no sums.
        slot_pair: int64[slots], index into `pairs`.
        slot_signal: int64[slots], number of the signal.
        pairs: the groups that have sums.
    """

    def __init__(self, catalog: Catalog, banks: Sequence[Bank]) -> None:
        self.table = Table(
            {
                "seen": Column("f4"),
                "load": Column("f4"),
                "member": Column("?"),
                "moved": Column("f4"),
            }
        )
        self._catalog, self._banks = catalog, banks
        self._renumber()

    def _renumber(self) -> None:
        """Forget what follows from the numbers of pairs and streams."""
        self._groups: list[Pair] = []
        self._group_number: dict[Pair, int] = {}
        # int32[2, pairs]: the groups of a pair, by server and by client; -1 for none
        self._of_pair = np.full((2, 0), -1, np.int32)
        self.slot = np.full((2, 0), -1, np.int32)
        self.slot_pair, self.slot_signal = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.pairs: tuple[Pair, ...] = ()

    def meet(self) -> None:
        """Take note of pairs and streams that are new."""
        pairs, streams = self._catalog.pair_of, self._catalog.streams.size
        fresh = pairs[self._of_pair.shape[1] :]
        if fresh:
            found = [self._groups_of(pair) for pair in fresh]
            self._of_pair = np.hstack([self._of_pair, np.array(found, np.int32).T])
        self.table.grow(max(streams - self.table.size, 0))
        missing = streams - self.slot.shape[1]
        if missing > 0 and len(self.slot_pair):
            self.slot = np.hstack([self.slot, np.full((2, missing), -1, np.int32)])

    def _groups_of(self, pair: Pair) -> tuple[int, int]:
        if is_rollup(pair):
            return -1, -1
        by_server = Pair(EVERY, *pair[1:])
        by_client = Pair(pair.client, EVERY, 0, pair.transport)
        for group in (by_server, by_client):
            if group not in self._group_number:
                self._group_number[group] = len(self._groups)
                self._groups.append(group)
        return self._group_number[by_server], self._group_number[by_client]

    def _keys(self) -> Ints:
        """Return int64[2, streams]: the group and signal of each stream as one number."""
        s = self._catalog.streams
        keys: Ints = self._of_pair[:, s["pair"]] * np.int64(len(self._catalog.signals))
        return keys + s["signal"]

    def _per_key(self, keys: Ints, which: NDArray[np.bool_], weight: Floats | None = None) -> Any:
        size = len(self._groups) * len(self._catalog.signals)
        weights = None if weight is None else np.tile(weight[which], 2)
        return np.bincount(keys[:, which].reshape(-1), weights, size)

    def decide(self, time: float, width: float, firing: Collection[int]) -> None:
        """Decide at a period's end who is a member.

        Args:
            time: of the window, epoch seconds.
            width: its length, seconds.
            firing: streams that are firing: a group among them keeps its members.
        """
        t, s, pairs = self.table, self._catalog.streams, self._catalog.pairs
        pair, load, old = s["pair"], t["load"], t["member"].copy()
        age = (time - pairs["first"][pair]) / width
        here = time - pairs["last"][pair] < max(AWAY_S, AWAY_WINDOWS * width)
        # Who is away comes back with the load that it had
        memory = np.clip(age // PERIOD, 1.0, MEMORY)
        load += np.where(here, (t["seen"] / PERIOD - load) / memory, 0.0)
        t["seen"][:] = 0.0
        t["moved"][:] *= 1.0 - 1.0 / MEMORY
        able = (self._of_pair[0, pair] >= 0) & _ROLLED[s["bank"]]
        thin = load < np.where(old, LEAVES_ABOVE, JOINS_BELOW)
        new = able & here & thin & (age >= PROBATION)
        if firing:
            keys = self._keys()
            frozen = np.isin(self._streams_of_keys(), np.array(sorted(firing)))
            still = able & (frozen[keys[0]] | frozen[keys[1]])
            new[still] = old[still]
        if np.array_equal(new, old):
            return
        keys = self._keys()
        step = self._per_key(keys, new & ~old, load) - self._per_key(keys, old & ~new, load)
        whole = np.maximum(self._per_key(keys, new | old, load), 1e-9)
        was, now = (self._per_key(keys, which) >= LEAST_MEMBERS for which in (old, new))
        t["member"][:] = new
        self._build()
        changed = np.flatnonzero(now & ((step != 0.0) | ~was))
        rolled = self._streams_of_keys()[changed]
        changed, rolled = changed[rolled >= 0], rolled[rolled >= 0]
        t["moved"][rolled] += step[changed] / whole[changed]
        anew = ~was[changed] | (np.abs(t["moved"][rolled]) > LITTLE)
        anew &= ~np.isin(rolled, np.array(sorted(firing), np.int64))
        t["moved"][rolled[anew]] = 0.0
        self._relearn(np.sort(rolled[anew]), time)

    def _streams_of_keys(self) -> Ints:
        """Return the number of each key's own stream; -1 where there is none yet."""
        many = len(self._catalog.signals)
        pair = np.repeat(self._catalog.numbers(self._groups), many)
        return self._catalog.of(pair, np.tile(np.arange(many), len(self._groups)))

    def _relearn(self, streams: Ints, time: float) -> None:
        s = self._catalog.streams
        age = time - self._catalog.pairs["first"][s["pair"][streams]]
        for model in MODELS:
            mine = s["bank"][streams] == model
            if mine.any():
                at = s["local"][streams[mine]].astype(np.int64)
                self._banks[model].relearn(at, age[mine])

    def _build(self) -> None:
        """Make the slots from who is a member."""
        keys, member = self._keys(), self.table["member"]
        there = np.flatnonzero(self._per_key(keys, member) >= LEAST_MEMBERS)
        slot_of = np.full(len(self._groups) * len(self._catalog.signals), -1, np.int64)
        slot_of[there] = np.arange(len(there))
        self.slot = np.full(keys.shape, -1, np.int32)
        self.slot[:, member] = slot_of[keys[:, member]]
        many = max(len(self._catalog.signals), 1)
        groups, self.slot_pair = np.unique(there // many, return_inverse=True)
        self.slot_signal = there % many
        self.pairs = tuple(self._groups[group] for group in groups.tolist())

    def share(self, group: Pair, signal: str, pairs: Sequence[Pair]) -> float:
        """Return the share that `pairs` have in the load of a group's sum."""
        t, s = self.table, self._catalog.streams
        number = self._group_number.get(group, -1)
        code = self._catalog.signals.index(signal)
        of_group = t["member"] & (s["signal"] == code)
        of_group &= (self._of_pair[:, s["pair"]] == number).any(axis=0)
        theirs = of_group & np.isin(s["pair"], self._catalog.numbers(pairs))
        return float(t["load"][theirs].sum() / max(t["load"][of_group].sum(), 1e-9))

    def keep(self, streams: NDArray[np.bool_]) -> None:
        """Drop the streams that are not marked; the catalog follows, and then `rebuild`."""
        self.meet()
        self.table.keep(streams)

    def rebuild(self) -> None:
        """Make anew what follows from the tables."""
        self._renumber()
        self.meet()
        self._build()
