"""The export as the daemon has it: told of each window, asked by scrapers, sending by itself.

The loop only adds up numbers. Scrapes are answered, OTLP is sent and the store is read in threads
of their own; they take copies.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import ProcessCollector

from alerts.errors import StoreError
from alerts.grouping import Change
from alerts.incident import Incident, State
from alerts.outbox import ReceiverHealth
from detector.calibration import Calibration
from detector.finding import Finding
from probes.identity.service import Service
from probes.window import Window
from tailrace.errors import TailraceError
from tailrace.export import health_families, text
from tailrace.export.family import Measured, Sample
from tailrace.export.health import Health
from tailrace.export.server import Server, is_loopback
from tailrace.export.settings import FILE, ExportSettings
from tailrace.export.totals import Snapshot, Totals, fit
from tailrace.status import Status

if TYPE_CHECKING:
    from tailrace.export.sender import Sender

POLL_S: Final = 5.0
"""How often the store is asked for open incidents and deliveries."""
STOP_S: Final = 5.0
_STATUSES: Final = (200, 404)
_OPEN: Final[tuple[State, ...]] = ("pending", "firing", "recovering")


class Detector(Protocol):
    """What is asked of the detector."""

    def firing(self) -> Sequence[Finding]:
        """Return what fires."""

    def calibration(self) -> Sequence[Calibration]:
        """Return whether each kind of signal honours the theory."""


class Outbox(Protocol):
    """What is asked of the outbox."""

    def health(self) -> list[ReceiverHealth]:
        """Return how deliveries go."""


class Store(Protocol):
    """What is asked of the store."""

    @property
    def outbox(self) -> Outbox:
        """The messages owed."""

    def incidents(self, *, state: State) -> list[Incident]:
        """Return the incidents in a state."""


class Exporter:
    """All that leaves by way of metrics.

    Args:
        settings: what, and where to.
        store: asked for incidents and deliveries.
        services: what is known of the services, by name.
        state_dir: where `FILE` is written; None for nowhere.
        warn: told what is wrong and goes on.
        note: told what is worth knowing.
        clock: epoch seconds.

    Raises:
        TailraceError: OTLP is asked for and its package is missing, or a certificate is.
    """

    def __init__(
        self,
        settings: ExportSettings,
        *,
        store: Store,
        warn: Callable[[str], None],
        note: Callable[[str], None],
        services: Callable[[], Mapping[str, Service]] = dict,
        state_dir: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._store, self._clock = settings, store, clock
        self._warn, self._note = warn, note
        self._file = None if state_dir is None else state_dir / FILE
        self._totals = Totals(settings.max_pairs, services=services)
        self._health = Health(started=clock())
        self._firing: Sequence[Finding] = ()
        self._lock = threading.Lock()
        self._rendering = threading.Lock()
        self._answers: Counter[int] = Counter(dict.fromkeys(_STATUSES, 0))
        self._rendered_s = 0.0
        self._process = ProcessCollector(registry=None)
        self._listening = ""
        self._server: Server | None = None
        self._sender = self._make_sender()
        self._ending = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="export", daemon=True)

    @property
    def port(self) -> int | None:
        """Where metrics are served; None if they are not."""
        return None if self._server is None else self._server.port

    def start(self) -> None:
        """Begin to serve and to send."""
        self._look_at_store()
        self._serve()
        if self._sender is not None:
            self._sender.start()
        self._publish()
        self._poller.start()

    def stop(self) -> None:
        """Send what there is, once, and end."""
        self._ending.set()
        if self._server is not None:
            self._server.close()
        if self._sender is not None:
            self._sender.stop(STOP_S)
        self._poller.join(STOP_S)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    # What the daemon tells

    def window(
        self, window: Window, findings: Iterable[Finding], changes: Iterable[Change]
    ) -> None:
        """Take a window, what began or ended with it, and what became of incidents."""
        with self._lock:
            self._totals.add(window)
            self._health.window(window, findings, changes)
        if self._sender is None:
            return
        from tailrace.export.encode import Event  # noqa: PLC0415 - only there with OTLP

        now = self._clock()
        for finding in findings:
            self._sender.event(Event(finding, finding.state, now))
        for incident, event in changes:
            if event is not None:
                self._sender.event(Event(incident, event, now))

    def status(self, status: Status, detector: Detector, *, storing: bool) -> None:
        """Take how the daemon does after a window."""
        with self._lock:
            self._health.status(status, detector, storing=storing)
            self._firing = detector.firing()

    # What others ask

    def measured(self) -> list[Measured]:
        """Return what is of no service pair."""
        with self._lock:
            found = self._health.measured(now=self._clock())
            pairs = len(self._totals), self._totals.folded
            answers = [Sample((str(status),), n) for status, n in sorted(self._answers.items())]
        found += [
            (health_families.EXPORTED, [Sample((), pairs[0])]),
            (health_families.REST, [Sample((), pairs[1])]),
            (health_families.SCRAPES, answers),
            (health_families.SCRAPE, [Sample((), self._rendered_s)]),
        ]
        return found + ([] if self._sender is None else self._sender.measured())

    def snapshot(self) -> Snapshot:
        """Return the totals of service pairs."""
        with self._lock:
            firing = [(fit(f.pair), f.signal, f.direction) for f in self._firing]
            return self._totals.snapshot()._replace(firing=tuple(firing))

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all of it as Prometheus reads it, and its content type; one at a time."""
        with self._rendering:
            began = time.thread_time()
            answer = text.exposition(
                accept,
                measured=self.measured(),
                others=(self._process,),
                snapshot=self.snapshot(),
                names=self._settings.names,
            )
            self._rendered_s = time.thread_time() - began
            return answer

    # Threads

    def _serve(self) -> None:
        if self._settings.listen is None:
            return
        host, port = self._settings.listen
        try:
            self._server = Server(host, port, answer=self.exposition, counted=self._count)
        except TailraceError as error:
            self._warn(str(error).replace("\n  remedy: ", "; "))
            self._listening = f"not served: {error.what}"
            return
        self._listening = (
            f"http://{f'[{host}]' if ':' in host else host}:{self._server.port}/metrics"
        )
        self._note(f"metrics are at {self._listening}")
        if not is_loopback(host):
            self._warn(
                f"metrics are served beyond this host, on {host}: whoever reaches it can read them"
            )

    def _count(self, status: int) -> None:
        with self._lock:
            self._answers[status] += 1

    def _make_sender(self) -> Sender | None:
        otlp = self._settings.otlp
        if otlp is None:
            return None
        try:
            from tailrace.export import attributes, encode  # noqa: PLC0415 - an extra brings it
            from tailrace.export.sender import Sender  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise TailraceError(
                f"OTLP needs a package that is not installed: {error.name}",
                where="[otlp]",
                remedy="pip install 'tailrace[otlp]', or take [otlp] out of the configuration",
            ) from error
        resource = attributes.resource(otlp.attributes)
        return Sender(
            otlp,
            metrics=lambda: encode.metrics(
                self.measured(),
                self.snapshot(),
                self._settings.names,
                resource=resource,
                started=self._health.started,
                now=self._clock(),
            ),
            resource=resource,
            warn=self._warn,
            note=self._note,
        )

    def _poll(self) -> None:
        while not self._ending.wait(POLL_S):
            self._look_at_store()
            self._publish()

    def _look_at_store(self) -> None:
        with contextlib.suppress(StoreError):  # the daemon says it, and what was known stays
            incidents = [each for state in _OPEN for each in self._store.incidents(state=state)]
            receivers = self._store.outbox.health()
            with self._lock:
                self._health.stored(incidents, receivers)

    def _publish(self) -> None:
        """Replace the file that `tailrace doctor` reads."""
        if self._file is None:
            return
        sent, dropped, waiting = (0, 0, 0) if self._sender is None else self._sender.counts()
        data = {
            "schema": "tailrace.export/1",
            "time": self._clock(),
            "metrics": self._listening,
            "pairs": len(self._totals),
            "folded": self._totals.folded,
            "otlp": None
            if self._sender is None
            else {
                "sent": sent,
                "dropped": dropped,
                "waiting": waiting,
                "error": self._sender.error,
            },
        }
        temporary = self._file.with_name(f".{FILE}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a full disk is told by the store
            temporary.write_text(json.dumps(data), encoding="utf-8")
            temporary.replace(self._file)
