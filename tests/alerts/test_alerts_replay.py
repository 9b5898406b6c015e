"""Incidents of a recording, as somebody who is told of everything hears of them."""

import pytest

from alerts.grouping import Incidents
from alerts.policy import UPDATE_EVERY_S
from alerts.replay import replayed
from tests.alerts.shop import (
    API1_POSTGRES,
    CLIENT_WEB,
    T0,
    WEB_API1,
    calm,
    failing,
    over,
    slow,
)


def heard(findings, *, seconds):
    """Return what is told of these findings: (event, severity, seconds after T0, root)."""
    steps = [
        (calm(T0 + n), [f for f in findings if n <= (f.ended or f.detected) - T0 < n + 1])
        for n in range(-60, seconds)
    ]
    return [
        (c.event, c.incident.severity, round(c.incident.changed - T0), c.incident.root.service)
        for c in replayed(steps, Incidents())
    ]


def test_worse_is_told_at_once_and_what_is_still_open_as_it_is_at_the_end():
    findings = [
        slow(WEB_API1, ratio=3.0),
        slow(CLIENT_WEB, onset=T0 + 10, detected=T0 + 20),
        slow(API1_POSTGRES, onset=T0 + 1, detected=T0 + 25),
        failing(API1_POSTGRES, onset=T0 + 20, detected=T0 + 30),
    ]
    first, worse, last = heard(findings, seconds=200)
    assert first[:2] == ("firing", "warning")
    assert worse == ("updated", "critical", 31, "postgres")  # with what is wider by then
    assert last[0] is None
    assert last[1:] == ("critical", last[2], "postgres")


@pytest.mark.parametrize(
    ("after_s", "told"), [(30, ["firing", "resolved"]), (400, ["firing", "updated", "resolved"])]
)
def test_another_root_is_told_not_too_often(after_s, told):
    assert 30 < UPDATE_EVERY_S < 400
    one = slow(WEB_API1)
    root = slow(API1_POSTGRES, onset=T0 + 1, detected=T0 + after_s)
    findings = [one, root, over(one, after_s + 100.0), over(root, after_s + 100.0)]
    lines = heard(findings, seconds=600)
    assert [event for event, *_ in lines] == told
    assert lines[-1][3] == "postgres"


def test_what_ends_untold_is_a_line_without_an_event():
    mild = slow(WEB_API1, ratio=1.5, after=0.003)
    assert [line[0] for line in heard([mild, over(mild, after_s=5.0)], seconds=60)] == [None]
