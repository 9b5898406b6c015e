"""Streams under suspicion: runs of evidence, what is told, and how it ends.

Few streams are suspect at a time, so what only they need stands in a table of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.parts import Moment, Obs
from detector.table import Column, Table

if TYPE_CHECKING:
    from detector.bank import Bank

Floats = NDArray[Any]
Ints = NDArray[np.int64]

RECOVERED = 14.0
"""Nats of evidence for the baseline, against the change, that end a finding: a lull in failures
that come by chance is not the end of them."""
RECOVERY_WINDOWS = 5
LEAST_TOLD = 4
"""Windows after which it is looked at again what a change is, and at each doubling."""
FLAP_S = 900.0
"""A change within this time of the last one's end is flapping: the next end takes twice as long."""
MOST_FLAPS = 2.0
"""So often at most. What flaps for hours is one incident; a finding ends soon, so that the next
trouble of the stream is another."""
ADOPT_WINDOWS = 30
MOST_BACK = 60.0
"""Windows that an onset may lie before suspicion arose."""
FELL, FELL_NATS, RISEN_NATS = 0.5, 3.0, 1.0
"""Evidence that has fallen to half of what it was, by so many nats, was of something else: what
comes then begins where it rises again, by so many."""


class Suspects(NamedTuple):
    """Rows of a window: those under suspicion, and those whose evidence passed the threshold.

    Attributes:
        hot: int64[h], rows, ascending.
        alarm: int64[a], rows, ascending; each is among the hot ones.
        mass: float32[a], R of these.
    """

    hot: Ints
    alarm: Ints
    mass: Floats


class Outcome(NamedTuple):
    """What a window did to a bank's streams.

    Attributes:
        fired: numbers of streams that began to fire.
        resolved: numbers of streams that returned to their baseline.
        adopted: numbers of streams whose change became the baseline.
        score: float64[m], anomaly score in [0, 1] per row, if wanted.
        health: mean of one window's e-value over some of the quiet streams (<= 1 when the null
            holds); NaN without such a stream.
        judged: number of streams that were judged.
        allowed: false alarms that the thresholds allow these in this window.
    """

    fired: Ints
    resolved: Ints
    adopted: Ints
    score: Floats
    health: float
    judged: int = 0
    allowed: float = 0.0


class Episodes:
    """What is known of suspect streams.

    `table` columns, ordered by `of`: `of` (number of the stream), `start` (of the run of evidence,
    epoch s; NaN without), `up`, `run`, `seconds`, `windows` (sums over it), `first` (nats at its
    first window), `peak` (most of them), `floor` (those that something else left); `fire` (1, -1;
    0 when nothing is told), `best` (alternative), `onset`, `detected`, `nats`, `told_windows`,
    `recovery`, `calm`, `flaps`, `ended`.
    """

    def __init__(self, run: int) -> None:
        self.table = Table(
            {
                "of": Column("i8"),
                "start": Column("f8", (), np.nan),
                "up": Column("i1"),
                "run": Column("f8", (run,)),
                "seconds": Column("f8"),
                "windows": Column("f4"),
                "first": Column("f4"),
                "peak": Column("f4"),
                "floor": Column("f4"),
                "fire": Column("i1"),
                "best": Column("i1"),
                "onset": Column("f8"),
                "detected": Column("f8"),
                "nats": Column("f4"),
                "told_windows": Column("f4"),
                "recovery": Column("f4"),
                "calm": Column("f4"),
                "flaps": Column("f4"),
                "ended": Column("f8", (), -np.inf),
            }
        )

    def find(self, stream: int) -> int:
        """Return the row of a stream; -1 when it is not here."""
        row = int(np.searchsorted(self.table["of"], stream))
        there = row < self.table.size and self.table["of"][row] == stream
        return row if there else -1

    def rows_for(self, streams: Ints) -> Ints:
        """Return the rows of streams (ascending), after adding those that are missing."""
        t = self.table
        new = streams[~np.isin(streams, t["of"])]
        if len(new):
            fresh = t.grow(len(new))
            t["of"][fresh] = new
            t.order(np.argsort(t["of"], kind="stable"))
        rows: Ints = np.searchsorted(t["of"], streams)
        return rows

    def present(self, at: Ints) -> tuple[Ints, Ints]:
        """Return the rows whose streams are among `at` (ascending), and where in it they are."""
        of = self.table["of"]
        if not len(of) or not len(at):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        # of one type, so that the longer one is not copied
        place = np.minimum(np.searchsorted(at, of.astype(at.dtype)), len(at) - 1)
        here = np.flatnonzero(at[place] == of)
        return here, place[here]

    def follow(self, bank: Bank, at: Ints, obs: Obs, moment: Moment, suspects: Suspects) -> Outcome:
        """Move on by one window; `at` are the streams of its rows."""
        t, none = self.table, np.zeros(0, np.int64)
        hot = at[suspects.hot]
        self.rows_for(hot)
        here, rows = self.present(at)
        if not len(here):
            return Outcome(none, none, none, none, np.nan)
        streams, part = t["of"][here], obs.take(rows)
        firing = t["fire"][here] != 0
        statistics = bank.statistics(streams, part)
        spacing = moment.spacing_of(rows).astype(np.float64)
        self._run(bank, here, np.isin(streams, hot), (statistics, spacing), moment)
        resolved, adopted = none, none
        if firing.any():
            told = np.flatnonzero(firing)
            log_l = bank.log_l(streams[told], part.take(told))
            resolved, adopted = self._recover(
                bank, here[told], log_l, (statistics[:, told], spacing[told]), moment
            )
        alarmed = at[suspects.alarm]
        if len(alarmed):
            spaced = moment.spacing_of(suspects.alarm).astype(np.float64)
            self._fire(bank, np.searchsorted(t["of"], alarmed), suspects.mass, spaced, moment)
            bank.silence(alarmed)
        self.prune(moment.end)
        return Outcome(alarmed, resolved, adopted, none, np.nan)

    def _run(
        self,
        bank: Bank,
        here: Ints,
        hot: NDArray[np.bool_],
        added: tuple[Floats, Floats],
        moment: Moment,
    ) -> None:
        """Sum over each run of evidence in one direction."""
        t = self.table
        r = bank.table["r"][:, t["of"][here]]
        up = r[bank.up].sum(axis=0) >= r[~bank.up].sum(axis=0)
        nats = np.log(np.maximum(r.mean(axis=0), 1.0))
        goes_on = hot & (t["up"][here] == up) & ~np.isnan(t["start"][here])
        peak, floor = t["peak"][here], t["floor"][here]
        fell = goes_on & (nats <= FELL * peak) & (peak - nats >= FELL_NATS)
        rests = goes_on & (floor > 0.0) & (nats < floor + RISEN_NATS)
        goes_on &= ~(fell | rests)
        begins, ends = hot & ~goes_on, ~hot & (t["fire"][here] == 0)
        on, new = here[goes_on], here[begins]
        t["run"][:, on] += added[0][:, goes_on]
        t["seconds"][on] += added[1][goes_on]
        t["windows"][on] += 1.0
        t["run"][:, new], t["seconds"][new] = added[0][:, begins], added[1][begins]
        t["windows"][new], t["start"][new], t["up"][new] = 1.0, moment.time, up[begins]
        left = np.where(fell, nats, np.where(rests, np.minimum(nats, floor), 0.0))
        t["first"][new], t["floor"][new], t["peak"][new] = nats[begins], left[begins], nats[begins]
        t["peak"][on] = np.maximum(peak, nats)[goes_on]
        t["start"][here[ends]] = np.nan

    def _fire(self, bank: Bank, rows: Ints, mass: Floats, spacing: Floats, moment: Moment) -> None:
        t = self.table
        nats = np.log(mass.astype(np.float64))
        # Evidence grew evenly from the onset on: suspicion arose when some of it was there
        growth = (nats - t["first"][rows]) / np.maximum(t["windows"][rows] - 1.0, 1.0)
        growth = np.where(t["windows"][rows] > 1.0, np.maximum(growth, 1e-3), np.inf)
        gained = t["first"][rows] - t["floor"][rows]
        before = np.clip(np.floor(gained / growth - 0.5), 0.0, MOST_BACK)
        before = np.maximum(before, bank.forgiven(t["of"][rows]))
        again = moment.time - t["ended"][rows] < FLAP_S
        t["flaps"][rows] = np.where(again, t["flaps"][rows] + 1.0, 0.0)
        t["onset"][rows] = t["start"][rows] - before * spacing
        t["fire"][rows] = np.where(t["up"][rows] > 0, 1, -1)
        self._explain(bank, rows)
        t["detected"][rows], t["nats"][rows] = moment.end, nats
        t.reset(rows, ("told_windows", "recovery", "calm"))

    def _explain(self, bank: Bank, rows: Ints) -> None:
        """Find the alternatives that explain the changes of rows best."""
        t = self.table
        for row in rows.tolist():
            up = bool(t["fire"][row] > 0)
            t["best"][row] = bank.best(int(t["of"][row]), bank.run_of(row), up=up)

    def _recover(
        self,
        bank: Bank,
        rows: Ints,
        log_l: Floats,
        added: tuple[Floats, Floats],
        moment: Moment,
    ) -> tuple[Ints, Ints]:
        t = self.table
        # The change as it was must be refuted, and so must any smaller one of its direction
        side = bank.up[:, None] == (t["fire"][rows] > 0)
        any_change = np.where(side, log_l, -np.inf).max(axis=0, initial=-np.inf)
        against = log_l[t["best"][rows].astype(np.int64), np.arange(len(rows))]
        against = np.where(any_change > 0, any_change, against)
        recovery = np.maximum(t["recovery"][rows] - np.maximum(against, -3.0), 0.0)
        calm = np.where(recovery > 0, t["calm"][rows] + 1.0, 0.0)
        t["recovery"][rows], t["calm"][rows] = recovery, calm
        t["told_windows"][rows] += 1.0
        lasts = calm == 0
        t["run"][:, rows[lasts]] += added[0][:, lasts]
        t["seconds"][rows[lasts]] += added[1][lasts]
        # What was found soon may be less, or more, than it seemed to be
        told = t["told_windows"][rows].astype(np.int64)
        self._explain(bank, rows[lasts & (told >= LEAST_TOLD) & (told & (told - 1) == 0)])
        hold = RECOVERY_WINDOWS * 2.0 ** np.minimum(t["flaps"][rows], MOST_FLAPS)
        back = (recovery >= RECOVERED) & (calm >= hold)
        lasting = moment.end - t["detected"][rows] >= moment.adopt_s
        settled = ~back & lasting & (t["told_windows"][rows] >= ADOPT_WINDOWS)
        resolved, adopted = t["of"][rows[back]], t["of"][rows[settled]]
        bank.came_back(resolved, t["run"][:, rows[back]])
        self.end(bank, rows[back | settled], moment.end)
        return resolved, adopted

    def close(self, bank: Bank, streams: Ints, time: float) -> None:
        """End the changes of streams, for a reason outside their own rows."""
        rows = np.searchsorted(self.table["of"], streams)
        self.end(bank, rows, time)

    def end(self, bank: Bank, rows: Ints, time: float) -> None:
        """End what is told of rows."""
        t = self.table
        t["fire"][rows], t["ended"][rows], t["start"][rows] = 0, time, np.nan
        bank.resume(t["of"][rows])

    def prune(self, end: float) -> None:
        """Drop rows that nothing needs any more."""
        t = self.table
        needed = (t["fire"] != 0) | ~np.isnan(t["start"]) | (end - t["ended"] < FLAP_S)
        if not needed.all():
            t.keep(needed)

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Drop the streams that are not marked; numbers close up."""
        t = self.table
        stays = which[t["of"]]
        number = np.cumsum(which) - 1
        t["of"][:] = number[t["of"]]
        t.keep(stays)

    def set_back(self, seconds: float) -> None:
        """Move what is remembered of times, because the clock was set back."""
        for name in ("start", "onset", "detected", "ended"):
            self.table[name][:] -= seconds
