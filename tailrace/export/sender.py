"""Sending by OTLP, from a thread of its own: what cannot be sent waits, up to a limit.

Metrics are totals: those that could not be sent before the next are due are left out, and nothing
is lost but detail. Findings and incidents wait in a queue, and the oldest give way when it is full.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, Literal

from alerts.deliver import Backoff
from tailrace.export import encode, health_families
from tailrace.export.attributes import Attributes
from tailrace.export.encode import Batch, Event
from tailrace.export.family import Measured, Sample
from tailrace.export.post import Poster, PostError
from tailrace.export.settings import OtlpSettings

Signal = Literal["metrics", "logs"]
REASONS: Final = ("rejected", "queue_full", "superseded", "stopped")
"""Why something was not taken: the receiver does not want it; too much waited; newer totals came
before it could be sent; the daemon stopped."""
MOST_QUEUED: Final = 2_048
MOST_RECORDS: Final = 512
"""In one request."""
LONGEST_S: Final = 3600.0
"""No receiver is left alone for longer, whatever it asks."""
_FIRST_S: Final = 5.0
"""The first metrics are sent so soon after the start: whether it works should be known."""

Say = Callable[[str], None]


class _Lane:
    """What is to be sent of one signal."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.pending: deque[Batch] = deque()
        self.resume_at = 0.0
        self.failures = 0
        self.failed = 0
        self.sent = 0
        self.dropped = Counter(dict.fromkeys(REASONS, 0))
        self.error = ""

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return sum(batch.items for batch in self.pending)

    def give_up(self, reason: str) -> None:
        """Drop all that waits."""
        self.dropped[reason] += self.waiting
        self.pending.clear()


class Sender:
    """The thread that sends.

    Args:
        settings: where to.
        metrics: makes the requests of one export; called in the thread.
        resource: who sends.
        warn: told when sending begins to fail.
        note: told when it works again.
        backoff: how long to wait between attempts.
        jitter: a number in [0, 1).

    Raises:
        ConfigError: the certificates cannot be read.
    """

    def __init__(
        self,
        settings: OtlpSettings,
        *,
        metrics: Callable[[], Iterable[Batch]],
        resource: Attributes,
        warn: Say,
        note: Say,
        backoff: Backoff | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings, self._collect, self._resource = settings, metrics, resource
        self._warn, self._note, self._jitter = warn, note, jitter
        self._backoff = backoff or Backoff(first_s=1.0, cap_s=60.0)
        self._poster = Poster(settings)
        self._metrics, self._logs = _Lane("metrics"), _Lane("logs")
        self._events: deque[Event] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)

    def start(self) -> None:
        """Start sending."""
        self._thread.start()

    def event(self, event: Event) -> None:
        """Have a finding or incident sent; never waits."""
        with self._lock:
            if len(self._events) >= MOST_QUEUED:
                self._events.popleft()
                self._logs.dropped["queue_full"] += 1
            self._events.append(event)
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Send what there is, once, and end; after `timeout_s` in any case."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_s)
        with self._lock:
            left = len(self._events) + self._logs.waiting
        if left:
            self._warn(f"OTLP: {left} findings and incidents could not be sent")

    @property
    def error(self) -> str:
        """Why the latest attempt failed; "" while it did not."""
        return self._metrics.error or self._logs.error

    def counts(self) -> tuple[int, int, int]:
        """Return how many items were sent, how many not taken, and how many wait."""
        with self._lock:
            waiting = len(self._events)
        lanes = (self._metrics, self._logs)
        return (
            sum(lane.sent for lane in lanes),
            sum(lane.dropped.total() for lane in lanes),
            sum(lane.waiting for lane in lanes) + waiting,
        )

    def measured(self) -> list[Measured]:
        """Return how it goes, as metrics."""
        lanes = (self._metrics, self._logs)
        with self._lock:
            waiting = {"metrics": self._metrics.waiting, "logs": len(self._events)}
            waiting["logs"] += self._logs.waiting
        return [
            (health_families.SENT, [Sample((lane.signal,), lane.sent) for lane in lanes]),
            (
                health_families.DROPPED,
                [
                    Sample((lane.signal, reason), lane.dropped[reason])
                    for lane in lanes
                    for reason in REASONS
                ],
            ),
            (health_families.FAILED, [Sample((lane.signal,), lane.failed) for lane in lanes]),
            (health_families.QUEUE, [Sample((name,), n) for name, n in waiting.items()]),
        ]

    # The thread

    def _run(self) -> None:
        try:
            self._send()
        except Exception as error:  # said, where a thread would end in silence
            self._warn(f"OTLP ended by an error of its own: {type(error).__name__}: {error}")
            self._logs.error = "ended by an error of its own"

    def _send(self) -> None:
        due = time.monotonic() + min(_FIRST_S, self._settings.interval_s)
        while not self._stopping:
            now = time.monotonic()
            if now >= due:
                due = now + self._settings.interval_s
                self._metrics.give_up("superseded")
                self._metrics.pending.extend(self._collect())
            self._take_events()
            next_s = min(self._step(self._metrics), self._step(self._logs), due - time.monotonic())
            self._wake.wait(max(next_s, 0.0))
            self._wake.clear()
        self._last()

    def _last(self) -> None:
        """Try what there is once more, without waiting for anything."""
        self._metrics.give_up("superseded")
        self._metrics.pending.extend(self._collect())
        for lane in (self._logs, self._metrics):
            self._take_events()
            failed = lane.failed
            while lane.pending and lane.failed == failed:
                lane.resume_at = 0.0
                self._step(lane)
                self._take_events()
        self._metrics.give_up("stopped")
        with contextlib.suppress(Exception):  # the daemon is ending: there is nobody to tell
            self._poster.close()

    def _take_events(self) -> None:
        if self._logs.pending:
            return
        with self._lock:
            events = [self._events.popleft() for _ in range(min(MOST_RECORDS, len(self._events)))]
        if events:
            self._logs.pending.append(encode.logs(events, resource=self._resource))

    def _step(self, lane: _Lane) -> float:
        """Make one attempt if one is due; return the seconds until the next may be."""
        now = time.monotonic()
        if not lane.pending:
            return 3600.0
        if now < lane.resume_at:
            return lane.resume_at - now
        batch = lane.pending[0]
        try:
            taken = self._poster.post(lane.signal, batch.body)
        except PostError as failure:
            self._failed(lane, failure)
            return max(lane.resume_at - time.monotonic(), 0.0) if lane.pending else 0.0
        lane.pending.popleft()
        rejected = min(taken.rejected, batch.items)
        lane.sent += batch.items - rejected
        lane.dropped["rejected"] += rejected
        self._worked(
            lane, f"{rejected} of {batch.items} rejected: {taken.text}" if rejected else ""
        )
        return 0.0

    def _worked(self, lane: _Lane, but: str) -> None:
        lane.failures = 0
        if but and not lane.error:
            self._warn(f"OTLP: {lane.signal}: {but}")
        elif lane.error and not but:
            self._note(f"OTLP: {lane.signal} are sent again")
        lane.error = but

    def _failed(self, lane: _Lane, failure: PostError) -> None:
        lane.failed += 1
        lane.failures += 1
        if not lane.error:
            goes_on = "tried again" if failure.retry else "not tried again"
            where = self._settings.endpoint
            self._warn(f"OTLP: cannot send {lane.signal} to {where}: {failure}; {goes_on}")
        lane.error = str(failure)
        if not failure.retry:
            batch = lane.pending.popleft()
            lane.dropped["rejected"] += batch.items
        wait_s = self._backoff.delay_s(lane.failures, jitter=self._jitter())
        asked_s = min(failure.retry_after_s or 0.0, LONGEST_S)
        lane.resume_at = time.monotonic() + max(wait_s, asked_s)
