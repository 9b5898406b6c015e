"""Incidents that cost tokens, for the tests of the budget."""

import itertools
from pathlib import Path

from hypothesis import strategies as st

from alerts.budget import (
    DAY_S,
    Budget,
)
from probes.window import Pair
from tests.alerts.examples import T0, finding, incident

ROOT = Path(__file__).parents[2]
WEEKLY = Budget(per_week=1.0, text="1/week")
REASON = "no token was left of false_alerts = 1/week"


def pair(number):
    return Pair(f"client-{number}", f"server-{number}", 80)


def about(number=0, *, at=T0, also=(), **changes):
    """Return an incident of one finding, of a pair of its own, and of those in `also`."""
    one = finding(**{"pair": pair(number), "onset": at, **changes})
    return incident(one, *also)


def critical(number, *, at=T0):
    return about(number, at=at, signal="connect_errors", before=0.0, after=1.0, unit="ratio")


def spend(ledger, *, now=T0):
    """Use up all tokens on incidents of their own."""
    for number in itertools.count(1000):
        if not ledger.fire(about(number, at=now - number), now=now):
            ledger.end(about(number, at=now - number).id)
            return


# The pure logic


STEP = st.tuples(
    st.sampled_from([0.0, 1.0, 20.0, 600.0, 4000.0, DAY_S, 3 * DAY_S, -500.0]),  # time that passes
    st.sampled_from(["fire", "fire", "fire", "end", "last", "confirm", "dismiss", "hard"]),
    st.integers(0, 7),  # which pair
    st.sampled_from(["rtt", "request_latency", "bytes_sent"]),
)
