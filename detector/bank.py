"""What every model of streams shares: evidence per window, and learning by blocks.

A bank holds all streams of one kind. Per window it gets the rows of its streams at once and
says which began to fire and which ended. A model adds what is particular to a kind: what is
learned of a window, the null with its band, and the log-likelihood ratios. The state is float32
and the work is done in parts that fit the processor's cache; what only streams under suspicion
need stands in `detector.episodes`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector import evidence
from detector.blocks import (
    BLOCK,
    FIRING,
    JUDGED,
    LEARNING,
    LEAST_MEMORY,
    MEMORY_S,
    PHASE,
    Blocks,
)
from detector.episodes import Episodes, Outcome, Suspects
from detector.parts import At, Moment, Obs, parts, rows_of
from detector.seasons import Seasons
from detector.settings import DetectorSettings
from detector.table import Column, Table

Floats = NDArray[Any]
Ints = NDArray[np.int64]

FADE_S, FADE_WINDOWS = 20.0, 10.0
"""Half-life of evidence while a stream has no rows, the longer of both."""


class Description(NamedTuple):
    """One stream's change in numbers: baseline, level since the onset, and the reasons."""

    before: float
    after: float
    evidence: dict[str, float | str]


class Run(NamedTuple):
    """What has been summed over a change: float64[stats] statistics, and seconds."""

    statistics: Floats
    seconds: float


class Bank(Blocks):
    """Streams of one kind.

    Class attributes:
        run: number of statistics of a window that a change is described by.
        up: bool[K], which alternatives are increases.
        columns: further columns of the model.
        kept: of those, what a new baseline does not change.
        pause_s: longest pause that is no change, seconds.
    """

    run: ClassVar[int] = 3
    up: ClassVar[NDArray[np.bool_]]
    columns: ClassVar[Mapping[str, Column]] = {}
    kept: ClassVar[tuple[str, ...]] = ()
    pause_s: ClassVar[float] = evidence.PAUSE_S

    def __init__(self) -> None:
        self.table = Table(
            {
                "r": Column("f4", (len(self.up),)),
                "judged": Column("f4"),
                "born": Column("f4"),
                **self.block_columns(),
                **self.columns,
            }
        )
        self.episodes = Episodes(self.run)
        self.seasons = Seasons(self.table, self.level, falls=self.falls)

    # What a model adds

    @abstractmethod
    def configure(self, at: Ints, signals: Sequence[str], settings: DetectorSettings) -> None:
        """Set what depends on the signal's name, of new streams."""

    @abstractmethod
    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[run, m]: additive over windows; the last row is 1."""

    @abstractmethod
    def log_l(self, at: At, obs: Obs) -> Floats:
        """Return float32[K, m], the caller's own: ln L of this window from the band's edge."""

    @abstractmethod
    def absorb(self, at: At, obs: Obs) -> None:
        """Add a window to the block that is open."""

    @abstractmethod
    def ready(self, at: At, age: Floats, spacing: Floats, warmup_s: float) -> NDArray[np.bool_]:
        """Return which streams have learned enough to be judged; `age` of their pairs, s."""

    @abstractmethod
    def describe(self, i: int, run: Run, *, best: int, up: bool) -> Description:
        """Explain stream `i`, whose change summed up to `run`."""

    @abstractmethod
    def best(self, i: int, run: Run, *, up: bool) -> int:
        """Return the alternative that explains a run best, of those in its direction."""

    def score(self, at: At, obs: Obs, strength: Floats) -> Floats:  # noqa: ARG002 - for models
        """Return anomaly scores in [0, 1]; `strength` is evidence in units of the threshold."""
        return strength / (1.0 + strength)

    # What all share

    def add(self, born: Floats, signals: Sequence[str], settings: DetectorSettings) -> Ints:
        """Add streams that begin to learn when their pairs are `born` seconds old."""
        at = self.table.grow(len(born))
        self.table["born"][at] = born
        # Blocks of many streams that came together shall not all end in the same window
        self.table["left"][at] = BLOCK - (at // PHASE) % BLOCK
        self.configure(at, signals, settings)
        self.refresh(at)
        return at

    def learned_windows(self, at: At) -> Floats:
        """Return how many windows stand behind each baseline."""
        windows: Floats = self.table["base"][-1, at]
        return windows

    def update(self, at: Ints, obs: Obs, moment: Moment) -> Outcome:
        """Take one row per stream of `at` (ascending, unique) and move on by one window."""
        self.memory = max(LEAST_MEMORY, MEMORY_S / _median(moment.spacing))
        hot, alarms, masses = [], [], []
        scores = np.zeros(len(at)) if moment.scored else np.zeros(0)
        health, judged, allowed, cuts = np.nan, 0, 0.0, parts(at)
        for number, (low, high, part) in enumerate(cuts):
            seen, now = obs.part(low, high), moment.part(low, high)
            log_l = self.log_l(part, seen)
            best = log_l.max(axis=0) if moment.scored else None
            mass, live = self._step(part, log_l, now)
            judged += int(np.count_nonzero(live))
            allowed += now.allowed(live)
            if number == moment.number % len(cuts):
                health = _mean_e_value(log_l, mass, live)
            suspects, alarm = now.suspects(mass)
            hot.append(low + suspects)
            alarms.append(low + alarm)
            masses.append(mass[alarm])
            if best is not None:
                nats = np.log(np.maximum(mass, 1e-30))
                best[self.table["live"][part] == LEARNING] = 0.0
                strength = np.maximum(np.maximum(nats, best), 0.0) / now.log_c
                scores[low:high] = self.score(part, seen, strength)
            self.absorb(part, seen)
            self._close_blocks(part, suspects)
        found = Suspects(_joined(hot), _joined(alarms), _joined(masses))
        outcome = self.episodes.follow(self, at, obs, moment, found)
        return outcome._replace(score=scores, health=health, judged=judged, allowed=allowed)

    def _step(self, at: At, log_l: Floats, now: Moment) -> tuple[Floats, NDArray[np.bool_]]:
        """Move the evidence on; return float32[m] its mean over alternatives, and who is judged."""
        t = self.table
        waiting = np.flatnonzero(t["live"][at] == LEARNING)
        if len(waiting):
            ids = rows_of(at, waiting)
            ready = self.ready(ids, now.age(waiting), now.spacing_of(waiting), now.warmup_s)
            t["live"][ids[ready]] = JUDGED
        live = t["live"][at] == JUDGED
        r = t["r"][:, at]
        if now.idle is not None and len(waited := np.flatnonzero(now.idle)):
            # Evidence fades over silence: three bursts hours apart are not one change
            half_life = np.maximum(FADE_S, FADE_WINDOWS * now.spacing_of(waited))
            r[:, waited] *= np.exp2(-now.idle[waited] / half_life).astype(np.float32)
        evidence.step(r, log_l, now.cap)
        if not live.all():
            r[:, ~live] = 0.0
        mass = np.add.reduce(r, axis=0)
        mass *= np.float32(1.0 / len(self.up))
        if not isinstance(at, slice):
            t["r"][:, at] = r
        t["judged"][at] += live
        return mass, live

    def relearn(self, at: Ints, age: Floats) -> None:
        """Forget the baselines of streams `at`, whose pairs are `age` seconds old."""
        t = self.table
        names = {name for triple in self._carried for name in triple} | set(self.columns)
        learned = tuple(sorted(names - set(self.kept)))
        t.reset(at, ("r", "live", "held_back", "wide", "spread", *learned))
        t["born"][at] = age
        self.refresh(at)

    def silence(self, at: Ints) -> None:
        """Drop the evidence and what waits to be learned, of streams that begin to fire."""
        self.table.reset(at, ("r", *(n for now, held, _ in self._carried for n in (now, held))))
        self.table["live"][at] = FIRING

    def resume(self, at: Ints) -> None:
        """Judge streams `at` again, whose change is over."""
        self.table["live"][at] = JUDGED

    def run_of(self, row: int) -> Run:
        """Return what was summed over the change in a row of `episodes`."""
        t = self.episodes.table
        return Run(t["run"][:, row].copy(), float(t["seconds"][row]))

    def set_back(self, seconds: float) -> None:
        """Move what is remembered of times, because the clock was set back."""
        self.episodes.set_back(seconds)

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Drop every stream that is not marked."""
        self.table.keep(which)
        self.episodes.keep(which)


def _joined(rows: list[Any]) -> Any:
    return np.concatenate(rows) if rows else np.zeros(0, np.int64)


def _median(spacing: Floats) -> float:
    return float(spacing[0] if len(spacing) == 1 else np.median(spacing))


def _mean_e_value(e_values: Floats, mass: Floats, live: NDArray[np.bool_]) -> float:
    """Return the mean e-value of this window, over judged streams that are quiet."""
    quiet = live & (mass < np.e)
    return float(np.minimum(e_values[:, quiet], np.e).mean()) if quiet.any() else float("nan")
