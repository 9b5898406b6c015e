"""Windows of several hosts as one."""

from __future__ import annotations

import math

import pytest

from probes.join import Joiner
from probes.window import Mark, Pair, Window
from tests.program.windows import same, traffic, window

ASKED = Pair("web", "10.0.0.9", 80)
SERVED = Pair("10.0.0.1", "api", 8080)
BOTH = Pair("web", "api", 8080)
NAN = math.nan


def client(
    pair: Pair = ASKED, mark: int | None = 7, time: float = 0.0, requests: float = 10.0
) -> Window:
    """Return what the client's host sees."""
    rows = [
        (pair, "connections", 1.0, NAN),
        (pair, "requests", requests, NAN),
        (pair, "bytes_sent", 100.0, NAN),
        (pair, "request_latency", 0.003, 4.0),
        (pair, "retransmits", 0.5, 2.0),
        (pair, "connect_errors", 0.5, 4.0),
    ]
    return window(
        rows,
        time=time,
        histograms={3: {600: 4}},
        causes={5: {"refused": 2}},
        marks={0: (Mark(client=True, value=mark),)} if mark else {},
    )


def server(pair: Pair = SERVED, mark: int | None = 7, time: float = 0.0) -> Window:
    """Return what the server's host sees."""
    rows = [
        (pair, "connections", 1.0, NAN),
        (pair, "requests", 9.0, NAN),
        (pair, "bytes_sent", 90.0, NAN),
        (pair, "request_latency", 0.001, 4.0),
        (pair, "retransmits", 0.0, 8.0),
    ]
    return window(
        rows,
        time=time,
        histograms={3: {500: 4}},
        marks={0: (Mark(client=False, value=mark),)} if mark else {},
    )


def seen(window: Window) -> dict[tuple[Pair, str], tuple[float, float]]:
    """Return {(pair, signal): (value, count)}, each once."""
    keys = [
        (window.pairs[pair], window.signals[signal])
        for pair, signal in zip(window.pair.tolist(), window.signal.tolist(), strict=True)
    ]
    assert len(set(keys)) == len(keys)
    values = zip(window.value.tolist(), window.count.tolist(), strict=True)
    return dict(zip(keys, values, strict=True))


def test_a_pair_seen_from_both_ends_is_one_with_both_names_and_both_views() -> None:
    joined = Joiner().join([("left", client()), ("right", server())])
    found = seen(joined.window)
    assert {pair for pair, _ in found} == {BOTH}
    assert found[BOTH, "requests"][0] == 10.0
    assert found[BOTH, "server_requests"][0] == 9.0
    assert found[BOTH, "bytes_sent"][0] == 100.0
    assert found[BOTH, "server_bytes_received"][0] == 90.0
    assert found[BOTH, "request_latency"][0] == 0.003
    assert found[BOTH, "server_latency"][0] == 0.001
    assert found[BOTH, "connections"][0] == 1.0
    # each end repeats its own segments
    assert found[BOTH, "retransmits"] == (1.0 / 10.0, 10.0)
    (causes,) = joined.window.causes.values()
    assert causes == {"refused": 2}
    rows = {signal: row for row, (_, signal) in enumerate(found)}
    assert joined.rows[0].tolist() == [
        rows[name]
        for name in ("connections", "requests", "bytes_sent", "request_latency", "retransmits",
                     "connect_errors")
    ]  # fmt: skip
    assert joined.rows[1].tolist() == [
        -1, rows["server_requests"], rows["server_bytes_received"], rows["server_latency"],
        rows["retransmits"],
    ]  # fmt: skip


def test_the_name_stays_while_no_new_mark_is_told() -> None:
    joiner = Joiner()
    joiner.join([("left", client()), ("right", server())])
    for second in range(1, 100):
        time = float(second)
        views = [("left", client(mark=None, time=time)), ("right", server(mark=None, time=time))]
        assert set(joiner.join(views).window.pairs) == {BOTH}


def test_a_meeting_is_forgotten_when_it_is_not_told_again() -> None:
    joiner = Joiner()
    joiner.join([("left", client()), ("right", server())])
    for second in range(1, 400):
        views = [("left", client(mark=None, time=float(second)))]
        found = set(joiner.join(views).window.pairs)
    assert found == {ASKED}


def test_marks_that_differ_join_nothing() -> None:
    joined = Joiner().join([("left", client(mark=7)), ("right", server(mark=8))])
    assert set(joined.window.pairs) == {ASKED, SERVED}
    ends = {mark for marks in joined.window.marks.values() for mark in marks}
    assert ends == {Mark(client=True, value=7), Mark(client=False, value=8)}


def test_the_same_end_twice_is_no_meeting() -> None:
    joined = Joiner().join([("left", client()), ("right", client())])
    assert seen(joined.window)[ASKED, "requests"][0] == 20.0


def test_without_the_clients_host_the_servers_counts_under_the_same_name() -> None:
    joiner = Joiner()
    joiner.join([("left", client()), ("right", server())])
    found = seen(joiner.join([("right", server(mark=None, time=1.0))]).window)
    assert found[BOTH, "requests"][0] == 9.0
    assert (BOTH, "server_requests") not in found


def test_a_host_that_slept_is_left_out() -> None:
    joiner = Joiner()
    joiner.join([("left", client()), ("right", server())])
    rows = [(SERVED, "requests", 1.0, NAN)]
    slept = window(rows, time=1.0, width=30.0)
    joined = joiner.join([("left", client(mark=None, time=1.0)), ("right", slept)])
    assert joined.window.width == 1.0
    assert (BOTH, "server_requests") not in seen(joined.window)
    assert joined.rows[1].tolist() == [-1]


def test_two_clients_behind_one_address_are_two_pairs() -> None:
    joiner = Joiner()
    other = Pair("worker", "10.0.0.9", 80)
    for second, mark in enumerate((7, 8, 7, 8)):
        views = [
            ("left", client(mark=7, time=float(second))),
            ("middle", client(other, mark=8, time=float(second))),
            ("right", server(mark=mark, time=float(second))),
        ]
        found = seen(joiner.join(views).window)
    worker = Pair("worker", "api", 8080)
    assert {pair for pair, _ in found} == {BOTH, worker}
    assert found[BOTH, "requests"][0] == found[worker, "requests"][0] == 10.0
    # how long the server takes holds for both; how much it got of each, nobody can tell
    assert found[BOTH, "server_latency"] == found[worker, "server_latency"] == (0.001, 4.0)
    assert not {signal for _, signal in found} & {"server_requests", "server_bytes_received"}


def test_clients_whom_nobody_watches_stay_behind_their_address() -> None:
    joiner = Joiner()
    for second in range(20):
        views = [
            ("left", client(mark=7, time=float(second))),
            ("right", server(mark=7 if second % 2 else 9, time=float(second))),
        ]
        found = seen(joiner.join(views).window)
    assert {pair for pair, _ in found} == {BOTH, SERVED}
    assert found[SERVED, "requests"][0] == 9.0


def test_a_virtual_address_with_two_services_behind_it_stays_an_address() -> None:
    joiner = Joiner()
    for second, mark in enumerate((7, 8)):
        views = [
            ("left", client(mark=mark, time=float(second))),
            ("right", server(mark=7, time=float(second))),
            ("third", server(Pair("10.0.0.1", "admin", 9090), mark=8, time=float(second))),
        ]
        found = seen(joiner.join(views).window)
    assert {pair for pair, _ in found} == {ASKED, BOTH, Pair("web", "admin", 9090)}
    assert found[BOTH, "requests"][0] == 9.0


def test_pairs_of_the_same_name_add_up() -> None:
    one = window(
        [(BOTH, "requests", 3.0, NAN), (BOTH, "request_latency", 0.1, 1.0),
         (BOTH, "resets", 0.5, 2.0)],
        histograms={1: {400: 1}},
    )  # fmt: skip
    two = window(
        [(BOTH, "requests", 4.0, NAN), (BOTH, "request_latency", 0.2, 3.0),
         (BOTH, "resets", 0.0, 6.0)],
        histograms={1: {400: 1, 500: 2}},
    )  # fmt: skip
    joined = Joiner().join([("left", one), ("right", two)]).window
    found = seen(joined)
    assert found[BOTH, "requests"][0] == 7.0
    assert found[BOTH, "resets"] == (1.0 / 8.0, 8.0)
    assert found[BOTH, "request_latency"][1] == 4.0
    assert joined.histograms.bucket.tolist() == [400, 500]
    assert joined.histograms.number.tolist() == [2, 2]


def test_one_host_alone_passes_through_unchanged() -> None:
    for each in traffic(5):
        joined = Joiner().join([("only", each)])
        same(joined.window, each)
        assert joined.rows[0].tolist() == list(range(len(each)))


def test_lost_samples_add_up() -> None:
    views = [(host, window([(BOTH, "requests", 1.0, NAN)], lost=lost)) for host, lost in
             (("a", 2), ("b", 3))]  # fmt: skip
    assert Joiner().join(views).window.lost == 5


@pytest.mark.parametrize("swapped", [False, True])
def test_the_order_of_hosts_does_not_matter(swapped: bool) -> None:
    views = [("left", client()), ("right", server())]
    joined = Joiner().join(views[::-1] if swapped else views)
    found = seen(joined.window)
    assert found[BOTH, "server_latency"][0] == 0.001
    assert found[BOTH, "request_latency"][0] == 0.003
