"""Roll-ups: thin pairs that share a server port or a client, judged together.

What no pair shows alone within useful time, many show together: 500 clients with a request a
minute are eight requests a second. A stream with little in a window is a member of two groups,
all clients of its server port and all servers of its client; the members' rows are added up, and
the sums are streams like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.bank import Bank
from detector.catalog import Catalog
from detector.finding import Finding
from detector.intake import Intake, Plan
from detector.members import MODELS, PERIOD, Members
from detector.observe import COUNT, LATENCY, RATIO, Reading
from detector.parts import Rows, narrow
from detector.settings import DetectorSettings
from probes.histogram import quantile_by_group_s
from probes.window import EVERY, Histograms, Kind, Pair, Window, is_rollup, kind_of, no_histograms

Floats = NDArray[Any]
Ints = NDArray[np.int64]

NEAR_S = 120.0
"""A member's change that began within this time of the group's may be all that it is ..."""
SHARE, EXPLAINED = 0.02, 0.5
"""... if such members have this share of the load, or of a count's change."""


class Rollups:
    """The windows of sums, and which of their findings are told.

    Attributes:
        members: who is added up.
        intake: the way in for windows of sums; shares the catalog and the banks.
        muted: ids of open findings that are not told, since a member's says the same.
    """

    def __init__(self, catalog: Catalog, banks: Sequence[Bank], settings: DetectorSettings) -> None:
        self.members = Members(catalog, banks)
        self.intake = Intake(settings, catalog, banks)
        self.muted: set[str] = set()
        self._catalog = catalog

    def window(
        self,
        window: Window,
        plan: Plan,
        readings: Sequence[Reading],
        number: int,
        firing: Collection[int],
    ) -> Window | None:
        """Return the window's sums; None while there are none, or its width is unknown.

        Args:
            window: the window.
            plan: whose rows are whose.
            readings: its usable rows, by model.
            number: how many windows there were.
            firing: streams that are firing: a group among them keeps its members.
        """
        self.members.meet()
        if not 0.0 < window.width < np.inf:
            return None
        if number % PERIOD == 0:
            self.members.decide(window.time, window.width, firing)
        return self._summed(window, plan, readings)

    # Sums

    def _summed(self, window: Window, plan: Plan, readings: Sequence[Reading]) -> Window | None:
        members = self.members
        slots, seen = len(members.slot_pair), members.table["seen"]
        row_slot: list[Rows] = []
        values: list[Floats] = []
        counts: list[Floats] = []
        entries = no_histograms()
        for model in MODELS:
            part, value, count, *_ = readings[model]
            number = value * window.width if model == COUNT else count
            if model == LATENCY:
                number = np.nan_to_num(np.clip(number, 0.0, 1e15))
            seen[narrow(part.stream)] += number.astype(np.float32)
            if not slots:
                continue
            some = np.flatnonzero(members.table["member"][narrow(part.stream)])
            if not len(some):
                continue
            value = value[some]
            count = count[some] if len(count) else np.full(len(some), np.nan)
            slot = members.slot[:, part.stream[some]]
            both = slot >= 0
            if not both.any():
                continue
            if model == LATENCY:
                at, middle, samples, entries = self._merged(window, part.row[some], slot)
                entries = entries._replace(row=entries.row + sum(len(each) for each in row_slot))
                values.append(middle)
                counts.append(samples)
            else:
                amount = np.rint(value * count) if model == RATIO else value
                total = np.bincount(slot[both], np.tile(amount, (2, 1))[both], slots)
                trials = np.bincount(slot[both], np.tile(count, (2, 1))[both], slots)
                at = np.flatnonzero(np.bincount(slot[both], minlength=slots))
                values.append(total[at] / trials[at] if model == RATIO else total[at])
                counts.append(trials[at])
            row_slot.append(at)
        if not row_slot:
            return None
        slot = np.concatenate(row_slot)
        return Window(
            time=window.time,
            width=window.width,
            nominal=window.nominal,
            lost=window.lost,
            pairs=members.pairs,
            signals=tuple(self._catalog.signals),
            pair=members.slot_pair[slot].astype(np.int32),
            signal=members.slot_signal[slot].astype(np.int16),
            value=np.concatenate(values),
            count=np.concatenate(counts),
            causes=self._causes(window.causes, plan, slot),
            histograms=entries,
        )

    def _merged(
        self, window: Window, row: Rows, slot: Rows
    ) -> tuple[Ints, Floats, Floats, Histograms]:
        """Return slots that have samples, their medians (s), samples, and histograms."""
        found = window.histograms
        slot_of = np.full((2, len(window)), -1, np.int64)
        slot_of[:, row] = slot
        into = slot_of[:, found.row]
        which = into >= 0
        bucket = np.tile(found.bucket.astype(np.int64), (2, 1))[which]
        number = np.tile(found.number, (2, 1))[which]
        cells, place = np.unique(into[which] * np.int64(1 << 16) + bucket, return_inverse=True)
        total = np.bincount(place, number, len(cells)).astype(np.int64)
        group, bucket = cells >> 16, cells & 0xFFFF
        at, middle, samples = quantile_by_group_s(group, bucket, total, 0.5)
        rows = np.searchsorted(at, group)
        merged = Histograms(rows.astype(np.int32), bucket.astype(np.int16), total)
        return at, middle, samples.astype(np.float64), merged

    def _causes(
        self, causes: Mapping[int, Mapping[str, int]], plan: Plan, slot: Rows
    ) -> dict[int, dict[str, int]]:
        """Return the causes of sums; only rows that failed are gone through."""
        row_of = {int(each): row for row, each in enumerate(slot)} if causes else {}
        found: dict[int, dict[str, int]] = {}
        for row in sorted(causes, key=plan.stream_of):
            stream = plan.stream_of(row)
            for each in self.members.slot[:, stream].tolist() if stream >= 0 else ():
                if each in row_of:
                    total = found.setdefault(row_of[each], {})
                    for cause, number in causes[row].items():
                        total[cause] = total.get(cause, 0) + number
        return found

    # Findings

    def told(self, findings: Iterable[Finding], running: Collection[Finding]) -> list[Finding]:
        """Return the findings without those of groups that say what a member's says."""
        kept = []
        for finding in findings:
            if finding.state == "firing" and is_rollup(finding.pair):
                if self._is_known(finding, running):
                    self.muted.add(finding.id)
                    continue
            elif finding.id in self.muted:
                self.muted.discard(finding.id)
                continue
            kept.append(finding)
        return kept

    def _is_known(self, finding: Finding, running: Collection[Finding]) -> bool:
        """Return whether open findings of members explain a group's."""
        near = [
            f
            for f in running
            if finding.pair in (Pair(EVERY, *f.pair[1:]), Pair(f.pair[0], EVERY, 0, f.pair[3]))
            and not is_rollup(f.pair)
            and abs(f.onset - finding.onset) <= NEAR_S
            and (f.direction in ("new", "gone") or same(f, finding))
        ]
        if not near:
            return False
        pairs = sorted({f.pair for f in near})
        if self.members.share(finding.pair, finding.signal, pairs) >= SHARE:
            return True
        moved = sum((f.after or 0.0) - (f.before or 0.0) for f in near if same(f, finding))
        change = (finding.after or 0.0) - (finding.before or 0.0)
        return kind_of(finding.signal) is Kind.COUNT and abs(moved) >= EXPLAINED * abs(change)


def same(one: Finding, two: Finding) -> bool:
    """Return whether two findings are of the same signal and direction."""
    return (one.signal, one.direction) == (two.signal, two.direction)
