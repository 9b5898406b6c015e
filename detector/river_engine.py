"""An engine of river's models: one drift detector, anomaly detector or forecast per stream.

Everything about a window that is not the model's is as the default engine has it: which windows
and rows are read, and how a change begins and ends. What river has no word for is left out: new
and silent pairs, causes, the side at fault, and the budget of false alerts.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from detector import standard, state
from detector.calibration import Calibration, Change
from detector.catalog import Catalog
from detector.engines import MAGIC, parse
from detector.finding import Direction, Finding, State, finding_id
from detector.intake import is_spoilt
from detector.river_models import factory, history_of
from detector.river_streams import ADOPT_S, CALM, HISTORY, Open, Streams
from detector.settings import DetectorSettings
from probes.window import UNITS, VIEWS, Kind, Pair, Window, is_other, kind_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STALE_S, STALE_WINDOWS = 180.0, 10.0
"""A firing stream without rows for this long, and this many windows, is over."""
PAUSED: Final = 1.5
"""A window this many times longer than asked for means that the host or the daemon was paused."""
FORGET_S: Final = 7 * 86_400.0
FORGET_EVERY: Final = 1024
SET_BACK_WINDOWS: Final = 5
"""Windows in a row that are not later than the last one seen: then the clock was set back."""
RESIZED_WINDOWS: Final = 5
WEEK_S: Final = 604_800.0
LEAST_CHANGE: Final = {
    Kind.COUNT: 0.2, Kind.SUM: 0.2, Kind.RATIO: 0.5, Kind.LATENCY: 0.1, Kind.GAUGE: 0.01,
}  # fmt: skip
"""Least relative change that is news, where the settings do not say."""
LEAST_RATIO: Final = 1e-3
NUMBER: Final = {kind: i for i, kind in enumerate(standard.KINDS)}


class RiverEngine:
    """Finds changes of service pairs by a model of river per stream.

    Args:
        settings: the knobs; `model` names the model.

    Raises:
        ValueError: there is no such model.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        self._settings, self._spec = settings, parse(settings.model)
        self._streams = Streams(factory(self._spec), history_of(self._spec, HISTORY))
        self._catalog = Catalog()
        self._scores: Floats = np.zeros(0)
        self._time, self._windows, self._behind = -math.inf, 0, 0
        self._step, self._resized = 0.0, 0
        self._small: dict[int, tuple[float, Change]] = {}
        kinds = [kind.value for kind in standard.KINDS]
        self._weeks, self._expected = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0.0)
        self._realised = dict.fromkeys(kinds, 0)

    def update(self, window: Window) -> list[Finding]:
        """As `detector.engines.Engine`."""
        self._scores = np.zeros(len(window))
        paused = window.width > PAUSED * window.nominal or window.width <= 0.0
        if not np.isfinite(window.time) or self._is_behind(window.time):
            return []
        self._time = window.time
        if paused or is_spoilt(window):
            return []
        step = _step_s(window)
        resized = self._is_resized(step, window.time)
        if self._resized:
            return resized
        self._windows += 1
        stream, row = self._rows(window)
        findings = resized + self._judge(window, stream, row)
        findings += self._close_stale(window.time + self._step)
        self._small = {
            i: small for i, small in self._small.items() if window.time - small[0] < ADOPT_S
        }
        if self._windows % FORGET_EVERY == 0:
            self._forget()
        return sorted(findings, key=_by_name)

    def scores(self) -> Floats:
        """As `detector.engines.Engine`: deviations or forecast errors, not probabilities."""
        return self._scores

    def firing(self) -> list[Finding]:
        """As `detector.engines.Engine`."""
        return sorted((change.finding for change in self._streams.open.values()), key=_by_name)

    def learning(self) -> tuple[int, int]:
        """As `detector.engines.Engine`."""
        judged = int((self._streams.table["scale"] > 0).sum())
        return self._streams.table.size - judged, judged

    def calibration(self) -> list[Calibration]:
        """As `detector.engines.Engine`; a kind that was never judged is left out.

        There is no theory behind a model of river here: its threshold is as its options say.
        """
        t = self._streams.table
        judged = np.bincount(t["kind"][t["scale"] > 0], minlength=len(standard.KINDS)).tolist()
        return [
            Calibration(
                kind=kind,
                streams=judged[number],
                stream_weeks=self._weeks[kind.value],
                expected=self._expected[kind.value],
                realised=self._realised[kind.value],
                e_value=math.nan,
                threshold="empirical",
                raised_nats=0.0,
            )
            for number, kind in enumerate(standard.KINDS)
            if self._weeks[kind.value] > 0
        ]

    def changes(self) -> list[Change]:
        """As `detector.engines.Engine`: what was seen, and is smaller than what is news."""
        changes = [change for _, change in self._small.values()]
        return sorted(changes, key=lambda change: (change.onset, change.pair, change.signal))

    # One window

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
            self._streams.set_back(back)
            self._small = {i: (at - back, change) for i, (at, change) in self._small.items()}
            self._time, self._behind = time, 0
        return True

    def _is_resized(self, step: float, time: float) -> list[Finding]:
        """Follow the length of windows, `step` seconds; return what ends because it has changed.

        What a stream remembers is in numbers per window. Some windows in a row of another length
        mean that the setting was changed: all is learned anew.
        """
        if math.isclose(step, self._step, rel_tol=0.05):
            self._resized = 0
            return []
        self._resized += 1
        if self._step > 0 and self._resized < RESIZED_WINDOWS:
            return []
        firing = sorted(self._streams.open)
        ended = [self._end(i, "adopted", time) for i in firing]
        self._streams.relearn()
        self._step, self._resized = step, 0
        return ended

    def _rows(self, window: Window) -> tuple[Ints, Ints]:
        """Return the streams of the rows that are read, ascending, and their rows."""
        kinds = np.array([NUMBER.get(kind_of(s), -1) for s in window.signals], np.int64)
        kinds[[s in VIEWS for s in window.signals]] = -1
        others = np.array([is_other(pair) for pair in window.pairs], bool)
        row = np.zeros(0, np.int64)
        if len(window):
            kind = kinds[window.signal]
            good = (kind >= 0) & standard.usable(kind, window.value, window.count)
            row = np.flatnonzero(good & ~others[window.pair])
        numbers = self._catalog.numbers(window.pairs)
        stream = self._catalog.find(window, numbers)[row]
        if (stream < 0).any():
            new, at = self._catalog.add(window, row[stream < 0])
            self._streams.table.grow(len(new))
            self._streams.table["kind"][new] = kinds[window.signal[at]]
            numbers = self._catalog.numbers(window.pairs)
            stream = self._catalog.find(window, numbers)[row]
        # Of a row that is there twice, the lower value
        order = np.lexsort((window.value[row], stream))
        stream, row = stream[order], row[order]
        first = np.ones(len(stream), bool)
        first[1:] = stream[1:] != stream[:-1]
        stream, row = stream[first], row[first]
        t = self._catalog.streams
        since = window.time - t["last"][stream]
        t["spacing"][stream] = (
            window.width if window.width > 0 else np.fmin(t["spacing"][stream], since)
        )
        t["last"][stream] = window.time
        self._catalog.pairs["last"][t["pair"][stream]] = window.time
        return stream, row

    def _judge(self, window: Window, stream: Ints, row: Ints) -> list[Finding]:
        streams, step = self._streams, self._step
        end = window.time + step
        kind = streams.table["kind"][stream].astype(np.int64)
        y = standard.transformed(kind, window.value[row], np.full(len(row), step))
        trials = np.where(kind == standard.RATIO, window.count[row], 0.0)
        # As they are remembered, so that a model rebuilt takes the same numbers
        y, trials = (a.astype(np.float32).astype(np.float64) for a in (y, trials))
        z = streams.deviations(stream, y, trials)
        spacing = self._catalog.streams["spacing"][stream]
        need = np.ceil(self._settings.warmup_s / np.where(spacing > 0, spacing, 1.0))
        self._count(kind[streams.table["scale"][stream] > 0], step)
        findings = []
        rows = zip(*(a.tolist() for a in (stream, row, y, trials, z, need)), strict=True)
        for i, r, value, n, off, least in rows:
            if i in streams.open:
                self._scores[r] = _score(abs(off) / 3.0)
                if how := streams.follow(i, value, n, off, end):
                    findings.append(self._end(i, cast("State", how), end))
            elif streams.is_learning(i):
                streams.learn(i, value, n, need=int(least))
            else:
                verdict = streams.judge(i, value, n, off)
                self._scores[r] = _score(verdict.strength)
                if verdict.alarm:
                    findings += self._alarm(i, window.time, end)
        return findings

    def _count(self, kind: Ints, step: float) -> None:
        if not len(kind):
            return
        number = np.bincount(kind, minlength=len(standard.KINDS)).tolist()
        for each, judged in zip(standard.KINDS, number, strict=True):
            share = judged / len(kind) * step / WEEK_S
            self._weeks[each.value] += judged * step / WEEK_S
            self._expected[each.value] += self._settings.false_alerts_per_week * share

    def _alarm(self, i: int, start: float, end: float) -> list[Finding]:
        """Return the finding that an alarm is, if it is large enough to be one."""
        streams = self._streams
        onset = streams.onset(i)
        number, seconds = int(streams.table["kind"][i]), end - start
        before, after = (
            standard.level(number, y, seconds) for y in streams.before_and_after(i, onset)
        )
        pair, signal = self._names(i)
        direction: Direction = "up" if onset.shift > 0 else "down"
        spacing = float(self._catalog.streams["spacing"][i])
        began = start - (onset.windows - 1) * (spacing if spacing > 0 else seconds)
        least = self._settings.min_change.get(
            signal,
            self._settings.min_change.get(kind_of(signal).value, LEAST_CHANGE[kind_of(signal)]),
        )
        floor = LEAST_RATIO if number == standard.RATIO else 1e-12
        news = abs(after - before) >= least * max(abs(before), floor)
        if not news or abs(onset.shift) < CALM:
            change = Change(pair, signal, direction, began, onset.nats, before, after)
            self._small[i] = (start, change)
            streams.adopt(i, onset)
            return []
        finding = Finding(
            id=finding_id(pair, signal, direction, began),
            pair=pair,
            signal=signal,
            direction=direction,
            onset=began,
            detected=end,
            before=before,
            after=after,
            ratio=_ratio(before, after),
            unit=UNITS.get(signal, ""),
            significance=0.0,
            cause="",
            state="firing",
            evidence={
                "found by": str(self._spec),
                "shift, in the stream's own deviations": onset.shift,
                "windows since the onset": float(onset.windows),
                "baseline, windows": float(streams.table["filled"][i] - onset.windows),
            },
        )
        streams.fire(i, finding, onset)
        self._realised[kind_of(signal).value] += 1
        return [finding]

    def _end(self, i: int, how: State, end: float) -> Finding:
        streams = self._streams
        after = standard.level(int(streams.table["kind"][i]), streams.after(i), self._step)
        finding = streams.end(i, how, end)
        ratio = _ratio(cast("float", finding.before), after)
        return dataclasses.replace(finding, state=how, ended=end, after=after, ratio=ratio)

    def _close_stale(self, end: float) -> list[Finding]:
        t, findings = self._catalog.streams, []
        for i in sorted(self._streams.open):
            limit = max(STALE_S, STALE_WINDOWS * float(np.nan_to_num(t["spacing"][i])))
            if end - t["last"][i] > limit:
                findings.append(self._end(i, "resolved", end))
        return findings

    def _names(self, i: int) -> tuple[Pair, str]:
        pair = int(self._catalog.streams["pair"][i])
        return self._catalog.pair_of[pair], self._catalog.signal_of(i)

    def _forget(self) -> None:
        """Drop pairs that have not been seen for long, with their streams."""
        kept = ~(self._time - self._catalog.pairs["last"] > FORGET_S)
        if kept.all():
            return
        stays = kept[self._catalog.streams["pair"]]
        number = np.cumsum(stays) - 1
        self._small = {int(number[i]): small for i, small in self._small.items() if stays[i]}
        self._streams.keep(stays)
        self._catalog.keep(stays, kept)

    # State

    def to_bytes(self) -> bytes:
        """As `detector.engines.Engine`: histories and baselines; models are rebuilt from them."""
        tables = {
            "streams": self._catalog.streams,
            "pairs": self._catalog.pairs,
            "own": self._streams.table,
        }
        arrays = {
            f"{name}.{column}": array
            for name, table in tables.items()
            for column, array in table.state().items()
        }
        meta = {
            "time": self._time,
            "windows": self._windows,
            "behind": self._behind,
            "step": self._step,
            "resized": self._resized,
            "pairs": [list(pair) for pair in self._catalog.pair_of],
            "signals": self._catalog.signals,
            "open": [[i, change.to_state()] for i, change in sorted(self._streams.open.items())],
            "small": [[i, at, list(change)] for i, (at, change) in sorted(self._small.items())],
            "weeks": self._weeks,
            "expected": self._expected,
            "realised": self._realised,
        }
        return MAGIC + str(self._spec).encode() + b"\n" + state.pack(meta, arrays)

    @classmethod
    def from_bytes(cls, data: bytes, settings: DetectorSettings) -> RiverEngine:
        """Return the engine whose `to_bytes` gave `data`.

        Raises:
            ValueError: when `data` is damaged, of a newer version, or another model's.
        """
        self = cls(settings)
        line, _, packed = data.partition(b"\n")
        if line != MAGIC + str(self._spec).encode():
            raise ValueError(f"not the state of the model {self._spec}; remove it to start afresh")
        meta, arrays = state.unpack(packed)
        try:
            self._load(meta, arrays)
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"the engine's state is incomplete: {error!r}") from error
        return self

    def _load(self, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        def columns(name: str) -> dict[str, NDArray[Any]]:
            prefix = f"{name}."
            return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}

        self._catalog.streams.load(columns("streams"))
        self._catalog.pairs.load(columns("pairs"))
        self._catalog.restore([Pair(*pair) for pair in meta["pairs"]], meta["signals"])
        self._streams.table.load(columns("own"))
        self._streams.open = {i: Open.from_state(change) for i, change in meta["open"]}
        self._small = {
            i: (at, Change(Pair(*pair), *rest)) for i, at, (pair, *rest) in meta["small"]
        }
        self._time, self._windows, self._behind = meta["time"], meta["windows"], meta["behind"]
        self._weeks, self._expected = meta["weeks"], meta["expected"]
        self._step, self._resized = meta["step"], meta["resized"]
        self._realised = meta["realised"]


def _step_s(window: Window) -> float:
    return next((w for w in (window.nominal, window.width) if w > 0), 1.0)


def _score(strength: float) -> float:
    return strength / (1.0 + strength)


def _ratio(before: float, after: float) -> float | None:
    ratio = after / before if before > 0 else math.nan
    return ratio if math.isfinite(ratio) else None


def _by_name(finding: Finding) -> tuple[object, ...]:
    return (finding.onset, finding.pair, finding.signal, finding.direction, finding.state)
