"""What every model of streams shares: learning by blocks, evidence, and the life of a change.

A bank holds all streams of one kind. Per window it gets the rows of its streams at once and
says which began to fire and which ended. A model adds what is particular to a kind: sufficient
statistics, the null with its band, and the log-likelihood ratios.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector import evidence
from detector.table import Column, Table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Obs = Mapping[str, NDArray[Any]]

BLOCK = 5.0
"""Windows per block. A block is learned two to three blocks late, unless suspicion arose."""
SUSPICION = 3.0
"""Nats of evidence for a change that keep the last blocks from the baseline."""
SUPER = 4.0
"""Blocks per super-block, which shows slower wander than a block can."""
MEMORY = 3600.0
"""Windows the baseline remembers: it follows the time of day, not a fault of some minutes."""
RUN = 3.0
"""R above which a run of evidence counts as begun: the onset of a change, if one is found."""
FADE_S, FADE_WINDOWS = 20.0, 10.0
"""Half-life of evidence while a stream has no rows, the longer of both."""
HELD_BACK = 12
"""Blocks in a row that suspicion may keep from the baseline; then they are learned, clipped."""
RECOVERED = 5.0
"""Nats of evidence for the baseline, against the change, that end a finding."""
RECOVERY_WINDOWS = 5
FLAP_S = 900.0
"""A change within this time of the last one's end is flapping: the next end takes twice as long."""
ADOPT_WINDOWS = 30


class Moment(NamedTuple):
    """What the engine knows about the rows of a window beyond their values.

    Attributes:
        time: start of the window, epoch seconds.
        end: end of the window.
        log_c: float64[m], threshold of each row's stream, nats.
        spacing: float64[m], seconds between windows of each row's stream.
        idle: float64[m], seconds without a row since the last one of each row's stream.
        age: float64[m], seconds for which each row's pair has been watched.
        warmup_s: shortest history before a stream is judged.
        adopt_s: how long a change lasts before it is the new baseline.
    """

    time: float
    end: float
    log_c: Floats
    spacing: Floats
    idle: Floats
    age: Floats
    warmup_s: float
    adopt_s: float


class Outcome(NamedTuple):
    """What a window did to a bank's streams.

    Attributes:
        fired: indices of streams that began to fire.
        resolved: indices of streams that returned to their baseline.
        adopted: indices of streams whose change became the baseline.
        score: float64[m], anomaly score in [0, 1] per row.
        health: mean of one window's e-value over quiet streams (<= 1 when the null holds);
            NaN without such a stream.
    """

    fired: Ints
    resolved: Ints
    adopted: Ints
    score: Floats
    health: float


class Description(NamedTuple):
    """One stream's change in numbers: baseline, level since the onset, and the reasons."""

    before: float
    after: float
    evidence: dict[str, float | str]


class Bank(ABC):
    """Streams of one kind.

    Class attributes:
        stats: number of sufficient statistics per window; the last one is the constant 1.
        extras: number of statistics of blocks.
        up: bool[K], which alternatives are increases.
        columns: further columns of the model.
        capped: whether one window's evidence is bounded, so that a pause alone cannot fire.
    """

    stats: ClassVar[int]
    extras: ClassVar[int]
    up: ClassVar[NDArray[np.bool_]]
    columns: ClassVar[Mapping[str, Column]] = {}
    capped: ClassVar[bool] = True

    def __init__(self) -> None:
        many, k = self.stats, len(self.up)
        self.table = Table(
            {
                "r": Column("f8", (k,)),
                "judged": Column("f8"),
                "fire": Column("i1"),
                "best": Column("i2"),
                "onset": Column("f8"),
                "detected": Column("f8"),
                "nats": Column("f8"),
                "fired_windows": Column("f8"),
                "recovery": Column("f8"),
                "calm": Column("f8"),
                "flaps": Column("f8"),
                "ended": Column("f8", (), -np.inf),
                "born": Column("f8"),
                "run": Column("f8", (many,)),
                "run_log_l": Column("f8", (k,)),
                "run_start": Column("f8", (), np.nan),
                "run_up": Column("i1"),
                "current": Column("f8", (many,)),
                "held": Column("f8", (many,)),
                "older": Column("f8", (many,)),
                "held_back": Column("i2"),
                "base": Column("f8", (many,)),
                "extra": Column("f8", (self.extras,)),
                "super": Column("f8", (many,)),
                **self.columns,
            }
        )

    # What a model adds

    @abstractmethod
    def statistics(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[m, stats]: additive over windows; the last column is 1."""

    @abstractmethod
    def log_l(self, at: Ints, obs: Obs) -> Floats:
        """Return float64[m, K]: ln L of this window against the band's edge."""

    @abstractmethod
    def ready(self, at: Ints, moment: Moment) -> NDArray[np.bool_]:
        """Return which streams have learned enough to be judged."""

    @abstractmethod
    def block_extras(self, at: Ints, block: Floats, *, long: bool) -> Floats:
        """Return float64[m, extras]: what a finished block (`long`: super-block) adds."""

    @abstractmethod
    def refresh(self, at: Ints) -> None:
        """Recompute the null of streams whose baseline has moved."""

    @abstractmethod
    def describe(self, i: int, run: Floats) -> Description:
        """Explain stream `i`, whose change has the sufficient statistics `run`."""

    def clip_block(self, at: Ints, block: Floats) -> Floats:  # noqa: ARG002 - for the models
        """Return the block with its influence on a learned baseline bounded."""
        return block

    def score(self, at: Ints, obs: Obs, strength: Floats) -> Floats:  # noqa: ARG002 - for the models
        """Return anomaly scores in [0, 1]; `strength` is evidence in units of the threshold."""
        return strength / (1.0 + strength)

    def track(self, at: Ints, obs: Obs) -> None:  # noqa: B027 - optional
        """Learn what a model learns from single windows, after they have been judged."""

    # What all share

    def add(self, more: int, born: Floats) -> Ints:
        """Add streams that begin to learn when their pair is `born` seconds old."""
        at = self.table.grow(more)
        self.table["born"][at] = born
        self.refresh(at)
        return at

    def learned_windows(self, at: Ints) -> Floats:
        """Return how many windows stand behind each baseline."""
        windows: Floats = self.table["base"][at, -1]
        return windows

    def enough_windows(self, at: Ints, moment: Moment, least: float) -> NDArray[np.bool_]:
        """Return which baselines hold `least` windows and the warm-up's length of them."""
        need = np.maximum(np.ceil(moment.warmup_s / moment.spacing), least)
        done: NDArray[np.bool_] = self.learned_windows(at) >= need
        return done

    def update(self, at: Ints, obs: Obs, moment: Moment) -> Outcome:
        """Take one row per stream of `at` (ascending, unique) and move on by one window."""
        t = self.table
        statistics, log_l = self.statistics(at, obs), self.log_l(at, obs)
        ready, firing = self.ready(at, moment), t["fire"][at] != 0
        judged = ready & ~firing
        most = evidence.window_cap(moment.log_c, moment.spacing)
        cap = most if self.capped else moment.log_c + 1.0
        # Evidence fades over silence: three bursts hours apart are not one change
        fade = 0.5 ** (moment.idle / np.maximum(FADE_S, FADE_WINDOWS * moment.spacing))
        r = evidence.step(t["r"][at] * fade[:, None], log_l, cap)
        r = np.where(judged[:, None], r, 0.0)
        mass = r.mean(axis=1)
        rising = np.where(self.up, r, 0.0).sum(axis=1) >= np.where(self.up, 0.0, r).sum(axis=1)
        quiet = judged & (mass < np.e)
        health = np.exp(np.clip(log_l[quiet], -50.0, 1.0)).mean() if quiet.any() else np.nan
        t["r"][at] = r
        t["judged"][at] += judged
        self._follow_runs(at, judged & (mass > RUN), rising, (statistics, log_l), moment.time)
        nats = np.log(np.maximum(mass, 1e-300))
        alarm = judged & (nats >= moment.log_c)
        self._learn(at, statistics, ready, ~firing & ~alarm, nats > SUSPICION)
        self._fire(at[alarm], nats[alarm], moment)
        resolved, adopted = self._recover(at[firing], log_l[firing], statistics[firing], moment)
        best = np.where(ready, log_l.max(axis=1), 0.0)
        strength = np.maximum(np.maximum(nats, best), 0.0) / moment.log_c
        score = self.score(at, obs, strength)
        self.track(at, obs)
        return Outcome(at[alarm], resolved, adopted, score, float(health))

    def close(self, at: Ints, time: float) -> None:
        """End the changes of streams `at`, for a reason outside their own rows."""
        self._end(at, time)

    def set_back(self, seconds: float) -> None:
        """Move what is remembered of times, because the clock was set back."""
        for name in ("detected", "ended", "run_start"):
            self.table[name][:] -= seconds

    def relearn(self, at: Ints, age: Floats) -> None:
        """Forget the baselines of streams `at`, whose pairs are `age` seconds old."""
        learned = ("base", "extra", "super", "current", "held", "older", "held_back")
        self.table.reset(at, ("r", "run", "run_log_l", "run_start", *learned, *self.columns))
        self.table["born"][at] = age
        self.refresh(at)

    def _follow_runs(
        self,
        at: Ints,
        inside: NDArray[np.bool_],
        up: NDArray[np.bool_],
        added: tuple[Floats, Floats],
        time: float,
    ) -> None:
        """Sum statistics and ln L, uncapped, over each run of evidence in one direction."""
        t = self.table
        goes_on = inside & (t["run_up"][at] == up) & ~np.isnan(t["run_start"][at])
        begins, ends = inside & ~goes_on, ~inside & (t["fire"][at] == 0)
        for name, rows in zip(("run", "run_log_l"), added, strict=True):
            t[name][at[goes_on]] += rows[goes_on]
            t[name][at[begins]] = rows[begins]
            t[name][at[ends]] = 0.0
        t["run_start"][at[begins]] = time
        t["run_up"][at[begins]] = up[begins]
        t["run_start"][at[ends]] = np.nan

    def _learn(
        self,
        at: Ints,
        rows: Floats,
        ready: NDArray[np.bool_],
        calm: NDArray[np.bool_],
        suspicious: NDArray[np.bool_],
    ) -> None:
        t = self.table
        t["current"][at[calm]] += rows[calm]
        full = calm & (t["current"][at, -1] >= BLOCK)
        if not full.any():
            return
        early = at[full & ~ready]
        if len(early):
            self._commit(early, t["current"][early])
            t["current"][early] = 0.0
        doubted = full & ready & suspicious & (t["held_back"][at] < HELD_BACK)
        t["held_back"][at[doubted]] += 1
        for name in ("older", "held", "current"):
            t[name][at[doubted]] = 0.0
        late = at[full & ready & ~doubted]
        if len(late):
            t["held_back"][late] = 0
            known = late[t["older"][late, -1] > 0]
            if len(known):
                self._commit(known, self.clip_block(known, t["older"][known]))
            t["older"][late] = t["held"][late]
            t["held"][late] = t["current"][late]
            t["current"][late] = 0.0

    def _commit(self, at: Ints, block: Floats) -> None:
        t = self.table
        fade = np.minimum(1.0, MEMORY / (t["base"][at, -1] + block[:, -1]))[:, None]
        t["base"][at] = t["base"][at] * fade + block
        t["extra"][at] = t["extra"][at] * fade + self.block_extras(at, block, long=False)
        t["super"][at] += block
        whole = t["super"][at, -1] >= SUPER * BLOCK
        if whole.any():
            done = at[whole]
            t["extra"][done] += self.block_extras(done, t["super"][done], long=True)
            t["super"][done] = 0.0
        self.refresh(at)

    def _fire(self, at: Ints, nats: Floats, moment: Moment) -> None:
        t = self.table
        # R is capped per window; the uncapped sum knows how far the change goes
        side = self.up == (t["run_up"][at] > 0)[:, None]
        best = np.where(side, t["run_log_l"][at], -np.inf).argmax(axis=1)
        again = moment.time - t["ended"][at] < FLAP_S
        t["flaps"][at] = np.where(again, t["flaps"][at] + 1.0, 0.0)
        t["best"][at] = best
        t["fire"][at] = np.where(self.up[best], 1, -1)
        t["onset"][at] = t["run_start"][at]
        t["detected"][at] = moment.end
        t["nats"][at] = nats
        self.table.reset(at, ("r", "fired_windows", "recovery", "calm", "current", "held", "older"))

    def _recover(self, at: Ints, log_l: Floats, rows: Floats, moment: Moment) -> tuple[Ints, Ints]:
        t = self.table
        # The change as it was must be refuted, and so must any smaller one of its direction
        side = self.up == (t["fire"][at] > 0)[:, None]
        any_change = np.where(side, log_l, -np.inf).max(axis=1, initial=-np.inf)
        against = log_l[np.arange(len(at)), t["best"][at]]
        against = np.where(any_change > 0, any_change, against)
        recovery = np.maximum(t["recovery"][at] - np.maximum(against, -3.0), 0.0)
        calm = np.where(recovery > 0, t["calm"][at] + 1.0, 0.0)
        t["recovery"][at], t["calm"][at] = recovery, calm
        t["fired_windows"][at] += 1.0
        t["run"][at[calm == 0]] += rows[calm == 0]
        hold = RECOVERY_WINDOWS * 2.0 ** np.minimum(t["flaps"][at], 6.0)
        back = (recovery >= RECOVERED) & (calm >= hold)
        lasting = moment.end - t["detected"][at] >= moment.adopt_s
        settled = ~back & lasting & (t["fired_windows"][at] >= ADOPT_WINDOWS)
        resolved, adopted = at[back], at[settled]
        self._end(resolved, moment.end)
        self._end(adopted, moment.end)
        return resolved, adopted

    def _end(self, at: Ints, time: float) -> None:
        self.table["fire"][at] = 0
        self.table["ended"][at] = time
