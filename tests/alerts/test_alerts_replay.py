"""Incidents of a recording, as somebody who is told of everything hears of them."""

import dataclasses
import math

import pytest

from alerts.grouping import Incidents
from alerts.policy import UPDATE_EVERY_S
from alerts.replay import replayed
from probes.window import Pair
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


def test_of_windows_that_do_not_say_how_long_they_are_the_spacing_counts():
    def step(n, findings):
        plain = dataclasses.replace(calm(T0 + 300.0 * n), width=math.nan, nominal=math.nan)
        return plain, findings

    root = slow(API1_POSTGRES, detected=T0 + 300)
    later = slow(CLIENT_WEB, onset=T0 + 600, detected=T0 + 900)
    found = {1: [root], 3: [later], 5: [over(root, 1500.0), over(later, 900.0)]}
    lines = list(replayed((step(n, found.get(n, [])) for n in range(-5, 12)), Incidents()))
    assert len({line.incident.id for line in lines}) == 1
    assert lines[-1].incident.root.service == "postgres"


def test_what_was_part_of_another_before_it_was_told_is_no_line():
    first, root = slow(WEB_API1), slow(API1_POSTGRES)
    other = failing(Pair("worker", "postgres", 5432), detected=T0 + 3.0)
    # Two roots until what explains both is seen
    both = slow(Pair("postgres", "disk", 1), onset=T0, detected=T0 + 3.5)
    steps = [(calm(T0 + n), []) for n in range(-60, 3)]
    steps += [(calm(T0 + 3), [first, other, root, both])]
    steps += [(calm(T0 + n), []) for n in range(4, 30)]
    lines = list(replayed(steps, Incidents()))
    assert {line.incident.ended_as for line in lines} == {None}
    assert [line.event for line in lines] == ["firing", None]


def test_of_long_windows_the_next_one_confirms_what_is_mild() -> None:
    mild = slow(WEB_API1, ratio=1.5, after=0.003, detected=T0 + 300)
    found = {1: [mild], 3: [over(mild, 900.0)]}
    steps = [
        (dataclasses.replace(calm(T0 + 300.0 * n), width=300.0, nominal=300.0), found.get(n, []))
        for n in range(-5, 9)
    ]
    assert [line.event for line in replayed(steps, Incidents())] == ["firing", "resolved"]
