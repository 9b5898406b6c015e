"""Pictures: the last windows of a pair, in bars."""

import json
import math

from alerts.history import LENGTH, MOST_PAIRS, History
from probes.window import Pair
from tests.program.windows import WEB_API, window


def shown(values, signal="requests", *, restart=False):
    history = History()
    for second, value in enumerate(values):
        rows = [(WEB_API, signal, value, math.nan)] if value is not None else []
        other = (Pair("a", "b", 1), "requests", 1.0, math.nan)
        history.update(window([*rows, other], time=1e9 + second))
        if restart:
            history = History.from_json(json.loads(json.dumps(history.to_json())))
    return history.picture(WEB_API, signal)


def test_a_step_and_a_gap_and_nothing():
    assert shown([1.0] * 5 + [8.0] * 3) == "▂▂▂▂▂███"
    assert shown([1.0, None, 1.0]) == "█ █"
    assert shown([0.0, 0.0]) == "▁▁"
    assert shown([0.0, 0.25, 1.0], "connect_errors") == "▁▃█"
    assert shown([]) == ""
    assert shown([math.nan] * 3) == ""


def test_the_latest_windows_oldest_first_whatever_restarts():
    values = [float(n % 50) for n in range(3 * LENGTH + 7)]
    whole = shown(values)
    assert len(whole) == LENGTH
    assert whole == shown(values[-LENGTH:])
    assert whole == shown(values, restart=True)


def test_it_is_bounded_and_who_is_gone_makes_room():
    history = History()
    old = [(Pair(f"c{n}", "s", 1), "requests", 1.0, math.nan) for n in range(MOST_PAIRS)]
    late = (WEB_API, "requests", 1.0, math.nan)
    history.update(window([*old, late]))
    assert history.picture(WEB_API, "requests") == ""
    assert history.picture(old[-1][0], "requests") == "█"
    for second in range(3 * LENGTH):
        history.update(window([late], time=1.76e9 + second))
    assert history.picture(WEB_API, "requests") != ""
    assert history.picture(old[-1][0], "requests") == ""
