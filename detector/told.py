"""What is being told: findings from their first alarm to their end, with cause and side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector import report
from detector.bank import Bank
from detector.catalog import Catalog
from detector.causes import Causes
from detector.episodes import Outcome
from detector.finding import Finding, State
from detector.intake import Plan
from detector.parts import Moment, Part
from detector.presence import Presence, Presences
from detector.repeats import FLOWS
from detector.sides import UNANSWERED, Side, Sides, of_cause
from probes.window import EVERY, Pair, Window, is_rollup

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

STALE_S, STALE_WINDOWS = 180.0, 10.0
"""A firing stream without rows for this long, and this many windows, is over."""
MENDED_S = 10.0
"""The same for a stream whose last window already spoke for its baseline."""


HABIT_NATS, MOST_HABIT_NATS = 3.0, 12.0
"""By how much more evidence a stream needs for each of its changes that came back by itself. A
fault that is worth a page has it to spare; what comes and goes on its own at the edge has not.
Rates remember how far they went instead (`detector.seasons`)."""


class Told:
    """The findings that have not ended, and what explains them.

    Args:
        catalog: of streams and pairs.
        banks: the models.
        presence: of the pairs.

    Attributes:
        open: findings that have not ended, by ("stream" or "pair", number).
        causes: counted while a stream's evidence runs.
        sides: where the time of each pair's requests goes.
    """

    def __init__(self, catalog: Catalog, banks: Sequence[Bank], presence: Presence) -> None:
        self.open: dict[tuple[str, int], Finding] = {}
        self.causes = Causes()
        self.sides = Sides()
        self._catalog, self._banks, self._presence = catalog, banks, presence

    def firing_streams(self) -> set[int]:
        """Return the numbers of streams that are being told."""
        return {i for what, i in self.open if what == "stream"}

    def streams(self, bank: Bank, part: Part, outcome: Outcome, moment: Moment) -> list[Finding]:
        """Return the findings of a window's outcome for the rows of one model."""
        findings: list[Finding] = []
        end = moment.end

        def stream_of(local: Ints) -> list[tuple[int, int, int]]:
            if not len(local):
                return []
            rows = np.searchsorted(part.at, local)
            return list(zip(local.tolist(), part.stream[rows].tolist(), rows.tolist(), strict=True))

        for i, number, row in stream_of(outcome.fired):
            signal = self._catalog.signal_of(number)
            cause = self.causes.main(number)
            up = bool(bank.episodes.table["fire"][bank.episodes.find(i)] > 0)
            finding = report.changed(
                bank,
                i,
                pair=self._pair(number),
                signal=signal,
                log_c=float(moment.log_c_of(np.array([row]))[0]),
                cause=cause,
                side=self._side(number, up, cause),
            )
            if signal == "retransmits" and (finding.after or 0.0) >= UNANSWERED:
                finding = dataclasses.replace(finding, side="")
            self.open["stream", number] = finding
            findings.append(finding)
        habit = self._catalog.streams["habit"]
        for _, number, _ in stream_of(outcome.resolved):
            findings.append(self._end(number, "resolved", end))
            if findings[-1].signal in FLOWS:
                self._flows_come_along(number, findings[-1])
            if not bank.habits:
                habit[number] = min(habit[number] + HABIT_NATS, MOST_HABIT_NATS)
        for i, number, row in stream_of(outcome.adopted):
            findings.append(self._end(number, "adopted", end))
            self.sides.adopt(int(self._catalog.streams["pair"][number]))
            bank.relearn(np.array([i]), moment.age(np.array([row])))
        return findings

    def _flows_come_along(self, stream: int, ended: Finding) -> None:
        """Have the other flows of a pair remember what one of them did: they will be told next."""
        if not ended.ratio:
            return
        signals, pair = self._catalog.signals, int(self._catalog.streams["pair"][stream])
        codes = [signals.index(each) for each in FLOWS if each in signals]
        others = self._catalog.of(np.full(len(codes), pair), np.array(codes))
        moved = np.array([np.log(ended.ratio)], np.float32)
        lasted = (ended.ended or ended.detected) - ended.onset
        spacing = float(self._catalog.streams["spacing"][stream])
        windows = np.array([lasted / max(spacing, 1e-3)], np.float32)
        for other in others[(others >= 0) & (others != stream)].tolist():
            bank = self._banks[self._catalog.streams["bank"][other]]
            local = self._catalog.streams["local"][[other]].astype(np.int64)
            bank.came_along(local, moved, windows)

    def presences(self, out: Presences, end: float) -> list[Finding]:
        """Return the findings of pairs that came, fell silent, or did so no longer."""
        t = self._presence.table
        findings = []
        for i in out.new.tolist():
            chance = float(-np.log(t["arrival"][i]))
            onset = float(t["since"][i])
            finding = report.presence(self._catalog.pair_of[i], "new", onset, end, chance)
            self.open["pair", i] = finding
            findings.append(finding)
        for i in out.gone.tolist():
            onset, nats = float(t["gap_start"][i]), float(t["arrival"][i])
            finding = report.presence(self._catalog.pair_of[i], "gone", onset, end, nats)
            self.open["pair", i] = finding
            findings.append(finding)
        findings += [self._end_pair(i, "adopted", end) for i in out.new_ended.tolist()]
        findings += [self._end_pair(i, "resolved", end) for i in out.back.tolist()]
        findings += [self._end_pair(i, "adopted", end) for i in out.gone_adopted.tolist()]
        return findings

    def close_stale(self, end: float) -> list[Finding]:
        """End what fires without rows: nobody tries any more, or nobody is there to measure."""
        streams, pairs = self._catalog.streams, self._catalog.pairs
        findings = []
        for what, i in sorted(self.open):
            if what == "stream":
                bank, local = self._banks[streams["bank"][i]], streams["local"][[i]]
                patience = MENDED_S if self._is_mended(i, bank, int(local[0])) else STALE_S
                limit = max(patience, STALE_WINDOWS * float(streams["spacing"][i]))
                if end - streams["last"][i] > limit:
                    bank.episodes.close(bank, local, end)
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
        if bank.episodes.table["calm"][bank.episodes.find(local)] > 0:
            return True
        failed = self._catalog.signal_of(stream) == "connect_errors"
        return failed and self._presence.is_active(int(self._catalog.streams["pair"][stream]))

    def follow_sides(self, window: Window, plan: Plan) -> None:
        """Take a window into the means of where the time goes."""
        of_pair = self._catalog.streams["pair"]
        changed = {int(of_pair[i]) for i in self.firing_streams()}
        self.sides.update(window, plan.numbers, self._catalog.pairs.size, changed)

    def count_causes(self, window: Window, plan: Plan) -> None:
        """Keep count of the causes of every stream that has a run of evidence, and no others."""
        if not window.causes and not self.causes:
            return
        running = self._running()
        self.causes.drop([i for i in self.causes.streams() if i not in running])
        for row, causes in window.causes.items():
            if (stream := plan.stream_of(row)) in running:
                self.causes.add(stream, causes)

    def _running(self) -> set[int]:
        """Return the streams that have a run of evidence or are reported."""
        numbers: set[int] = set()
        for model, bank in enumerate(self._banks):
            of = bank.episodes.table["of"]
            numbers |= set(self._catalog.in_bank(model)[of].tolist())
        return numbers

    def _side(self, stream: int, up: bool, cause: str) -> Side:
        pair = int(self._catalog.streams["pair"][stream])
        direction = "up" if up else "down"
        whose, signal = self._pair(stream), self._catalog.signal_of(stream)
        if is_rollup(whose):
            return of_cause(signal, cause) or ("server" if whose.client == EVERY else "client")
        return self.sides.guilty(pair, signal, direction, cause)

    def _pair(self, stream: int) -> Pair:
        return self._catalog.pair_of[int(self._catalog.streams["pair"][stream])]

    def _end(self, stream: int, how: State, end: float) -> Finding:
        bank = self._banks[self._catalog.streams["bank"][stream]]
        local = int(self._catalog.streams["local"][stream])
        return report.ended(self.open.pop(("stream", stream)), bank, local, how, end)

    def _end_pair(self, i: int, how: State, end: float) -> Finding:
        return dataclasses.replace(self.open.pop(("pair", i)), state=how, ended=end)

    def keep(self, streams: Bools, pairs: Bools) -> None:
        """Drop streams and pairs that are not marked; numbers close up."""
        of_stream, of_pair = np.cumsum(streams) - 1, np.cumsum(pairs) - 1
        numbers, known = {"stream": of_stream, "pair": of_pair}, {"stream": streams, "pair": pairs}
        self.open = {
            (what, int(numbers[what][i])): finding
            for (what, i), finding in self.open.items()
            if known[what][i]
        }
        kept = (i for i in self.causes.streams() if streams[i])
        self.causes.renumber({i: int(of_stream[i]) for i in kept})
        self.sides.table.keep(pairs[: self.sides.table.size])

    def to_state(self) -> dict[str, Any]:
        """Return the state as JSON values, but for the table of sides."""
        return {
            "causes": self.causes.to_state(),
            "open": [[what, i, report.to_state(f)] for (what, i), f in self.open.items()],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `to_state` returned."""
        self.causes = Causes.from_state(state["causes"])
        self.open = {(what, i): report.from_state(f) for what, i, f in state["open"]}
