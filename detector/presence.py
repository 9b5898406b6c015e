"""Pairs that appear and pairs that fall silent."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.parts import narrow
from detector.table import Column, Table
from probes.window import OTHER, Pair, is_rollup

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEW_ADOPT_S = 300.0
"""A new pair is part of the picture after five minutes."""
SUBSTANCE = 1.0
"""Connections, requests or attempts that make a new pair worth a word ..."""
SUBSTANCE_WITHIN_S = 30.0
"""... if they come within this time of its first row ..."""
SUBSTANCE_WINDOWS = 4.0
"""... and the pair was active in so many windows by then: a job that ran once is not a client."""
SERVER_HALF_LIFE_S, SERVER_NEWS = 3600.0, 2.0
"""A server port that had this many new clients within about an hour gets them all the time."""
HOST_HALF_LIFE_S, HOST_NEWS = 600.0, 6.0
"""Most new pairs told within about ten minutes: a burst of clients is one event, not dozens."""
GAP_WINDOWS = 5.0
GAP_FACTOR = 3.0
"""A silence is no news before it is this many times the longest one known."""
ACTIVE_WINDOWS = 20.0
GAP_MEMORY = 0.999
"""The longest silence known is forgotten by this factor per active window."""
BACK_WINDOWS = 3.0
RETURNS = 40.0
"""Silences that the chance of a return remembers: it follows the time of day ..."""
LEAST_RETURNS = 20.0
"""... and the lowest chance that so many have shown, and a standard error, is what counts: a quiet
hour comes back."""
FORGOTTEN_S = 30 * 86_400.0
"""In this time the lowest rises by a factor e."""
MOST_CHANCE = 0.94
"""No window of silence is more evidence than this chance of a return would make it."""
LEAST_NEWS = 1.2
"""By what factor a pair may become rarer without being news, as for any rate."""

QUIET, WAITING, NEW, GONE = 0, 1, 2, 3


class Presences(NamedTuple):
    """What a window did to pairs: indices of pairs by what became of them."""

    new: Ints
    new_ended: Ints
    gone: Ints
    back: Ints
    gone_adopted: Ints


class Presence:
    """Arrival law of new pairs per server port, and law of activity per pair.

    A pair's silence is judged against the chance h that it becomes active in a window in which
    it was not so in the last: learned from its own silences, so that a job that runs every
    minute is not missed between runs. The evidence is the length of the silence times
    -ln(1 - h), a geometric survival probability, with the lowest h of the last days, since a
    night's silences are longer than a day's; and no silence counts that is not several times the
    longest one known, because real silences are not geometric.

    Attributes:
        others: pairs that are many put together; one that may have been among them is not new.
    """

    def __init__(self) -> None:
        self.table = Table(
            {
                "state": Column("i1"),
                "since": Column("f8"),
                "substance": Column("f2"),
                "busy": Column("f2"),
                "arrival": Column("f4"),
                "active": Column("f4"),
                "windows": Column("f4"),
                "told": Column("f8"),
                "gap": Column("f4"),
                "gap_start": Column("f8", (), np.nan),
                "gap_windows": Column("f4"),
                "returns": Column("f4"),
                "lowest": Column("f8", (), np.inf),
                "longest": Column("f4"),
                "back": Column("f2"),
                "flaps": Column("f2"),
            }
        )
        self.arrivals: dict[str, tuple[float, float]] = {}
        self.others: Collection[Pair] = ()

    def add(self, pairs: list[Pair], time: float, *, told: bool, watched_s: float) -> None:
        """Add pairs seen for the first time; `told` when the host is past its warm-up."""
        at = self.table.grow(len(pairs))
        for i, pair in zip(at.tolist(), pairs, strict=True):
            self.table["since"][i] = time
            if is_rollup(pair):
                continue
            key = f"{pair.server}:{pair.port}/{pair.transport}"
            known = self._decayed(key, time, SERVER_HALF_LIFE_S)
            everywhere = self._decayed("", time, HOST_HALF_LIFE_S)
            if watched_s > 10.0:  # the first windows show who is there, not who comes
                self.arrivals[key] = (known + 1.0, time)
            if told:
                self.arrivals[""] = (everywhere + 1.0, time)
            hidden = bool(self.others) and not _others_of(pair).isdisjoint(self.others)
            if told and not hidden and known < SERVER_NEWS and everywhere < HOST_NEWS:
                self.table["state"][i] = WAITING
                self.table["arrival"][i] = (known + 0.5) / max(watched_s, 1.0)

    def _decayed(self, key: str, time: float, half_life_s: float) -> float:
        count, then = self.arrivals.get(key, (0.0, time))
        decayed: float = count * 0.5 ** (max(time - then, 0.0) / half_life_s)
        return decayed

    def forget(self, time: float) -> None:
        """Drop servers whose last new client is long past."""
        self.arrivals = {
            key: value
            for key, value in self.arrivals.items()
            if self._decayed(key, time, SERVER_HALF_LIFE_S) > 0.01
        }

    def update(
        self,
        at: Ints,
        *,
        events: Floats,
        active: NDArray[np.bool_],
        measured: NDArray[np.bool_],
        span: tuple[float, float],
        log_c: Floats,
        warmup_s: float,
        adopt_s: float,
    ) -> Presences:
        """Move on by one window.

        Args:
            at: int64[p], pairs that have rows in this window, ascending.
            events: float64[p], connections, requests and attempts in it.
            active: bool[p], whether anything moved.
            measured: bool[p], whether a rate was measured, without which silence means nothing.
            span: start and end of the window, epoch seconds.
            log_c: float64[p] or [1], thresholds, nats.
            warmup_s: shortest activity before a silence is judged.
            adopt_s: how long a silence lasts before it is the new normal.
        """
        start, end = span
        t, rows = self.table, narrow(at)
        new, new_ended = self._arrive(at, events, active, end)
        # Most pairs are active in every window, and only counted
        steady = measured & active & (t["gap"][rows] == 0) & (t["state"][rows] != GONE)
        t["active"][rows] += steady
        t["windows"][rows] += steady
        t["longest"][rows] *= np.where(steady, np.float32(GAP_MEMORY), np.float32(1.0))
        t["lowest"][rows] *= np.where(measured, 1.0 + (end - start) / FORGOTTEN_S, 1.0)
        others = np.flatnonzero(measured & ~steady)
        law, busy = at[others], active[others]
        log_c = log_c[others] if len(log_c) > 1 else log_c
        gone_now = t["state"][law] == GONE
        # While a silence is reported the law stands still
        learn, first = ~gone_now, ~busy & (t["gap"][law] == 0)
        t["gap_start"][law[first]] = start
        ended = learn & busy & (t["gap"][law] > 0)
        self._learn_returns(law[ended])
        # The longest is learned of reported ones too: the next of that length is no news
        over = busy & (t["gap"][law] > 0)
        longest = np.maximum(t["longest"][law], np.where(over, t["gap"][law], 0.0))
        t["longest"][law] = np.where(learn & busy, longest * GAP_MEMORY, longest)
        t["active"][law] += learn & busy
        t["windows"][law] += learn
        t["gap"][law] = np.where(busy, 0.0, t["gap"][law] + 1.0)
        nats = t["gap"][law] * self.nats_per_window(law)
        silent = (
            (t["state"][law] == QUIET)
            & (t["gap"][law] >= np.maximum(GAP_WINDOWS, GAP_FACTOR * t["longest"][law]))
            & (nats >= log_c)
            & (t["active"][law] >= ACTIVE_WINDOWS)
            & (t["gap_start"][law] - t["since"][law] >= warmup_s)
        )
        gone = law[silent]
        t["state"][gone], t["arrival"][gone], t["back"][gone] = GONE, nats[silent], 0.0
        t["windows"][gone] -= t["gap"][gone]
        t["told"][gone] = end
        t["back"][law] += gone_now & busy
        need = BACK_WINDOWS * 2.0 ** np.minimum(t["flaps"][law], 6.0)
        back = law[gone_now & (t["back"][law] >= need)]
        settled = gone_now & (t["back"][law] < need) & (end - t["told"][law] >= adopt_s)
        adopted = law[settled]
        self.close(back)
        t["flaps"][back] += 1.0
        self.close(adopted)
        names = ("active", "windows", "gap", "gap_windows", "returns", "lowest", "longest", "flaps")
        self.table.reset(adopted, names)
        return Presences(new, new_ended, gone, back, adopted)

    def nats_per_window(self, at: Ints) -> Floats:
        """Return how much evidence a window of silence is, of pairs `at`, float64[p]."""
        t = self.table
        before = np.maximum(t["windows"][at] - t["gap"][at], t["active"][at])
        share = (t["active"][at] + 0.5) / (before + 1.0)
        hazard = (t["returns"][at] + 4.0 * share) / (t["gap_windows"][at] + 4.0)
        lowest = np.clip(np.minimum(hazard, t["lowest"][at]), 0.0, MOST_CHANCE)
        nats: Floats = -np.log1p(-lowest) / LEAST_NEWS
        return nats

    def _learn_returns(self, ended: Ints) -> None:
        """Learn from the silences of pairs that have ended."""
        if not len(ended):
            return
        t = self.table
        returns = t["returns"][ended] + 1.0
        silent = t["gap_windows"][ended] + t["gap"][ended]
        fade = np.minimum(RETURNS / returns, 1.0)
        t["returns"][ended], t["gap_windows"][ended] = returns * fade, silent * fade
        known = ended[returns >= LEAST_RETURNS]
        many = t["returns"][known]
        chance = (many + np.sqrt(many)) / t["gap_windows"][known]
        t["lowest"][known] = np.minimum(t["lowest"][known], chance)

    def _arrive(
        self, at: Ints, events: Floats, active: NDArray[np.bool_], end: float
    ) -> tuple[Ints, Ints]:
        t = self.table
        rows = np.flatnonzero(t["state"][narrow(at)] == WAITING)
        waiting, events, active = at[rows], events[rows], active[rows]
        t["substance"][waiting] += np.minimum(events, SUBSTANCE)
        t["busy"][waiting] += active | (events > 0)
        enough = (t["substance"][waiting] >= SUBSTANCE) & (t["busy"][waiting] >= SUBSTANCE_WINDOWS)
        fired = waiting[enough]
        late = waiting[end - t["since"][waiting] > SUBSTANCE_WITHIN_S]
        known = np.flatnonzero(t["state"] == NEW)
        ended = known[end - t["since"][known] >= NEW_ADOPT_S]
        t["state"][late] = QUIET
        t["state"][fired] = NEW
        t["state"][ended] = QUIET
        return fired, ended

    def is_gone(self, i: int) -> bool:
        """Return whether the silence of pair `i` is being reported."""
        return bool(self.table["state"][i] == GONE)

    def is_active(self, i: int) -> bool:
        """Return whether anything moved between pair `i` in its last window."""
        return bool(self.table["gap"][i] == 0)

    def set_back(self, seconds: float) -> None:
        """Move what is remembered of times, because the clock was set back."""
        for name in ("since", "gap_start", "told"):
            self.table[name][:] -= seconds
        self.arrivals = {key: (n, then - seconds) for key, (n, then) in self.arrivals.items()}

    def close(self, at: Ints) -> None:
        """End what is reported of pairs `at`."""
        self.table["state"][at] = QUIET


def _others_of(pair: Pair) -> set[Pair]:
    """Return the pairs under which one may have been put: see `probes.places`."""
    return {
        Pair(OTHER, *pair[1:]),
        Pair(pair.client, OTHER, 0, pair.transport),
        Pair(OTHER, OTHER, 0, pair.transport),
    }
