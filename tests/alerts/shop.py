"""A simulated system of seven services, and the findings that faults at its places make.

client -> web -> api1 and api2; api1 -> redis and postgres; api2 -> redis; worker -> redis.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from alerts.grouping import Change, Incidents
from alerts.incident import Trigger
from detector.finding import Finding, State, finding_id
from probes.window import Pair, Window
from tests.program.windows import window

T0 = 1_767_323_045.0
CLIENT_WEB = Pair("client", "web", 80)
WEB_API1 = Pair("web", "api1", 8080)
WEB_API2 = Pair("web", "api2", 8080)
API1_REDIS = Pair("api1", "redis", 6379)
API1_POSTGRES = Pair("api1", "postgres", 5432)
API2_REDIS = Pair("api2", "redis", 6379)
WORKER_REDIS = Pair("worker", "redis", 6379)
RATES = {
    CLIENT_WEB: 60.0, WEB_API1: 40.0, WEB_API2: 20.0, API1_REDIS: 80.0, API1_POSTGRES: 40.0,
    API2_REDIS: 40.0, WORKER_REDIS: 50.0,
}  # fmt: skip


def calm(at: float, *, rates: dict[Pair, float] | None = None) -> Window:
    """Return a second in which everybody is well."""
    rows = [(pair, "requests", rate, math.nan) for pair, rate in (rates or RATES).items()]
    return window(rows, time=at)


def learned(*, rates: dict[Pair, float] | None = None) -> Incidents:
    """Return incidents that know the graph."""
    incidents = Incidents()
    for second in range(10):
        incidents.update(calm(T0 - 10 + second, rates=rates), [])
    return incidents


def change(pair: Pair, signal: str, direction: str = "up", **more: Any) -> Finding:
    """Return a finding that fires: a latency of ten times, or whatever `more` says."""
    onset = more.pop("onset", T0)
    base: dict[str, Any] = {
        "before": 0.002, "after": 0.02, "ratio": 10.0, "unit": "s", "significance": 8.0,
        "cause": "", "state": "firing", "detected": onset + 3.0,
    }  # fmt: skip
    return Finding(
        id=finding_id(pair, signal, direction, onset), pair=pair, signal=signal,
        direction=direction, onset=onset, **(base | more),
    )  # fmt: skip


def slow(pair: Pair, **more: Any) -> Finding:
    return change(pair, "request_latency", **({"side": "server"} | more))


def failing(pair: Pair, cause: str = "refused", **more: Any) -> Finding:
    sides = {"refused": "server", "unreachable": "network", "no_port": "client"}
    values = {"before": 0.0, "after": 1.0, "ratio": None, "unit": "ratio"}
    return change(
        pair, "connect_errors", **(values | {"cause": cause, "side": sides.get(cause, "")} | more)
    )


def busy(pair: Pair, factor: float = 5.0, **more: Any) -> Finding:
    rate = RATES[pair]
    values = {"before": rate, "after": rate * factor, "ratio": factor, "unit": "1/s"}
    return change(pair, "requests", **(values | {"side": "client"} | more))


def fallen(pair: Pair, factor: float = 0.0, **more: Any) -> Finding:
    rate = RATES[pair]
    values = {"before": rate, "after": rate * factor, "ratio": factor, "unit": "1/s"}
    return change(pair, "requests", "down", **(values | more))


def silent(pair: Pair, **more: Any) -> Finding:
    values = {"before": None, "after": 0.0, "ratio": None, "unit": ""}
    return change(pair, "silent_pair", "gone", **(values | more))


def over(finding: Finding, after_s: float = 30.0, state: State = "resolved") -> Finding:
    """Return a finding as it is when it has ended, so long after its onset."""
    return dataclasses.replace(finding, state=state, ended=finding.onset + after_s)


def run(
    steps: Sequence[Finding],
    incidents: Incidents | None = None,
    *,
    seconds: int = 60,
    restart: bool = False,
    triggers: Iterable[Trigger] = (),
) -> tuple[list[Change], Incidents]:
    """Take findings second by second as they are detected; return what changed."""
    incidents = learned() if incidents is None else incidents
    changes: list[Change] = []
    for second in range(seconds):
        at = T0 + second
        due = [f for f in steps if at <= (f.ended or f.detected) < at + 1]
        changes += incidents.update(calm(at - 1), due, triggers if second == 0 else ())
        if restart:
            incidents = Incidents.from_bytes(incidents.to_bytes())
    return changes, incidents


FINDING = st.tuples(
    st.sampled_from(list(RATES)),
    st.sampled_from([slow, failing, busy, fallen, silent]),
    st.integers(0, 100),  # onset
    st.integers(1, 20),  # until it is found
    st.integers(1, 200),  # until it ends
    st.sampled_from(["resolved", "adopted"]),
)
