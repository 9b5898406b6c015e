"""The daemon's loop: windows in; incidents stored and told, and current pairs shown.

It knows nothing of kernels: the windows may as well come from a recording.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from alerts.aftermath import Aftermath
from alerts.errors import StoreError
from alerts.feed import Feed, Shown
from alerts.grouping import Change as IncidentChange
from alerts.grouping import Incidents
from alerts.incident import Trigger
from alerts.notify import RESEND_RESOLVED_S
from detector.calibration import Calibration, Change
from detector.finding import Finding
from detector.settings import DetectorSettings
from probes.identity.service import Service
from probes.window import Pair, Window
from tailrace import pairs
from tailrace.condition import Condition
from tailrace.errors import TailraceError
from tailrace.history.service import History
from tailrace.recording import Recorder
from tailrace.status import Status, Voice

SNAPSHOT_EVERY_S = 30.0
PUBLISH_EVERY_S = 1.0
PUBLISH_SHARE = 20.0
"""Publishing the pairs may take one twentieth of the time, however many there are."""
HEALTH_EVERY_S = 5.0
PRUNE_EVERY_S = 21_600.0
TELL_AFTER_S = RESEND_RESOLVED_S + 10.0
"""So long after the last incident is over, messages may still be due."""
MEMORY = "observer"
"""The name under which the store keeps the observer's memory."""


class Detector(Protocol):
    """What the loop needs of a detector."""

    def update(self, window: Window) -> list[Finding]:
        """Learn from one window; return the findings that began or ended with it."""

    def firing(self) -> Sequence[Finding]:
        """Return what is firing."""

    def learning(self) -> tuple[int, int]:
        """Return how many streams are still learning, and how many are judged."""

    def calibration(self) -> Sequence[Calibration]:
        """Return whether each kind of signal honours the theory."""

    def changes(self) -> Sequence[Change]:
        """Return what is significant at a false discovery rate."""

    def to_bytes(self) -> bytes:
        """Return all state."""


class Store(Protocol):
    """What the loop needs of a store."""

    def commit(
        self,
        findings: Sequence[Finding],
        *,
        snapshot: bytes | None,
        now: float,
        incidents: Sequence[IncidentChange],
        grouping: bytes | None,
        lasted: Collection[str],
        changes: Sequence[Shown],
    ) -> Sequence[object]:
        """Store findings, incidents, the feed and the states of what made them, together."""

    def tell(self, *, now: float) -> Sequence[object]:
        """Store the messages that are due because time has passed."""

    def save_snapshot(self, name: str, data: bytes, *, now: float) -> None:
        """Store some other part's state."""

    def prune(self, *, now: float) -> int:
        """Remove what is over for long."""


class Health(Protocol):
    """How deliveries to one receiver go."""

    @property
    def pending(self) -> int:
        """Messages still owed."""


class Deliverer(Protocol):
    """What the loop needs of a deliverer."""

    def wake(self) -> None:
        """Look for new messages now."""

    def health(self) -> Mapping[str, Health]:
        """Return how deliveries go."""


class Exporter(Protocol):
    """What the loop needs of an exporter; it never waits."""

    def window(
        self, window: Window, findings: Sequence[Finding], changes: Sequence[IncidentChange]
    ) -> None:
        """Take a window, what began or ended with it, and what became of incidents."""

    def status(self, status: Status, detector: Detector, *, storing: bool) -> None:
        """Take how the daemon does after a window."""


class Daemon:
    """Feeds windows to the detector and its findings to all others.

    Args:
        detector: with its earlier state restored, if there is any.
        store: where findings and state survive.
        deliverer: told when there is something to deliver; None without receivers.
        voice: told how it goes.
        recorder: keeps every window; None for no recording.
        history: keeps the past; None for none.
        memory: what the observer must know after a restart; None when there is no observer.
        condition: how the watching does; None when nothing is watched.
        services: what is known of the services, by name.
        asked: where a pair's clients asked for its server.
        pairs_file: where the current pairs are published; None for nowhere.
        incidents: the open incidents, as they were stored; None for none.
        triggers: what has happened to services since it was last asked.
        feed: the changes that are shown and not told, as they were stored; None for none.
        least_change: the least change that is news, by signal; None for the detector's own.
        exporter: told of each window for other tools; None for none.
        clock: epoch seconds.
    """

    def __init__(
        self,
        *,
        detector: Detector,
        store: Store,
        voice: Voice,
        deliverer: Deliverer | None = None,
        recorder: Recorder | None = None,
        history: History | None = None,
        memory: Callable[[], bytes] | None = None,
        condition: Callable[[], Condition] | None = None,
        services: Callable[[], Mapping[str, Service]] = dict,
        asked: Callable[[Pair], Sequence[str]] = lambda _: (),
        pairs_file: Path | None = None,
        incidents: Incidents | None = None,
        triggers: Callable[[], Sequence[Trigger]] = tuple,
        feed: Feed | None = None,
        least_change: Callable[[str], float] | None = None,
        exporter: Exporter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._detector, self._store, self._deliverer = detector, store, deliverer
        self._voice, self._recorder, self._pairs_file = voice, recorder, pairs_file
        self._history, self._exporter = history, exporter
        self._clock = clock
        self._memory, self._memory_kept = memory, b""
        self._ask_condition, self._condition = condition, Condition()
        self._pairs = pairs.PairTable(services=services, asked=asked)
        self._aftermath = Aftermath(least_change or DetectorSettings().least_change)
        self._feed = feed or Feed()
        # Not `or`: incidents without an open one are empty, and know the graph all the same
        self._incidents = Incidents() if incidents is None else incidents
        self._triggers = triggers
        self._owed: list[Finding] = []
        self._owed_incidents: list[IncidentChange] = []
        self._lasted: set[str] = set()
        self._store_failed = ""
        self._pairs_failed = ""
        self._snapshot_due = -math.inf
        self._publish_due = -math.inf
        self._health_due = -math.inf
        self._prune_due = -math.inf
        self._tell_until = time.monotonic() + TELL_AFTER_S
        self._pending = 0
        self._windows = 0
        self._lost = 0
        self._stopping = False

    def run(self, windows: Iterable[Window], *, limit: int | None = None) -> None:
        """Take windows until they end, `stop` is called or there were `limit` of them.

        Raises:
            StoreError: at the end, the findings or the state could not be stored.
        """
        started = time.monotonic()
        self._snapshot_due = time.monotonic() + SNAPSHOT_EVERY_S
        for window in windows:
            if self._stopping:
                break
            self.step(window)
            status = self._status(time.monotonic() - started)
            self._voice.status(status)
            if self._exporter is not None:
                self._exporter.status(status, self._detector, storing=not self._store_failed)
            if self._stopping or (limit is not None and self._windows >= limit):
                break
        self._commit([])
        if self._pairs_file is not None:
            # A file that is still there tells of a daemon that did not end by itself
            self._pairs_file.unlink(missing_ok=True)
        if self._store_failed:
            self._store_all()

    def stop(self) -> None:
        """Stop after the window at hand; may be called from any thread."""
        self._stopping = True

    def step(self, window: Window) -> None:
        """Take one window."""
        self._windows += 1
        self._lost += window.lost
        self._pairs.add(window)
        self._look_at_itself()
        findings: list[Finding] = []
        incidents: list[IncidentChange] = []
        if len(window):
            # A window without a row says nothing, and a recording cannot hold it: replay and
            # run see the same
            self._record(window)
            findings = self._detector.update(window)
            self._lasted.update(self._aftermath.update(window, self._detector.firing()))
            width = next((w for w in (window.width, window.nominal) if w > 0), 0.0)
            self._feed.update(self._detector.changes(), end=window.time + width)
            incidents = self._incidents.update(window, findings, self._triggers())
            self._owed_incidents += incidents
        due = time.monotonic() >= self._snapshot_due
        if findings or self._owed or self._owed_incidents or self._lasted or due:
            self._commit(findings)
        elif time.monotonic() < self._tell_until:
            self._tell()
        if len(self._incidents):
            self._tell_until = time.monotonic() + TELL_AFTER_S
        for finding in findings:
            self._voice.finding(finding)
        for change in incidents:
            if change.event is not None:
                self._voice.incident(change.incident)
        self._publish(window)
        if self._exporter is not None:
            self._exporter.window(window, findings, incidents)
        if time.monotonic() >= self._prune_due:
            self._prune_due = time.monotonic() + PRUNE_EVERY_S
            with contextlib.suppress(StoreError):
                self._store.prune(now=self._clock())

    def _look_at_itself(self) -> None:
        """Say when less is measured, or all of it again, and when a new kind of loss begins.

        And when services can no longer be named as well as they might.
        """
        if self._ask_condition is None:
            return
        before, self._condition = self._condition, self._ask_condition()
        if self._condition.level != before.level:
            text = self._condition.change_text(before.level)
            say = self._voice.note if self._condition.full else self._voice.warning
            say(text)
        if self._condition.folded and not before.folded:
            self._voice.warning(f"{self._condition.folded_text()}: raise [probes] max_pairs")
        if self._condition.lost.keys() - before.lost.keys():
            self._voice.warning(f"lost since the start: {self._condition.lost_text()}")
        if set(self._condition.naming) - set(before.naming):
            self._voice.warning(f"names: {'; '.join(self._condition.naming)}")

    def _record(self, window: Window) -> None:
        if self._history is not None:
            self._history.add(window)
        if self._recorder is None:
            return
        try:
            self._recorder.write(window)
        except TailraceError as error:
            # Watching matters more than its recording
            self._voice.warning(f"the recording ends here: {error}")
            with contextlib.suppress(TailraceError):
                self._recorder.close()
            self._recorder = None

    def _commit(self, findings: Sequence[Finding]) -> None:
        self._owed += findings
        self._snapshot_due = time.monotonic() + SNAPSHOT_EVERY_S
        try:
            self._keep_memory()
            changed = self._store_all()
        except StoreError as error:
            # Nothing was stored: all of it is tried again with the next window
            if str(error) != self._store_failed:
                self._voice.warning(f"nothing can be stored at the moment: {error}")
            self._store_failed = str(error)
            self._snapshot_due = -math.inf
            return
        if self._store_failed:
            self._voice.note(f"stored again, with {len(self._owed)} findings that had to wait")
        self._store_failed = ""
        if changed and self._deliverer is not None:
            self._deliverer.wake()
        self._owed, self._owed_incidents = [], []
        self._lasted.clear()
        self._feed.stored()

    def _tell(self) -> None:
        """Have what is due told; what cannot be stored now is due with the next window."""
        with contextlib.suppress(StoreError):
            if self._store.tell(now=self._clock()) and self._deliverer is not None:
                self._deliverer.wake()

    def _store_all(self) -> Sequence[object]:
        return self._store.commit(
            self._owed,
            snapshot=self._detector.to_bytes(),
            now=self._clock(),
            incidents=self._owed_incidents,
            grouping=self._incidents.to_bytes(),
            lasted=self._lasted,
            changes=self._feed.unstored(),
        )

    def _keep_memory(self) -> None:
        memory = b"" if self._memory is None else self._memory()
        if memory != self._memory_kept:
            self._store.save_snapshot(MEMORY, memory, now=self._clock())
            self._memory_kept = memory

    def _publish(self, window: Window) -> None:
        started = time.monotonic()
        if self._pairs_file is None or started < self._publish_due:
            return
        try:
            pairs.publish(
                self._pairs_file,
                self._pairs,
                now=self._clock(),
                window_s=window.nominal if window.nominal > 0 else 1.0,
                condition=self._condition,
                calibration=self._detector.calibration(),
            )
            self._pairs_failed = ""
        except OSError as error:
            if str(error) != self._pairs_failed:
                self._voice.warning(f"cannot write {self._pairs_file}: {error.strerror}")
            self._pairs_failed = str(error)
        took = time.monotonic() - started
        # A little less than the interval, so that a window of one second publishes each time
        self._publish_due = started + max(0.9 * PUBLISH_EVERY_S, PUBLISH_SHARE * took)

    def _status(self, uptime_s: float) -> Status:
        if self._deliverer is not None and uptime_s >= self._health_due:
            self._health_due = uptime_s + HEALTH_EVERY_S
            with contextlib.suppress(StoreError):
                self._pending = sum(health.pending for health in self._deliverer.health().values())
        learning, judged = self._detector.learning()
        return Status(
            uptime_s=uptime_s,
            windows=self._windows,
            pairs=len(self._pairs),
            learning=learning,
            judged=judged,
            firing=len(self._detector.firing()),
            changes=len(self._feed),
            lost=self._lost,
            pending=self._pending,
            condition=self._condition,
        )
