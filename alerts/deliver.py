"""Delivery in the background: one thread per receiver, so that a slow one delays nobody else.

In: pending rows of the outbox. Out: rows that are sent, or dropped with a reason. A message is
attempted until it arrives, for days; a crash at any moment repeats at most the attempt that was
under way, under the same message id.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from alerts.digest import digest_from_json
from alerts.errors import DeliveryError, StoreError
from alerts.incident import incident_from_json
from alerts.outbox import Delivery, Outbox, ReceiverHealth
from alerts.policy import Rules
from alerts.receivers.base import AnyMessage, DigestMessage, Message, Receiver
from alerts.store import Store

IDLE_S = 60.0
"""How often an idle thread looks by itself; `wake` is what normally calls it."""
STORE_RETRY_S = 5.0
"""How long to wait when the store cannot be read or written."""

log = structlog.get_logger("tailrace.alerts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait between attempts.

    Attributes:
        first_s: about the wait after the first failed attempt; it doubles with each further one.
        cap_s: the longest wait of our own choosing (Retry-After may ask for more).
        give_up_s: a message older than this is dropped.
    """

    first_s: float = 1.0
    cap_s: float = 300.0
    give_up_s: float = 3 * 86_400.0

    def delay_s(self, failures: int, *, jitter: float) -> float:
        """Return the wait after that many failures; `jitter` in [0, 1) takes up to half off."""
        # 2**60 s is beyond any cap; a larger exponent would overflow a float
        return min(self.cap_s, self.first_s * 2.0 ** min(failures - 1, 60)) * (1 - jitter / 2)


class Worker:
    """Delivers what one receiver is owed, one message at a time."""

    def __init__(
        self,
        outbox: Outbox,
        receiver: Receiver,
        *,
        backoff: Backoff,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.receiver = receiver
        self._outbox = outbox
        self._backoff = backoff
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._resume_at = 0.0
        self._longest_pause_s = 0.0
        self._disabled = False
        self._unrecorded: Callable[[], None] | None = None

    def step(self) -> float:
        """Do the one thing that is to be done now; return the seconds until the next may be.

        Raises:
            StoreError: the store cannot be used at the moment. A message that was sent is not
                sent again because of that: the next step records it first.
        """
        if self._unrecorded is not None:
            self._unrecorded()
            self._unrecorded = None
        now = self._clock()
        pause_s = self._resume_at - now
        # Longer than any pause that was asked for: the clock was set back
        if 0 < pause_s <= self._longest_pause_s:
            return pause_s
        delivery, due = self._outbox.next_due(self.receiver.name, now=now)
        if delivery is None:
            return IDLE_S if due is None else min(IDLE_S, max(0.0, due - now))
        if self._outbox.is_superseded(delivery):
            self._outbox.supersede(self.receiver.name, now=now)
            return 0.0
        self._record(self._attempt(delivery, now=now))
        return max(0.0, self._resume_at - self._clock())

    def _record(self, write: Callable[[], None]) -> None:
        self._unrecorded = write
        write()
        self._unrecorded = None

    def _attempt(self, delivery: Delivery, *, now: float) -> Callable[[], None]:
        """Make one attempt; return how to record what came of it."""
        try:
            receipt = self._send(delivery, now=now)
        except DeliveryError as error:
            return self._failed(delivery, error, now=self._clock())
        return self._succeeded(delivery, receipt, now=self._clock())

    def _send(self, delivery: Delivery, *, now: float) -> Mapping[str, str]:
        if self._disabled:
            raise DeliveryError("disabled", retry=False)
        if now - delivery.created > self._backoff.give_up_s:
            raise DeliveryError("expired", delivery.reason, retry=False)
        earlier = self._outbox.earlier_receipt(delivery)
        try:
            return self.receiver.send(_message(delivery, earlier), now=now)
        except DeliveryError:
            raise
        except Exception as error:  # a fault of ours must not end the thread
            # The text may hold anything: only where and what kind
            frame = error.__traceback__
            while frame is not None and frame.tb_next is not None:
                frame = frame.tb_next
            line = 0 if frame is None else frame.tb_lineno
            raise DeliveryError(
                "internal", f"{type(error).__name__}, line {line}", retry=True
            ) from None

    def _succeeded(
        self, delivery: Delivery, receipt: Mapping[str, str], *, now: float
    ) -> Callable[[], None]:
        was_down = self._failures > 0
        self._failures = 0
        self._pause(self.receiver.pace_s, now=now)

        def record() -> None:
            self._outbox.sent(delivery, receipt=receipt, now=now)
            if was_down:
                self._outbox.hasten(delivery.receiver, now=now)
            log.info("message delivered", **_about(delivery), attempts=delivery.attempts + 1)

        return record

    def _failed(
        self, delivery: Delivery, error: DeliveryError, *, now: float
    ) -> Callable[[], None]:
        about = {**_about(delivery), "reason": error.reason, "detail": error.detail}
        if not error.retry:
            self._disabled = self._disabled or error.disable
            self._pause(0.0 if self._disabled else self.receiver.pace_s, now=now)

            def record_dropped() -> None:
                self._outbox.drop(delivery, error, now=now)
                log.error("message dropped", **about)

            return record_dropped
        # The receiver rests as a whole: what ails one message probably ails the next
        self._failures += 1
        asked_s = error.retry_after_s or 0.0
        row_s = self._backoff.delay_s(delivery.attempts + 1, jitter=self._jitter())
        rest_s = self._backoff.delay_s(self._failures, jitter=self._jitter())
        due = now + max(asked_s, row_s)
        self._pause(max(asked_s, rest_s, self.receiver.pace_s), now=now)

        def record_put_off() -> None:
            self._outbox.put_off(delivery, error, due=due, now=now)
            log.warning("message not delivered yet", **about, retry_in_s=round(due - now, 1))

        return record_put_off

    def _pause(self, seconds: float, *, now: float) -> None:
        self._resume_at = now + seconds
        self._longest_pause_s = seconds


class Deliverer:
    """The delivery threads.

    Args:
        store: open for writing.
        receivers: who is told; the store learns their names, and stores messages for them from
            now on.
        rules: who is told of what; None tells all of all.
        backoff: how long to wait between attempts.
        clock: epoch seconds.
        jitter: a number in [0, 1).
        wait: waits until an event is set, at most that many seconds.

    Raises:
        ValueError: two receivers have the same name.
        StoreError: the store cannot be written.
    """

    def __init__(
        self,
        store: Store,
        receivers: Sequence[Receiver],
        *,
        rules: Rules | None = None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        names = [receiver.name for receiver in receivers]
        if len(set(names)) < len(names):
            raise ValueError(f"receivers need names of their own: {', '.join(sorted(names))}")
        store.register_receivers(names, rules)
        self._outbox = store.outbox
        self._wait = wait
        self._stopping = threading.Event()
        self._workers = [
            Worker(store.outbox, receiver, backoff=backoff or Backoff(), clock=clock, jitter=jitter)
            for receiver in receivers
        ]
        self._wakes = [threading.Event() for _ in self._workers]
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start delivering, beginning with what is still owed from before."""
        for worker, wake in zip(self._workers, self._wakes, strict=True):
            thread = threading.Thread(
                target=self._run,
                args=(worker, wake),
                name=f"deliver-{worker.receiver.name}",
                daemon=True,
            )
            self._threads.append(thread)
            thread.start()

    def wake(self) -> None:
        """Say that the outbox may hold something new; call it after each commit."""
        for wake in self._wakes:
            wake.set()

    def stop(self, timeout_s: float) -> bool:
        """Stop after the attempts that are under way; return whether all threads ended in time.

        What was not delivered stays in the outbox. A thread that did not end in time dies with
        the process.
        """
        self._stopping.set()
        self.wake()
        if not self._threads:  # otherwise each thread closes its own
            for worker in self._workers:
                worker.receiver.close()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def health(self) -> Mapping[str, ReceiverHealth]:
        """Return how deliveries go, by receiver.

        Raises:
            StoreError: the store cannot be read.
        """
        names = {worker.receiver.name for worker in self._workers}
        return {each.receiver: each for each in self._outbox.health() if each.receiver in names}

    def _run(self, worker: Worker, wake: threading.Event) -> None:
        try:
            while not self._stopping.is_set():
                wake.clear()
                try:
                    delay_s = worker.step()
                except Exception as error:  # messages go on, even when the log cannot be written
                    reason = error.reason if isinstance(error, StoreError) else "internal"
                    if reason == "closed":
                        return
                    with contextlib.suppress(Exception):
                        log.error(  # noqa: TRY400 - a text may hold anything
                            "messages cannot be read or recorded",
                            receiver=worker.receiver.name,
                            reason=reason,
                            kind=type(error).__name__,
                        )
                    delay_s = STORE_RETRY_S
                if delay_s > 0:
                    self._wait(wake, delay_s)
        finally:
            worker.receiver.close()


def _message(delivery: Delivery, earlier: Mapping[str, str]) -> AnyMessage:
    if delivery.event == "digest":
        return DigestMessage(id=delivery.id, digest=digest_from_json(delivery.payload))
    incident = incident_from_json(delivery.payload)
    return Message(id=delivery.id, event=delivery.event, incident=incident, earlier=earlier)


def _about(delivery: Delivery) -> dict[str, str]:
    return {
        "receiver": delivery.receiver,
        "about": delivery.incident_id,
        "change": delivery.event,
        "message": delivery.id,
    }
