"""The detector: windows in, findings out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector import feed, state
from detector.blocks import LEARNING
from detector.calibration import Calibration, Change
from detector.finding import Finding
from detector.intake import Intake, Plan, is_spoilt
from detector.ledger import Ledger
from detector.observe import RATIO, Reading, activity, observe
from detector.parts import Moment, narrow
from detector.presence import Presence
from detector.repeats import Repeats
from detector.rollup import Rollups
from detector.settings import DetectorSettings
from detector.told import Told
from probes.window import Kind, Pair, Window, is_rollup

Ints = NDArray[np.int64]
Floats = NDArray[Any]

ADOPT_S = 600.0
"""A change that lasts this long is the new normal."""
PAUSED = 1.5
"""A window this many times longer than asked for means that the host or the daemon was paused."""
FORGET_S = 7 * 86_400.0
"""A pair not seen for this long is forgotten, and new if it comes back."""
FORGET_EVERY = 1024
REWEIGH_EVERY = 64
"""The budget is shared out anew once in so many windows."""
SET_BACK_WINDOWS = 5
"""Windows in a row that are not later than the last one seen: then the clock was set back."""
KIND_OF_MODEL = (Kind.COUNT, Kind.SUM, Kind.RATIO, Kind.LATENCY, Kind.GAUGE)


class Learning(NamedTuple):
    """How far the detector is: streams that are still learning, and streams that are judged."""

    learning: int
    judged: int


class Detector:
    """Finds significant changes of service pairs, online.

    Args:
        settings: the knobs.
        scored: whether `scores` is wanted, which costs a third more.
    """

    def __init__(
        self,
        settings: DetectorSettings = DetectorSettings(),  # noqa: B008 - frozen
        *,
        scored: bool = True,
    ) -> None:
        self._settings, self._scored = settings, scored
        self._intake = Intake(settings)
        self._catalog, self._banks = self._intake.catalog, self._intake.banks
        self._presence = Presence()
        self._ledger = Ledger(settings.false_alerts_per_week)
        self._told = Told(self._catalog, self._banks, self._presence)
        self._rollups = Rollups(self._catalog, self._banks, settings)
        self._repeats = Repeats()
        self._scores: Floats = np.zeros(0)
        self._time = -np.inf
        self._watched_s, self._windows, self._behind = 0.0, 0, 0

    def update(self, window: Window) -> list[Finding]:
        """Take the next window; return findings that began ("firing") or ended in it.

        A window that is not later than the last one, that lost more than a few of its samples,
        or that a pause stretched is not read: it neither alarms nor teaches.
        """
        self._scores = np.zeros(len(window))
        paused = window.width > PAUSED * window.nominal or window.width <= 0.0
        if not np.isfinite(window.time) or self._is_behind(window.time):
            return []
        self._time = window.time
        if paused or is_spoilt(window):
            return []
        self._windows += 1
        for bank in self._banks:
            bank.seasons.time = window.time
        plan = self._intake.plan(window)
        length, readings = self._intake.readings(window, plan)
        end = window.time + length
        firing = self._told.firing_streams()
        sums = self._rollups.window(window, plan, readings, self._windows, firing)
        plan_of_sums = None if sums is None else self._rollups.intake.plan(sums)
        self._meet_pairs(told=self._watched_s >= self._settings.warmup_s)
        self._told.follow_sides(window, plan)
        findings, used = self._judge_all(window, plan, readings, end)
        findings += self._follow_pairs(window, used, (window.time, end))
        if sums is not None and plan_of_sums is not None:
            findings += self._judge_sums(sums, plan_of_sums, end)
        findings += self._told.close_stale(end)
        self._watched_s += length
        if self._windows % REWEIGH_EVERY == 0 or self._ledger.streams != self._catalog.streams.size:
            self._ledger.share_out(self._catalog, self._time)
        if self._windows % FORGET_EVERY == 0:
            self._forget()
        findings = self._rollups.told(findings, self._told.open.values())
        return sorted(self._repeats.told(findings, self._told_openly()), key=_by_name)

    def scores(self) -> Floats:
        """Return the last window's anomaly scores, float64[rows] in [0, 1], in its row order.

        They are all 0 if the detector was made not to score.
        """
        return self._scores

    def firing(self) -> list[Finding]:
        """Return the findings that have not ended."""
        told = (f for f in self._told_openly() if f.id not in self._repeats.muted)
        return sorted(told, key=_by_name)

    def _told_openly(self) -> list[Finding]:
        muted = self._rollups.muted
        return [f for f in self._told.open.values() if f.id not in muted]

    def learning(self) -> Learning:
        """Return how many streams are still learning and how many are judged."""
        judged = sum(int((bank.table["live"] != LEARNING).sum()) for bank in self._banks)
        return Learning(self._catalog.streams.size - judged, judged)

    def calibration(self) -> list[Calibration]:
        """Return for each kind of signal whether its streams keep the promise."""
        return self._ledger.calibration(self._banks)

    def changes(self) -> list[Change]:
        """Return the streams that are significant at a false discovery rate: shown, not paged."""
        return feed.changes(self._catalog, self._banks)

    # One window, step by step

    def _is_behind(self, time: float) -> bool:
        """Return whether a window is not later than the last; after some, the clock was set."""
        if time > self._time:
            self._behind = 0
            return False
        self._behind += 1
        if self._behind >= SET_BACK_WINDOWS:
            back = self._time - time
            self._catalog.streams["last"][:] -= back
            for name in ("first", "last"):
                self._catalog.pairs[name][:] -= back
            self._presence.set_back(back)
            for bank in self._banks:
                bank.set_back(back)
            self._time, self._behind = time, 0
        return True

    def _meet_pairs(self, *, told: bool) -> None:
        known = self._presence.table.size
        fresh = self._catalog.pair_of[known:]
        if fresh:
            self._presence.others = self._intake.others
            self._presence.add(fresh, self._time, told=told, watched_s=self._watched_s)

    def _judge_all(
        self, window: Window, plan: Plan, readings: list[Reading], end: float
    ) -> tuple[list[Finding], dict[int, Reading]]:
        """Return what the models found, and the rows that they could use."""
        findings: list[Finding] = []
        used = {}
        for model, reading in enumerate(readings):
            if len(reading.value):
                some, used[model] = self._judge(model, (window, plan), reading, end)
                findings += some
        return findings, used

    def _judge_sums(self, sums: Window, plan: Plan, end: float) -> list[Finding]:
        scores, self._scores = self._scores, np.zeros(len(sums))
        _, readings = self._rollups.intake.readings(sums, plan)
        findings, _ = self._judge_all(sums, plan, readings, end)
        self._scores = scores
        self._catalog.pairs["last"][plan.numbers[sums.pair]] = sums.time
        return findings

    def _judge(
        self, model: int, of: tuple[Window, Plan], reading: Reading, end: float
    ) -> tuple[list[Finding], Reading]:
        window, plan = of
        t, bank, kind = self._catalog.streams, self._banks[model], KIND_OF_MODEL[model]
        reading, obs = observe(model, window, reading)
        part, spacing = reading.part, reading.spacing
        if not len(part.row):
            return [], reading
        first, of_pair, at = self._catalog.pairs["first"], t["pair"], narrow(part.stream)
        known = np.where(spacing > 0, spacing, np.float32(1.0))
        moment = Moment(
            time=window.time,
            end=end,
            number=self._windows,
            log_c=self._ledger.log_c(known, t["weight"][at] - t["habit"][at], kind),
            spacing=known,
            idle=reading.idle,
            age=lambda rows: end - first[of_pair[part.stream[rows]]],
            warmup_s=self._settings.warmup_s,
            adopt_s=ADOPT_S,
            scored=self._scored,
            alternatives=len(bank.up),
            pause_s=bank.pause_s,
        )
        outcome = bank.update(part.at, obs, moment)
        if self._scored:
            self._scores[part.row] = outcome.score
        if is_rollup(window.pairs[0]):
            # A few sums do not speak for all streams of the kind
            outcome = outcome._replace(health=np.nan)
        self._ledger.note(kind, outcome, float(known.mean()))
        if model == RATIO:
            # before it is told: a single window may be enough
            self._told.count_causes(window, plan)
        return self._told.streams(bank, part, outcome, moment), reading

    def _follow_pairs(
        self, window: Window, used: dict[int, Reading], span: tuple[float, float]
    ) -> list[Finding]:
        if not any(len(reading.value) for reading in used.values()):
            return []
        pairs = self._catalog.pairs
        seen = activity(window, used, self._catalog)
        at = narrow(seen.pair)
        pairs["last"][at] = window.time
        pairs["traffic"][at] += 0.01 * (seen.events - pairs["traffic"][at])
        out = self._presence.update(
            seen.pair,
            events=seen.events,
            active=seen.active,
            measured=seen.measured,
            span=span,
            log_c=self._ledger.log_c(seen.width, np.zeros(1), Kind.PRESENCE),
            warmup_s=self._settings.warmup_s,
            adopt_s=ADOPT_S,
        )
        return self._told.presences(out, span[1])

    def _forget(self) -> None:
        """Drop pairs that have not been seen for long, with their streams."""
        self._presence.forget(self._time)
        pairs, streams = self._catalog.pairs, self._catalog.streams
        kept = ~(self._time - pairs["last"] > FORGET_S)
        if kept.all():
            return
        stays = kept[streams["pair"]]
        for number, bank in enumerate(self._banks):
            mine = streams["bank"] == number
            rows = np.zeros(bank.table.size, dtype=bool)
            rows[streams["local"][mine & stays]] = True
            streams["local"][mine] = (np.cumsum(rows) - 1)[streams["local"][mine]]
            bank.keep(rows)
        self._presence.table.keep(kept)
        self._told.keep(stays, kept)
        self._rollups.members.keep(stays)
        self._catalog.keep(stays, kept)
        self._rollups.members.rebuild()
        self._intake.forget_plan()
        self._rollups.intake.forget_plan()

    # State

    def to_bytes(self) -> bytes:
        """Return the whole state; a detector restored from it continues as if never stopped."""
        tables = {
            "streams": self._catalog.streams,
            "pairs": self._catalog.pairs,
            "presence": self._presence.table,
            "sides": self._told.sides.table,
            "rollups": self._rollups.members.table,
            **{f"bank{i}": bank.table for i, bank in enumerate(self._banks)},
            **{f"episodes{i}": bank.episodes.table for i, bank in enumerate(self._banks)},
        }
        arrays = {
            f"{name}.{column}": array
            for name, table in tables.items()
            for column, array in table.state().items()
        }
        meta = {
            "time": self._time,
            "watched_s": self._watched_s,
            "windows": self._windows,
            "behind": self._behind,
            "pairs": [list(pair) for pair in self._catalog.pair_of],
            "signals": self._catalog.signals,
            "arrivals": self._presence.arrivals,
            "ledger": self._ledger.to_state(),
            **self._told.to_state(),
            "muted": sorted(self._rollups.muted),
            "repeated": sorted(self._repeats.muted),
            "improved": [[*k[0], k[1], n] for k, n in self._repeats.improved.items()],
        }
        return state.pack(meta, arrays)

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        settings: DetectorSettings = DetectorSettings(),  # noqa: B008 - frozen
        *,
        scored: bool = True,
    ) -> Detector:
        """Return the detector whose `to_bytes` gave `data`.

        Raises:
            ValueError: when `data` is damaged, of a newer version, or not a detector's state.
        """
        meta, arrays = state.unpack(data)
        self = cls(settings, scored=scored)
        try:
            self._load(meta, arrays)
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"the detector's state is incomplete: {error!r}") from error
        return self

    def _load(self, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        def columns(name: str) -> dict[str, NDArray[Any]]:
            prefix = f"{name}."
            return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}

        self._catalog.streams.load(columns("streams"))
        self._catalog.pairs.load(columns("pairs"))
        self._catalog.restore([Pair(*pair) for pair in meta["pairs"]], meta["signals"])
        self._presence.table.load(columns("presence"))
        self._told.sides.table.load(columns("sides"))
        self._rollups.members.table.load(columns("rollups"))
        self._rollups.members.rebuild()
        self._rollups.muted = set(meta["muted"])
        self._repeats.muted = set(meta["repeated"])
        self._repeats.improved = {
            (Pair(*pair), signal): times for *pair, signal, times in meta["improved"]
        }
        for i, bank in enumerate(self._banks):
            bank.table.load(columns(f"bank{i}"))
            bank.episodes.table.load(columns(f"episodes{i}"))
        self._presence.arrivals = {k: (a, b) for k, (a, b) in meta["arrivals"].items()}
        self._ledger.load(meta["ledger"])
        self._told.load(meta)
        self._time, self._watched_s = meta["time"], meta["watched_s"]
        self._windows, self._behind = meta["windows"], meta["behind"]


def _by_name(finding: Finding) -> tuple[object, ...]:
    return (finding.onset, finding.pair, finding.signal, finding.direction, finding.state)
