"""The detector: windows in, findings out."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector import report, state
from detector.bank import Bank, Moment
from detector.causes import Causes
from detector.evidence import log_threshold
from detector.finding import Finding, State
from detector.health import Health
from detector.intake import Intake, is_spoilt
from detector.observe import (
    Rows,
    activity,
    observe,
)
from detector.presence import Presence
from detector.settings import DetectorSettings
from detector.sides import Side, Sides
from probes.window import Kind, Pair, Window

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ADOPT_S = 600.0
"""A change that lasts this long is the new normal."""
STALE_S, STALE_WINDOWS = 180.0, 10.0
"""A firing stream without rows for this long, and this many windows, is over."""
MENDED_S = 10.0
"""The same for a stream whose last window already spoke for its baseline."""
PAUSED = 1.5
"""A window this many times longer than asked for means that the host or the daemon was paused."""
FORGET_S = 7 * 86_400.0
"""A pair not seen for this long is forgotten, and new if it comes back."""
FORGET_EVERY = 1024
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
    """

    def __init__(self, settings: DetectorSettings = DetectorSettings()) -> None:  # noqa: B008 - frozen
        self._settings = settings
        self._intake = Intake()
        self._catalog, self._banks = self._intake.catalog, self._intake.banks
        self._presence = Presence()
        self._health = Health()
        self._open: dict[tuple[str, int], Finding] = {}
        self._causes = Causes()
        self._sides = Sides()
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
        rows = self._intake.rows(window)
        told = self._watched_s >= self._settings.warmup_s
        span = (window.time, window.time + self._intake.step(window, rows))
        self._meet_pairs(told=told)
        self._follow_sides(window)
        findings: list[Finding] = []
        for model in range(len(self._banks)):
            findings += self._judge(model, window, rows, span[1])
        findings += self._follow_pairs(window, rows, span)
        findings += self._close_stale(span[1])
        self._watched_s += span[1] - span[0]
        if self._windows % FORGET_EVERY == 0:
            self._forget()
        return sorted(findings, key=_by_name)

    def scores(self) -> Floats:
        """Return the last window's anomaly scores, float64[rows] in [0, 1], in its row order."""
        return self._scores

    def firing(self) -> list[Finding]:
        """Return the findings that have not ended."""
        return sorted(self._open.values(), key=_by_name)

    def learning(self) -> Learning:
        """Return how many streams are still learning and how many are judged."""
        judged = sum(int((bank.table["judged"] > 0).sum()) for bank in self._banks)
        return Learning(self._catalog.streams.size - judged, judged)

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

    def _log_c(self, spacing: Floats, penalty: float = 0.0) -> Floats:
        streams = self._catalog.streams.size + self._catalog.pairs.size
        known = np.where(spacing > 0, spacing, 1.0)
        return log_threshold(streams, known, self._settings.false_alerts_per_week) + penalty

    def _judge(self, model: int, window: Window, rows: Rows, end: float) -> list[Finding]:
        t, bank = self._catalog.streams, self._banks[model]
        mine = t["bank"][rows.stream] == model
        if not mine.any():
            return []
        rows = rows.only(mine)
        known, obs = observe(model, window, rows)
        rows = rows.only(known)
        kind = KIND_OF_MODEL[model]
        # Local numbers ascend with stream numbers: both are given out in the same order
        at = t["local"][rows.stream]
        first = self._catalog.pairs["first"][t["pair"][rows.stream]]
        moment = Moment(
            window.time,
            end,
            self._log_c(rows.width, self._health.penalty.get(kind, 0.0)),
            np.where(rows.width > 0, rows.width, 1.0),
            rows.idle,
            end - first,
            self._settings.warmup_s,
            ADOPT_S,
        )
        outcome = bank.update(at, obs, moment)
        self._scores[rows.row] = outcome.score
        if outcome.health == outcome.health:
            self._health.update(kind, outcome.health)
        self._count_causes(window, rows, bank.table["run_start"][at])
        if not (len(outcome.fired) or len(outcome.resolved) or len(outcome.adopted)):
            return []
        stream_of = dict(zip(at.tolist(), rows.stream.tolist(), strict=True))
        log_c_of = dict(zip(at.tolist(), moment.log_c.tolist(), strict=True))
        findings = []
        for i in outcome.fired.tolist():
            number = stream_of[i]
            finding = report.changed(
                bank,
                i,
                pair=self._pair(number),
                signal=self._catalog.signal_of[number],
                log_c=log_c_of[i],
                cause=(cause := self._causes.main(number)),
                side=self._side(number, bank.table["fire"][i] > 0, cause),
            )
            self._open["stream", number] = finding
            findings.append(finding)
        findings += [self._end(stream_of[i], "resolved", end) for i in outcome.resolved.tolist()]
        findings += [self._end(stream_of[i], "adopted", end) for i in outcome.adopted.tolist()]
        if len(outcome.adopted):
            age = dict(zip(at.tolist(), moment.age.tolist(), strict=True))
            for i in outcome.adopted.tolist():
                self._sides.adopt(int(t["pair"][stream_of[i]]))
            bank.relearn(outcome.adopted, np.array([age[i] for i in outcome.adopted.tolist()]))
        return findings

    def _follow_sides(self, window: Window) -> None:
        of_pair = self._catalog.streams["pair"]
        changed = {int(of_pair[i]) for what, i in self._open if what == "stream"}
        self._sides.update(window, self._catalog.numbers, self._catalog.pairs.size, changed)

    def _side(self, stream: int, up: bool, cause: str) -> Side:
        pair = int(self._catalog.streams["pair"][stream])
        direction = "up" if up else "down"
        return self._sides.guilty(pair, self._catalog.signal_of[stream], direction, cause)

    def _pair(self, stream: int) -> Pair:
        return self._catalog.pair_of[int(self._catalog.streams["pair"][stream])]

    def _end(self, stream: int, how: State, end: float) -> Finding:
        bank = self._banks[self._catalog.streams["bank"][stream]]
        local = int(self._catalog.streams["local"][stream])
        return report.ended(self._open.pop(("stream", stream)), bank, local, how, end)

    def _count_causes(self, window: Window, rows: Rows, run_start: Floats) -> None:
        """Keep count of the causes of every stream that has a run of evidence, and no others."""
        if not window.causes and not self._causes:
            return
        running = ~np.isnan(run_start)
        self._causes.drop(rows.stream[~running].tolist())
        for stream, row in zip(
            rows.stream[running].tolist(), rows.row[running].tolist(), strict=True
        ):
            self._causes.add(stream, window.causes.get(row, {}))

    def _follow_pairs(self, window: Window, rows: Rows, span: tuple[float, float]) -> list[Finding]:
        if not len(rows.stream):
            return []
        of_pair, pairs = self._catalog.streams["pair"][rows.stream], self._catalog.pairs
        pairs["last"][of_pair] = window.time
        seen = activity(window, rows, of_pair, pairs.size)
        out = self._presence.update(
            seen.pair,
            events=seen.events,
            active=seen.active,
            measured=seen.measured,
            span=span,
            log_c=self._log_c(seen.width),
            warmup_s=self._settings.warmup_s,
            adopt_s=ADOPT_S,
        )
        t, end = self._presence.table, span[1]
        findings = []
        for i in out.new.tolist():
            chance = float(-np.log(t["arrival"][i]))
            onset = float(t["since"][i])
            finding = report.presence(self._pair_named(i), "new", onset, end, chance)
            self._open["pair", i] = finding
            findings.append(finding)
        for i in out.gone.tolist():
            onset, nats = float(t["gap_start"][i]), float(t["arrival"][i])
            finding = report.presence(self._pair_named(i), "gone", onset, end, nats)
            self._open["pair", i] = finding
            findings.append(finding)
        findings += [self._end_pair(i, "adopted", end) for i in out.new_ended.tolist()]
        findings += [self._end_pair(i, "resolved", end) for i in out.back.tolist()]
        findings += [self._end_pair(i, "adopted", end) for i in out.gone_adopted.tolist()]
        return findings

    def _pair_named(self, i: int) -> Pair:
        return self._catalog.pair_of[i]

    def _end_pair(self, i: int, how: State, end: float) -> Finding:
        return dataclasses.replace(self._open.pop(("pair", i)), state=how, ended=end)

    def _close_stale(self, end: float) -> list[Finding]:
        """End what fires without rows: nobody tries any more, or nobody is there to measure."""
        streams, pairs = self._catalog.streams, self._catalog.pairs
        findings = []
        for what, i in sorted(self._open):
            if what == "stream":
                bank, local = self._banks[streams["bank"][i]], streams["local"][[i]]
                patience = MENDED_S if self._is_mended(i, bank, int(local[0])) else STALE_S
                limit = max(patience, STALE_WINDOWS * float(streams["spacing"][i]))
                if end - streams["last"][i] > limit:
                    bank.close(local, end)
                    findings.append(self._end(i, "resolved", end))
            elif self._presence.is_gone(i) and end - pairs["last"][i] > STALE_S:
                self._presence.close(np.array([i]))
                findings.append(self._end_pair(i, "resolved", end))
        return findings

    def _is_mended(self, stream: int, bank: Bank, local: int) -> bool:
        """Return whether silence after this stream's last window is good news.

        Who connects again and keeps the connection gives no further rows, and the last one may
        hold failures too; that traffic flows tells the rest.
        """
        if bank.table["calm"][local] > 0:
            return True
        failed = self._catalog.signal_of[stream] == "connect_errors"
        return failed and self._presence.is_active(int(self._catalog.streams["pair"][stream]))

    def _forget(self) -> None:
        """Drop pairs that have not been seen for long, with their streams."""
        self._presence.forget(self._time)
        pairs, streams = self._catalog.pairs, self._catalog.streams
        kept = ~(self._time - pairs["last"] > FORGET_S)
        if kept.all():
            return
        stays = kept[streams["pair"]]
        of_stream, of_pair = np.cumsum(stays) - 1, np.cumsum(kept) - 1
        for number, bank in enumerate(self._banks):
            mine = streams["bank"] == number
            rows = np.zeros(bank.table.size, dtype=bool)
            rows[streams["local"][mine & stays]] = True
            streams["local"][mine] = (np.cumsum(rows) - 1)[streams["local"][mine]]
            bank.table.keep(rows)
        self._presence.table.keep(kept)
        self._sides.table.keep(kept)
        numbers = {"stream": of_stream, "pair": of_pair}
        known = {"stream": stays, "pair": kept}
        self._open = {
            (what, int(numbers[what][i])): finding
            for (what, i), finding in self._open.items()
            if known[what][i]
        }
        self._causes.renumber({i: int(of_stream[i]) for i in self._causes.streams() if stays[i]})
        self._catalog.keep(stays, kept)

    # State

    def to_bytes(self) -> bytes:
        """Return the whole state; a detector restored from it continues as if never stopped."""
        tables = {
            "streams": self._catalog.streams,
            "pairs": self._catalog.pairs,
            "presence": self._presence.table,
            "sides": self._sides.table,
            **{f"bank{i}": bank.table for i, bank in enumerate(self._banks)},
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
            "signals": self._catalog.signal_of,
            "arrivals": self._presence.arrivals,
            "health": self._health.to_state(),
            "causes": self._causes.to_state(),
            "open": [[what, i, report.to_state(f)] for (what, i), f in self._open.items()],
        }
        return state.pack(meta, arrays)

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        settings: DetectorSettings = DetectorSettings(),  # noqa: B008 - frozen
    ) -> Detector:
        """Return the detector whose `to_bytes` gave `data`.

        Raises:
            ValueError: when `data` is damaged, of a newer version, or not a detector's state.
        """
        meta, arrays = state.unpack(data)
        self = cls(settings)
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
        if sides := columns("sides"):  # which states of before did not have
            self._sides.table.load(sides)
        for i, bank in enumerate(self._banks):
            bank.table.load(columns(f"bank{i}"))
        self._presence.arrivals = {k: (a, b) for k, (a, b) in meta["arrivals"].items()}
        self._health = Health.from_state(meta["health"])
        self._causes = Causes.from_state(meta["causes"])
        self._open = {(what, i): report.from_state(f) for what, i, f in meta["open"]}
        self._time, self._watched_s = meta["time"], meta["watched_s"]
        self._windows, self._behind = meta["windows"], meta["behind"]


def _by_name(finding: Finding) -> tuple[object, ...]:
    return (finding.onset, finding.pair, finding.signal, finding.direction, finding.state)
