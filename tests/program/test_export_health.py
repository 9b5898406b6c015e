"""What is exported of Tailrace itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from alerts.grouping import Change
from alerts.outbox import ReceiverHealth
from detector.calibration import Calibration
from detector.finding import Finding
from probes.window import SIGNALS, VIEWS, Kind
from tailrace.condition import LOST_KINDS, Condition
from tailrace.export import health_families as of
from tailrace.export.family import Family
from tailrace.export.health import Health
from tailrace.status import Status
from tests.alerts import examples
from tests.program.windows import WEB_API, window


class Kept:
    """A detector that counts how often it is asked."""

    asked = 0

    def calibration(self) -> Sequence[Calibration]:
        self.asked += 1
        return [
            Calibration(Kind.COUNT, 12, 0.5, 0.25, 3, 0.9, "empirical", 1.5),
            Calibration(Kind.RATIO, 4, 0.1, 0.01, 0, math.nan, "theory", 0.0),
        ]


def values(health: Health, family: Family, *, now: float = 1000.0) -> dict[tuple[str, ...], float]:
    found = [samples for each, samples in health.measured(now=now) if each is family]
    return {sample.labels: sample.value for samples in found for sample in samples}


def receiver(**changes: object) -> ReceiverHealth:
    base = ReceiverHealth(
        receiver="team", pending=2, oldest_pending=940.0, sent=100, dropped=5,
        last_success=None, last_failure=None, last_error="", disabled=False,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def status(uptime_s: float = 1.0, **changes: object) -> Status:
    base = Status(uptime_s=uptime_s, windows=1, pairs=3, learning=4, judged=5, firing=1, lost=0,
                  pending=0)  # fmt: skip
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_findings_are_counted_once_when_they_begin() -> None:
    health = Health(started=0.0)
    before = values(health, of.FINDINGS)
    assert set(before.values()) == {0}
    judged = {s for s, kind in SIGNALS.items() if s not in VIEWS and kind is not Kind.GAUGE}
    assert {signal for signal, _ in before} == judged
    slow = examples.finding()
    gauge = examples.finding(signal="queue_depth", direction="down")
    row = window([(WEB_API, "requests", 1.0, math.nan)], lost=3)
    health.window(row, [slow, gauge], [])
    health.window(row, [examples.ended(slow)], [])
    after = values(health, of.FINDINGS)
    assert after["request_latency", "up"] == 1
    assert after["other", "down"] == 1
    assert sum(after.values()) == 2
    assert values(health, of.LOST_SAMPLES) == {(): 6}
    assert values(health, of.WINDOWS) == {(): 2}
    assert values(health, of.LAST_WINDOW) == {(): row.time + 1}


def test_incidents_as_they_are_and_as_they_went() -> None:
    health = Health(started=0.0)
    slow: Finding = examples.finding()
    fires = examples.incident(slow, severity="critical")
    held = examples.incident(slow, severity="warning", suppressed="muted")
    row = window([(WEB_API, "requests", 1.0, math.nan)])
    health.window(row, [], [Change(fires, "firing"), Change(fires, None), Change(held, "updated")])
    events = values(health, of.EVENTS)
    assert events["firing", "critical"] == events["updated", "warning"] == 1
    assert sum(events.values()) == 2
    health.stored([fires, held], [])
    found = values(health, of.INCIDENTS)
    assert len(found) == 18
    assert found[fires.state, "critical", "false"] == 1
    assert found[held.state, "warning", "true"] == 1
    assert sum(found.values()) == 2
    health.stored([], [])
    assert set(values(health, of.INCIDENTS).values()) == {0}


def test_deliveries_are_counted_since_the_start_whatever_the_store_forgets() -> None:
    health = Health(started=0.0)
    counted = []
    for sent, dropped in ((100, 5), (103, 5), (40, 1), (41, 2)):
        health.stored([], [receiver(sent=sent, dropped=dropped)])
        found = values(health, of.DELIVERIES)
        counted.append((found["team", "sent"], found["team", "dropped"]))
    assert counted == [(0, 0), (3, 0), (3, 0), (4, 1)]
    assert values(health, of.PENDING) == {("team",): 2}
    assert values(health, of.OLDEST) == {("team",): 60}
    assert values(health, of.FAILING) == {("team",): 0}
    health.stored([], [receiver(oldest_pending=None, last_error="timeout")])
    assert values(health, of.OLDEST) == {("team",): 0}
    assert values(health, of.FAILING) == {("team",): 1}


def test_calibration_is_asked_for_now_and_then() -> None:
    health, detector = Health(started=0.0), Kept()
    for second in range(11):
        health.status(status(float(second)), detector, storing=True)
    assert detector.asked == 3
    assert values(health, of.EXPECTED) == {("count",): 0.25, ("ratio",): 0.01}
    assert values(health, of.REALISED) == {("count",): 3, ("ratio",): 0}
    assert values(health, of.E_VALUE) == {("count",): 0.9}  # of the other none is known
    assert values(health, of.RAISED) == {("count",): 1.5, ("ratio",): 0}


def test_the_condition_of_watching() -> None:
    health = Health(started=0.0)
    assert values(health, of.PAIRS) == {}  # not known before the first window
    condition = Condition(level=2, user=0.004, lost={"latencies": 7, "new kind": 1}, folded=9)
    health.status(status(condition=condition), Kept(), storing=False)
    assert values(health, of.OVERHEAD) == {("daemon",): 0.004}
    assert values(health, of.BUDGET) == {}
    assert values(health, of.LEVEL) == {(): 2}
    assert values(health, of.FOLDED) == {(): 9}
    lost = values(health, of.LOST)
    assert {kind for (kind,) in lost} == {*LOST_KINDS, "new kind"}
    assert lost["latencies",] == 7
    assert lost["groups",] == 0
    assert values(health, of.STORING) == {(): 1}
    assert values(health, of.STREAMS) == {("judged",): 5, ("learning",): 4}
