"""The streams of a river engine: what each remembers, and the life of its changes.

A model of river cannot be saved without pickle, so it is never saved: it always is what a fresh
one would be after the stream's history, a bounded number of windows against a baseline that is
kept. When the history is full the oldest goes, the baseline is taken anew and so is the model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector import report
from detector.finding import Finding
from detector.river_models import Judge, Verdict
from detector.standard import CLIP, Baseline, baseline, deviations, mean
from detector.table import Column, Table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HISTORY: Final = 256
"""Windows that a model is rebuilt from at least; up to three times as many at most."""
LEAST_WINDOWS: Final = 30
RECOVERED: Final = 5.0
"""Nats of evidence for the baseline, against the change, that end it."""
RECOVERY_WINDOWS: Final = 5
FLAP_S: Final = 900.0
"""A change within this time of the last one's end is flapping: the next end takes twice as long."""
ADOPT_S: Final = 600.0
ADOPT_WINDOWS: Final = 30
CALM: Final = 0.5
"""Deviations off the baseline that are none."""


class Onset(NamedTuple):
    """Where a change began: how many windows ago, its size in deviations, and evidence in nats."""

    windows: int
    shift: float
    nats: float


@dataclass(slots=True)
class Open:
    """A change that fires.

    Attributes:
        finding: as it was told.
        told: end of the window in which it was, epoch seconds.
        shift: its size in deviations, never 0.
        values, trials: the windows since its onset, transformed; the last ones.
        windows, recovery, calm: windows since it was told, nats for the baseline, and how many
            windows in a row those have been above 0.
    """

    finding: Finding
    told: float
    shift: float
    values: list[float]
    trials: list[float]
    windows: int = 0
    recovery: float = 0.0
    calm: int = 0

    def to_state(self) -> dict[str, Any]:
        """Return JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**values, "finding": report.to_state(self.finding)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Open:
        """Return what `to_state` was given."""
        return cls(**{**state, "finding": report.from_state(state["finding"])})


@dataclass(slots=True)
class Streams:
    """All streams, numbered as the catalog numbers them.

    Columns: `kind`; `filled` windows in `y` and `trials`, transformed and oldest first; `based`
    windows behind the baseline, its `location` and `scale` (0: still learning); `judged` windows;
    `ended` (epoch s) and `flaps` of its changes.

    Attributes:
        make: makes a fresh model.
        history: windows that a model is rebuilt from at least.
    """

    make: Callable[[], Judge]
    history: int = HISTORY
    table: Table = field(init=False)
    open: dict[int, Open] = field(default_factory=dict)
    _judges: dict[int, Judge] = field(default_factory=dict)

    def __post_init__(self) -> None:
        room = (3 * self.history,)
        self.table = Table(
            {
                "kind": Column("i1"),
                "filled": Column("i4"),
                "y": Column("f4", room),
                "trials": Column("f4", room),
                "based": Column("i4"),
                "location": Column("f8"),
                "scale": Column("f8"),
                "judged": Column("f8"),
                "ended": Column("f8", (), -np.inf),
                "flaps": Column("i4"),
            }
        )

    def is_learning(self, i: int) -> bool:
        """Return whether stream `i` has no baseline yet."""
        return not self.table["scale"][i] > 0

    def deviations(self, at: Ints, y: Floats, trials: Floats) -> Floats:
        """Return by how many scales the streams `at` are off; 0 while they learn."""
        t = self.table
        scale = t["scale"][at]
        known = scale > 0
        z = np.zeros(len(at))
        z[known] = deviations(
            t["kind"][at][known].astype(np.int64), y[known], trials[known],
            t["location"][at][known], scale[known],
        )  # fmt: skip
        return z

    def learn(self, i: int, y: float, trials: float, *, need: int) -> None:
        """Remember a window of a stream without a baseline; `need` windows make one."""
        self._remember(i, y, trials)
        if self.table["filled"][i] >= max(need, LEAST_WINDOWS):
            self._rebase(i)

    def judge(self, i: int, y: float, trials: float, z: float) -> Verdict:
        """Take a window of a stream that is judged and does not fire."""
        judge = self._judges.get(i)
        if judge is None:
            judge = self._judges[i] = self.make()
            for value in self._past(i).tolist():
                judge.update(value)
        verdict = judge.update(z)
        self._remember(i, y, trials)
        self.table["judged"][i] += 1
        if not verdict.alarm:
            self._renew(i)
        return verdict

    def _renew(self, i: int) -> None:
        """Take the baseline anew when there is twice as much to take it from, or too much."""
        filled, based = int(self.table["filled"][i]), int(self.table["based"][i])
        if based < self.history:
            if filled >= 2 * based:
                self._rebase(i)
        # Not all streams in the same window
        elif filled >= 2 * self.history + i % self.history:
            self._keep_last(i, self.history)
            self._rebase(i)

    def onset(self, i: int) -> Onset:
        """Return where the change that a model has just seen began.

        The most likely point for a shift of one deviation and then for its size, in both
        directions: the largest sum over the last windows of the log-likelihood ratio of normals.
        """
        past = self._past(i)[::-1]
        count = np.arange(1, len(past) + 1)
        best = Onset(1, 0.0, -math.inf)
        for side in (1.0, -1.0):
            windows = int(np.argmax(np.cumsum(side * past - 0.5))) + 1
            size = max(float(side * past[:windows].mean()), 0.5)
            gain = np.cumsum(size * (side * past - 0.5 * size))
            windows = int(np.argmax(gain)) + 1
            if gain[windows - 1] > best.nats:
                shift = float(past[:windows].mean())
                best = Onset(int(count[windows - 1]), shift, float(gain[windows - 1]))
        return best

    def before_and_after(self, i: int, onset: Onset) -> tuple[float, float]:
        """Return the baseline and the level since the onset, both transformed."""
        t = self.table
        filled = int(t["filled"][i])
        since = slice(filled - onset.windows, filled)
        after = mean(
            int(t["kind"][i]), t["y"][since, i].astype(float), t["trials"][since, i].astype(float)
        )
        return float(t["location"][i]), after

    def fire(self, i: int, finding: Finding, onset: Onset) -> None:
        """Set the windows since the onset apart from the baseline's."""
        t = self.table
        again = finding.detected - t["ended"][i] < FLAP_S
        t["flaps"][i] = t["flaps"][i] + 1 if again else 0
        filled = int(t["filled"][i])
        kept = filled - onset.windows
        shift = math.copysign(min(max(abs(onset.shift), 2 * CALM), CLIP), onset.shift)
        values, trials = (t[name][i, kept:filled].tolist() for name in ("y", "trials"))
        last = slice(-self.history, None)
        self.open[i] = Open(finding, finding.detected, shift, values[last], trials[last])
        for name in ("y", "trials"):
            t[name][i, kept:] = 0.0
        t["filled"][i] = kept
        self._judges.pop(i, None)

    def follow(self, i: int, y: float, trials: float, z: float, end: float) -> str:
        """Take a window of a stream that fires; return "resolved", "adopted" or "" (it goes on)."""
        change = self.open[i]
        change.windows += 1
        size = abs(change.shift)
        against = size * (0.5 * size - math.copysign(1.0, change.shift) * z)
        change.recovery = max(change.recovery + min(against, 3.0), 0.0)
        change.calm = change.calm + 1 if change.recovery > 0 else 0
        hold = RECOVERY_WINDOWS * 2.0 ** min(int(self.table["flaps"][i]), 6)
        if change.recovery >= RECOVERED and change.calm >= hold:
            return "resolved"
        change.values.append(float(np.float32(y)))
        change.trials.append(float(np.float32(trials)))
        del change.values[: -self.history], change.trials[: -self.history]
        lasting = end - change.told >= ADOPT_S and change.windows >= ADOPT_WINDOWS
        return "adopted" if lasting else ""

    def after(self, i: int) -> float:
        """Return the level since the onset of the change that fires, transformed."""
        change = self.open[i]
        # The last windows may be of the return already
        n = max(len(change.values) - change.calm, 1)
        kind = int(self.table["kind"][i])
        return mean(kind, np.array(change.values[:n]), np.array(change.trials[:n]))

    def end(self, i: int, how: str, end: float) -> Finding:
        """Close the change of stream `i`; return the finding as it was told.

        Resolved, the stream goes on from the windows before the onset; adopted, from those after.
        """
        change = self.open.pop(i)
        self.table["ended"][i] = end
        if how == "adopted":
            self._forget(i)
            for y, trials in zip(change.values, change.trials, strict=True):
                self._remember(i, y, trials)
        self._rebase_or_learn(i)
        return change.finding

    def adopt(self, i: int, onset: Onset) -> None:
        """Take a change that is no news for the new baseline at once."""
        self._keep_last(i, onset.windows)
        self._rebase_or_learn(i)

    def relearn(self) -> None:
        """Forget what all streams remember; none may fire."""
        every = np.arange(self.table.size)
        self.table.reset(every, ("filled", "y", "trials", "based", "location", "scale"))
        self._judges.clear()

    def set_back(self, seconds: float) -> None:
        """Move what is remembered of times, because the clock was set back."""
        self.table["ended"][:] -= seconds
        for change in self.open.values():
            change.told -= seconds

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Drop the streams that are not marked; numbers close up."""
        number = np.cumsum(rows) - 1
        self.table.keep(rows)
        self.open = {int(number[i]): change for i, change in self.open.items() if rows[i]}
        self._judges.clear()

    # A stream's history

    def _past(self, i: int) -> Floats:
        t = self.table
        n = int(t["filled"][i])
        return self.deviations(
            np.full(n, i), t["y"][:n, i].astype(float), t["trials"][:n, i].astype(float)
        )

    def _remember(self, i: int, y: float, trials: float) -> None:
        t = self.table
        n = int(t["filled"][i])
        if n == t["y"].shape[0]:
            self._keep_last(i, self.history)
            n = self.history
        t["y"][n, i], t["trials"][n, i], t["filled"][i] = y, trials, n + 1

    def _keep_last(self, i: int, windows: int) -> None:
        t = self.table
        n = int(t["filled"][i])
        windows = min(windows, n)
        for name in ("y", "trials"):
            t[name][:windows, i] = t[name][n - windows : n, i].copy()
            t[name][windows:, i] = 0.0
        t["filled"][i] = windows

    def _forget(self, i: int) -> None:
        self.table.reset(np.array([i]), ("filled", "y", "trials"))

    def _rebase_or_learn(self, i: int) -> None:
        t = self.table
        if t["filled"][i] >= LEAST_WINDOWS:
            self._rebase(i)
        else:
            t["location"][i] = t["scale"][i] = 0.0
            self._judges.pop(i, None)

    def _rebase(self, i: int) -> None:
        t = self.table
        n = int(t["filled"][i])
        now: Baseline = baseline(
            int(t["kind"][i]), t["y"][:n, i].astype(float), t["trials"][:n, i].astype(float)
        )
        t["location"][i], t["scale"][i] = now
        t["based"][i] = n
        self._judges.pop(i, None)
