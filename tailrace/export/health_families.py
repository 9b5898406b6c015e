"""The metrics of Tailrace itself: how it does, what it found, who was told."""

from __future__ import annotations

from typing import Final

from tailrace.export.family import Family


def _counter(name: str, unit: str, text: str, *labels: str) -> Family:
    return Family(name=f"tailrace.{name}", type="counter", unit=unit, help=text, labels=labels)


def _gauge(name: str, unit: str, text: str, *labels: str) -> Family:
    return Family(name=f"tailrace.{name}", type="gauge", unit=unit, help=text, labels=labels)


BUILD: Final = _gauge("build.info", "{build}", "1, with what runs.", "version", "python")
STARTED: Final = _gauge("start_time", "s", "When the daemon began, epoch seconds.")

WINDOWS: Final = _counter("windows", "{window}", "Windows taken.")
WINDOW: Final = _gauge("window", "s", "Length that windows are asked to have.")
LAST_WINDOW: Final = _gauge("last_window_time", "s", "End of the latest window, epoch seconds.")
PAIRS: Final = _gauge("pairs", "{pair}", "Service pairs of the last ten windows.")
STREAMS: Final = _gauge(
    "streams", "{stream}", "Signals of pairs, by what becomes of them.", "state"
)
LOST_SAMPLES: Final = _counter("lost.samples", "{sample}", "Samples lost, of all kinds.")
LOST: Final = _counter("lost", "{loss}", "What was lost, by kind.", "kind")
OVERHEAD: Final = _gauge(
    "overhead", "1", "Share of one core: the daemon, and its programs in the kernel.", "part"
)
BUDGET: Final = _gauge("overhead_budget", "1", "What both may come to; absent for no limit.")
LEVEL: Final = _gauge(
    "measurement_level", "{level}", "0 while all is measured; higher with fewer samples."
)
FOLDED: Final = _gauge("pairs.folded", "{pair}", "Pairs that the probes count under `other`.")
NAMING: Final = _gauge("naming.problems", "{problem}", "What keeps services from better names.")
STORING: Final = _gauge("store.failing", "{store}", "1 while nothing can be stored.")

FINDINGS: Final = _counter("findings", "{finding}", "Findings that began.", "signal", "direction")
FIRING: Final = _gauge("findings.firing", "{finding}", "Findings that fire.")
CHANGES: Final = _gauge("changes", "{change}", "Changes in the feed: shown, and not told.")
INCIDENTS: Final = _gauge(
    "incidents", "{incident}", "Open incidents.", "state", "severity", "suppressed"
)
EVENTS: Final = _counter(
    "incident.events", "{event}", "What became of incidents, by the severity then.",
    "event", "severity",
)  # fmt: skip
DELIVERIES: Final = _counter(
    "deliveries", "{message}", "Messages given up since the start, and sent.", "receiver", "result"
)
PENDING: Final = _gauge("outbox.pending", "{message}", "Messages still owed.", "receiver")
OLDEST: Final = _gauge("outbox.oldest", "s", "Age of the oldest message still owed.", "receiver")
FAILING: Final = _gauge(
    "receiver.failing", "{receiver}", "1 if the latest attempt failed, or it is gone.", "receiver"
)

EXPECTED: Final = _gauge(
    "calibration.expected_alarms", "{alarm}", "False alarms allowed so far.", "kind"
)
REALISED: Final = _gauge(
    "calibration.realised_alarms", "{alarm}", "Alarms so far, real ones included.", "kind"
)
E_VALUE: Final = _gauge(
    "calibration.e_value", "{e_value}", "Mean e-value of quiet windows; at most 1 is right.", "kind"
)
JUDGED: Final = _gauge("calibration.streams", "{stream}", "Streams that are judged.", "kind")
RAISED: Final = _gauge(
    "calibration.raised", "{nat}", "By how much thresholds are higher than the theory's.", "kind"
)

EXPORTED: Final = _gauge("export.pairs", "{pair}", "Service pairs with series of their own.")
REST: Final = _gauge(
    "export.pairs_folded", "{pair}", "Service pairs exported as `other`: above max_pairs."
)
SCRAPES: Final = _counter("export.scrapes", "{scrape}", "Answers to scrapes, by status.", "status")
SCRAPE: Final = _gauge("export.scrape", "s", "CPU time of the latest scrape's answer.")
SENT: Final = _counter("otlp.sent", "{item}", "Points and records that OTLP took.", "signal")
DROPPED: Final = _counter(
    "otlp.dropped", "{item}", "Points and records that OTLP did not take.", "signal", "reason"
)
FAILED: Final = _counter("otlp.failures", "{request}", "Requests that failed.", "signal")
QUEUE: Final = _gauge("otlp.queue", "{item}", "Points and records still to be sent.", "signal")

FAMILIES: Final[tuple[Family, ...]] = tuple(
    each for each in list(globals().values()) if isinstance(each, Family)
)
