"""The views of the live page, of made-up rows: order, pages, what changed, words."""

from __future__ import annotations

import time
from typing import Any

import pytest

from probes.window import EVERY, Pair
from tailrace.page.app import _own
from tailrace.page.live import Known
from tailrace.page.overview import Overview
from tailrace.page.pair_list import PAGE, PairList, listed
from tailrace.page.render import NOTHING, ago, key_of
from tailrace.page.source import Snapshot
from tailrace.page.views import Rows, digest
from tests.alerts.examples import finding, incident


def row(pair: Pair, **values: Any) -> dict[str, Any]:
    client, server, port, transport = pair
    return {"client": client, "server": server, "port": port, "transport": transport, **values}


def many(number: int) -> dict[Pair, dict[str, Any]]:
    pairs = [Pair(f"client-{n:04}", f"server-{n % 7}", 8080) for n in range(number)]
    return {pair: row(pair, requests=float(n)) for n, pair in enumerate(pairs)}


def parts_of(view: PairList, snapshot: Snapshot) -> tuple[list[str], str, str]:
    """Return the keys of the lines that are shown, and the texts around them."""
    parts = view.parts(snapshot, time.time())
    rows = parts["pairs"]
    assert isinstance(rows, Rows)
    return list(rows.items), parts["count"].__html__(), parts["pages"].__html__()


def test_a_long_list_comes_in_pages() -> None:
    snapshot = Snapshot(version=1, rows=many(2000))
    first, count, pages = parts_of(PairList(), snapshot)
    assert len(first) == PAGE
    assert "1 to 50 of 2,000 pairs" in count
    assert "Page 1 of 40" in pages
    assert 'href="/pairs?page=2"' in pages
    assert "Previous" not in pages
    seen = {key for n in range(1, 41) for key in parts_of(PairList(page=n), snapshot)[0]}
    assert len(seen) == 2000
    last = parts_of(PairList(page=40), snapshot)
    assert parts_of(PairList(page=999), snapshot) == last
    assert parts_of(PairList(page=-1), snapshot)[0] == first
    found, count, pages = parts_of(PairList(search="CLIENT-00 :8080 server-3", page=2), snapshot)
    assert len(found) == 14  # of the first hundred every seventh
    assert "1 to 14 of 14 pairs with" in count
    assert pages == ""
    assert "No pair has" in parts_of(PairList(search="nothing like it"), snapshot)[1]


def test_what_is_wrong_comes_first_and_else_what_was_asked_for() -> None:
    found = finding()
    flagged, what = found.pair, incident(found)
    snapshot = Snapshot(
        version=1,
        rows=many(100) | {flagged: row(flagged, requests=0.5)},
        incidents=[what],
        findings=[found],
    )
    first, second, *_ = listed(snapshot)
    assert (first.pair, first.severity) == (flagged, what.severity)
    assert first.wrong
    assert (second.severity, second.wrong) == ("", "")
    busiest = [each.row["requests"] for each in listed(snapshot, sort="requests")]
    assert min(busiest[:20]) > max(busiest[-20:])
    # a little more or less moves nothing: the list must not jump about
    moved = {
        pair: {**each, "requests": each["requests"] * 1.001} for pair, each in many(64).items()
    }
    orders = [
        [each.pair for each in listed(Snapshot(version=1, rows=rows), sort="requests")]
        for rows in (many(64), moved)
    ]
    assert orders[0] == orders[1]


def test_a_roll_up_flags_the_pairs_that_are_part_of_it() -> None:
    found = finding(pair=Pair(EVERY, "server-3", 8080))
    snapshot = Snapshot(version=1, rows=many(14), findings=[found])
    assert {pair.server for pair in snapshot.flags()} == {"server-3"}
    assert len(snapshot.flags()) == 2


def test_of_what_changed_only_that_is_sent() -> None:
    rows = many(10)
    view, known = PairList(), Known()
    whole = known.changed(view.parts(Snapshot(version=1, rows=rows), 0.0))
    assert len(whole["lists"]["pairs"]["rows"]) == 10
    assert known.changed(view.parts(Snapshot(version=2, rows=rows), 0.0)) == {}
    [one, other, *_] = rows
    rows[one] = {**rows[one], "requests": 1234.0}
    changed = known.changed(view.parts(Snapshot(version=3, rows=rows), 0.0))
    cells = {key_of(one): ("1,234 req/s", NOTHING, NOTHING, "")}
    assert changed == {"lists": {"pairs": {"cells": cells}}}
    del rows[other]
    changed = known.changed(view.parts(Snapshot(version=4, rows=rows), 0.0))
    assert set(changed["lists"]["pairs"]) == {"order"}
    assert len(changed["lists"]["pairs"]["order"]) == 9
    gone = known.changed(view.parts(Snapshot(version=5, problem="it stopped"), 0.0))
    assert gone["lists"]["pairs"] == {"order": []}
    assert "it stopped" in gone["parts"]["count"]


def test_what_the_browser_has_is_not_sent_again() -> None:
    snapshot = Snapshot(version=1, rows=many(3))
    parts = Overview().parts(snapshot, 0.0)
    assert Known([digest(part) for part in parts.values()]).changed(parts) == {}
    assert set(Known().changed(parts)["parts"]) >= {"verdict", "map"}


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("/pairs?q=a", "/pairs?q=a"),
        ("", "/"),
        ("pairs", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_one_is_sent_back_to_this_page_only(address: str, own: str) -> None:
    assert _own(address) == own


def test_how_long_ago() -> None:
    said = [ago(seconds) for seconds in (0, 59.9, 60, 119, 120, 7199, 90_000)]
    assert said == [
        "less than a minute ago", "less than a minute ago", "1 min ago", "1 min ago",
        "2 min ago", "119 min ago", "25 h ago",
    ]  # fmt: skip
