"""How Tailrace does, as numbers: gathered where it happens, read by whoever exports it."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import tailrace
from alerts.grouping import Change
from alerts.incident import Incident
from alerts.outbox import ReceiverHealth
from alerts.severity import SEVERITIES
from alerts.words import clean
from detector.calibration import Calibration
from detector.finding import Finding
from probes.window import SIGNALS, VIEWS, Kind, Window
from tailrace.condition import LOST_KINDS
from tailrace.export import health_families as of
from tailrace.export.family import Family, Measured, Sample
from tailrace.status import Status

CALIBRATION_EVERY_S: Final = 5.0
_DIRECTIONS: Final = {"new_pair": ("new",), "silent_pair": ("gone",)}
_OTHER_SIGNAL: Final = "other"


class Detector(Protocol):
    """What is asked of the detector."""

    def calibration(self) -> Sequence[Calibration]:
        """Return whether each kind of signal honours the theory."""


class Health:
    """The numbers. Not safe for several threads at once."""

    def __init__(self, *, started: float) -> None:
        """Begin.

        Args:
            started: epoch seconds.
        """
        self.started = started
        self._status: Status | None = None
        self._window_s, self._last, self._windows = math.nan, math.nan, 0
        self._lost_samples = 0
        self._storing = True
        judged = [n for n, kind in SIGNALS.items() if n not in VIEWS and kind is not Kind.GAUGE]
        self._findings = Counter(
            {(s, d): 0 for s in judged for d in _DIRECTIONS.get(s, ("up", "down"))}
        )
        events = ("firing", "updated", "resolved")
        self._events = Counter({(e, s): 0 for e in events for s in SEVERITIES})
        self._incidents: Counter[tuple[str, str, str]] = Counter()
        self._receivers: list[ReceiverHealth] = []
        self._delivered: Counter[tuple[str, str]] = Counter()
        self._calibration: Sequence[Calibration] = ()
        self._calibration_due = -math.inf

    # What happens

    def window(
        self, window: Window, findings: Iterable[Finding], changes: Iterable[Change]
    ) -> None:
        """Take a window, what began or ended with it, and what became of incidents."""
        width = next((w for w in (window.width, window.nominal) if w > 0), 0.0)
        self._windows += 1
        self._last = window.time + width
        self._window_s = window.nominal if window.nominal > 0 else width
        self._lost_samples += window.lost
        for finding in findings:
            if finding.state == "firing":
                key = (finding.signal, finding.direction)
                known = key if key in self._findings else (_OTHER_SIGNAL, finding.direction)
                self._findings[known] += 1
        for incident, event in changes:
            if event is not None:
                self._events[event, incident.severity] += 1

    def status(self, status: Status, detector: Detector, *, storing: bool) -> None:
        """Take how the daemon does after a window."""
        self._status, self._storing = status, storing
        if status.uptime_s >= self._calibration_due:
            self._calibration = detector.calibration()
            self._calibration_due = status.uptime_s + CALIBRATION_EVERY_S

    def stored(self, incidents: Iterable[Incident], receivers: Sequence[ReceiverHealth]) -> None:
        """Take what the store holds: the open incidents, and how deliveries go."""
        self._incidents = Counter(
            (each.state, each.severity, "true" if each.suppressed else "false")
            for each in incidents
        )
        before = {each.receiver: each for each in self._receivers}
        self._receivers = list(receivers)
        for each in receivers:
            # The store forgets what is old, and so has fewer: what was counted stays counted
            last = before.get(each.receiver, each)
            self._delivered[each.receiver, "sent"] += max(each.sent - last.sent, 0)
            self._delivered[each.receiver, "dropped"] += max(each.dropped - last.dropped, 0)

    # What is exported of it

    def measured(self, *, now: float) -> list[Measured]:
        """Return all of it.

        Args:
            now: epoch seconds.
        """
        return [
            (of.BUILD, [Sample((tailrace.__version__, platform.python_version()), 1.0)]),
            (of.STARTED, [_one(self.started)]),
            (of.WINDOWS, [_one(self._windows)]),
            *_known((of.WINDOW, self._window_s), (of.LAST_WINDOW, self._last)),
            (of.LOST_SAMPLES, [_one(self._lost_samples)]),
            *self._of_status(),
            (of.STORING, [_one(not self._storing)]),
            (of.FINDINGS, [Sample(key, n) for key, n in self._findings.items()]),
            (of.INCIDENTS, self._open()),
            (of.EVENTS, [Sample(key, n) for key, n in self._events.items()]),
            *self._of_receivers(now),
            *self._of_calibration(),
        ]

    def _of_status(self) -> list[Measured]:
        if self._status is None:
            return []
        status, condition = self._status, self._status.condition
        shares = {"daemon": condition.user, "programs": condition.kernel}
        kinds = dict.fromkeys(LOST_KINDS, 0) | dict(condition.lost)
        return [
            (of.PAIRS, [_one(status.pairs)]),
            (
                of.STREAMS,
                [Sample(("judged",), status.judged), Sample(("learning",), status.learning)],
            ),
            (of.LOST, [Sample((kind,), number) for kind, number in kinds.items()]),
            (
                of.OVERHEAD,
                [Sample((p,), share) for p, share in shares.items() if share is not None],
            ),
            *_known((of.BUDGET, math.nan if condition.budget is None else condition.budget)),
            (of.LEVEL, [_one(condition.level)]),
            (of.FOLDED, [_one(condition.folded)]),
            (of.NAMING, [_one(len(condition.naming))]),
            (of.FIRING, [_one(status.firing)]),
            (of.CHANGES, [_one(status.changes)]),
        ]

    def _open(self) -> list[Sample]:
        keys = [
            (state, severity, suppressed)
            for state in ("pending", "firing", "recovering")
            for severity in SEVERITIES
            for suppressed in ("false", "true")
        ]
        return [Sample(key, self._incidents[key]) for key in keys]

    def _of_receivers(self, now: float) -> list[Measured]:
        sent, pending, oldest, failing = [], [], [], []
        for each in self._receivers:
            name = clean(each.receiver)
            sent += [
                Sample((name, result), self._delivered[each.receiver, result])
                for result in ("sent", "dropped")
            ]
            pending.append(Sample((name,), each.pending))
            waits = 0.0 if each.oldest_pending is None else max(now - each.oldest_pending, 0.0)
            oldest.append(Sample((name,), waits))
            failing.append(Sample((name,), bool(each.last_error) or each.disabled))
        found = (of.DELIVERIES, sent), (of.PENDING, pending), (of.OLDEST, oldest)
        return [each for each in (*found, (of.FAILING, failing)) if each[1]]

    def _of_calibration(self) -> list[Measured]:
        columns: Mapping[Family, list[tuple[str, float]]] = {
            of.EXPECTED: [(c.kind.value, c.expected) for c in self._calibration],
            of.REALISED: [(c.kind.value, c.realised) for c in self._calibration],
            of.E_VALUE: [(c.kind.value, c.e_value) for c in self._calibration],
            of.JUDGED: [(c.kind.value, c.streams) for c in self._calibration],
            of.RAISED: [(c.kind.value, c.raised_nats) for c in self._calibration],
        }
        return [
            (family, [Sample((kind,), value) for kind, value in found if math.isfinite(value)])
            for family, found in columns.items()
            if found
        ]


def _one(value: float) -> Sample:
    return Sample((), float(value))


def _known(*found: tuple[Family, float]) -> list[Measured]:
    return [(family, [_one(value)]) for family, value in found if math.isfinite(value)]
