"""A shop with three faults, watched by a daemon for an hour and a half: its state directory.

What the pictures of reports are made of, and tests of them: simulated traffic through the real
loop, detector, grouping, store and history.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from alerts.grouping import Incidents
from alerts.incident import Trigger
from alerts.store import Store
from detector.engine import Detector
from detector.settings import DetectorSettings
from probes.window import Window
from tailrace import state
from tailrace.condition import Condition
from tailrace.daemon import Daemon
from tailrace.history.database import FILE
from tailrace.history.keeper import Keeper
from tailrace.history.settings import HistorySettings
from tailrace.pairs import PairTable, publish
from tailrace.simulation.fleet import Fleet
from tailrace.simulation.scenario import Fault, Pairs, Scenario
from tailrace.status import Status

LASTS_S = 5400.0
FAILS_AT_S, SLOW_AT_S = 2700.0, 5040.0
"""When the payment provider refuses, for five minutes, and when redis becomes slow, for good."""


def _pair(client: str, server: str, port: int, **law: object) -> Pairs:
    return Pairs.model_validate({"client": client, "server": server, "port": port, **law})


def scenario(begin: float) -> Scenario:
    """Return a shop of a dozen services, and what happens to it."""
    slow = {"kind": "latency", "at": SLOW_AT_S}
    faults = (
        slow | {"server": "redis", "size": 5.2},
        slow | {"client": "frontend", "server": "cart", "size": 3.1},
        slow | {"client": "checkout", "server": "cart", "size": 2.7},
        slow | {"client": "frontend", "server": "checkout", "size": 1.6},
        {"kind": "errors", "client": "payment", "server": "api.stripe.com", "size": 0.12,
         "at": FAILS_AT_S, "lasts": 300.0},
    )  # fmt: skip
    return Scenario(
        about="a shop",
        begin=begin,
        lasts=LASTS_S,
        pairs=(
            _pair("external", "frontend", 443, requests=180, connections=20, latency="14ms"),
            _pair("frontend", "catalog", 8080, requests=120, latency="5ms"),
            _pair("frontend", "cart", 8080, requests=60, latency="4ms"),
            _pair("frontend", "checkout", 8080, requests=12, latency="20ms"),
            _pair("frontend", "ads", 8080, requests=40, latency="3ms"),
            _pair("checkout", "cart", 8080, requests=12, latency="4ms"),
            _pair("checkout", "payment", 8080, requests=10, latency="9ms"),
            _pair("checkout", "shipping", 8080, requests=10, latency="6ms"),
            _pair("checkout", "rabbitmq", 5672, requests=20, latency="1ms"),
            _pair("cart", "redis", 6379, requests=150, latency="0.4ms"),
            _pair("ads", "redis", 6379, requests=40, latency="0.4ms"),
            _pair("catalog", "postgres", 5432, requests=240, latency="2ms"),
            _pair("shipping", "postgres", 5432, requests=20, latency="2ms"),
            _pair("payment", "api.stripe.com", 443, requests=9, connections=9, pooled=False,
                  latency="80ms"),
            _pair("worker", "rabbitmq", 5672, requests=25, latency="1ms"),
            _pair("worker", "postgres", 5432, requests=30, latency="3ms"),
            _pair("worker", "smtp.example.com", 587, requests=1, connections=1, latency="120ms"),
        ),
        faults=tuple(Fault.model_validate(fault) for fault in faults),
    )  # fmt: skip


class Quiet:
    """A voice that says nothing."""

    def note(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def finding(self, finding: object) -> None: ...
    def status(self, status: Status) -> None: ...
    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None: ...


def build(directory: Path, *, end: float, lasts_s: float = LASTS_S) -> None:
    """Fill a state directory with what a daemon leaves that watched the shop until `end`.

    Args:
        directory: is made.
        end: epoch seconds.
        lasts_s: how much of the story is told.
    """
    directory.mkdir(parents=True, exist_ok=True)
    begin = end - lasts_s
    fleet = Fleet(scenario(begin), seed=3, lasts=lasts_s)
    now = [begin]
    deploy = Trigger(kind="deploy", service="redis", at=begin + SLOW_AT_S - 9.0,
                     detail="image redis:8.2 in place of redis:7.4")  # fmt: skip
    coming = [deploy]

    def triggers() -> list[Trigger]:
        return [coming.pop()] if coming and now[0] >= coming[0].at else []

    table = PairTable()
    detector = Detector(DetectorSettings())
    with Store.open(directory) as store:
        store.register_receivers(["team"])
        daemon = Daemon(
            detector=detector,
            store=store,
            voice=Quiet(),
            incidents=Incidents(),
            triggers=triggers,
            clock=lambda: now[0],
        )

        keeper = Keeper(directory / FILE, HistorySettings())

        def windows() -> Iterator[Window]:
            for number, window in enumerate(fleet.windows(), start=1):
                now[0] = window.time + window.nominal
                table.add(window)
                keeper.add(window)
                if number % 60 == 0:
                    keeper.flush()
                yield window

        daemon.run(windows())
        keeper.close()
    publish(
        directory / state.PAIRS,
        table,
        now=time.time(),
        window_s=1.0,
        condition=Condition(user=0.0031, kernel=0.0006, budget=0.01),
        calibration=detector.calibration(),
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]), end=float(int(time.time())))
