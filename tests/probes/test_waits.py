"""Answers that are waited for on purpose, on real connections: no slow requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from probes.window import Pair
from tests.support.peers import ended, figures, names, program
from tests.support.traffic import hear, say
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with watching() as watch:
        yield watch


SERVER = """
s = create_server(("127.0.0.1", 0))
tell(s.getsockname()[1])
c = s.accept()[0]
"""

CLIENT = """
c = create_connection(("127.0.0.1", int(sys.argv[2])))
"""


def _latencies(watch: Watch, pair: Pair) -> dict[str, int]:
    """Return how many samples each latency has had, at the client and at the server."""
    signals = ("request_latency", "server_latency")
    return {signal: watch.samples(pair, signal) for signal in signals}


@pytest.mark.slow
def test_a_long_poll(watch: Watch) -> None:
    asking, answering = names()
    serve = """
for delay in (11, 2, 2, 0.05):
    all_of(c, 300); time.sleep(delay); c.sendall(bytes(700))
"""
    with program(answering, SERVER + serve) as serves:
        port = int(hear(serves))
        with program(asking, CLIENT + "request(c, 4)", port) as asks:
            ended(asks)
        ended(serves)
    watch.settle()
    pair = Pair(asking, answering, port)
    assert figures(watch, pair, "requests", "waits") == {"requests": 4, "waits": 3}
    assert _latencies(watch, pair) == {"request_latency": 1, "server_latency": 1}
    assert watch.quantile(pair, "request_latency", 1) < 0.5


@pytest.mark.slow
def test_a_server_that_pushes_unasked(watch: Watch) -> None:
    # server-sent events, or a message broker: the client says a word now and then, which is no
    # question, and the next message comes when it comes
    asking, answering = names()
    serve = """
all_of(c, 300)
c.sendall(bytes(700))
for _ in range(12): time.sleep(1); c.sendall(bytes(100))
assert len(all_of(c, 20)) == 20
tell("heard")
"""
    ask = """
request(c)
for number in range(1, 13):
    assert len(all_of(c, 100)) == 100
    if number in (6, 9): time.sleep(0.2); c.sendall(bytes(10))
"""
    with program(answering, SERVER + serve) as serves:
        port = int(hear(serves))
        with program(asking, CLIENT + ask, port) as asks:
            ended(asks)
        assert hear(serves) == "heard"
    watch.settle()
    pair = Pair(asking, answering, port)
    assert figures(watch, pair, "requests", "waits") == {"requests": 3, "waits": 2}
    assert _latencies(watch, pair) == {"request_latency": 1, "server_latency": 1}
    assert watch.quantile(pair, "request_latency", 1) < 0.5


def test_a_slow_server_is_slow(watch: Watch) -> None:
    # nothing has ever waited here: two seconds are two seconds
    asking, answering = names()
    serve = "all_of(c, 300); time.sleep(2); c.sendall(bytes(700))"
    with program(answering, SERVER + serve) as serves:
        port = int(hear(serves))
        with program(asking, CLIENT + "request(c)", port) as asks:
            ended(asks)
        ended(serves)
    watch.settle()
    pair = Pair(asking, answering, port)
    assert figures(watch, pair, "requests", "waits") == {"requests": 1, "waits": 0}
    assert _latencies(watch, pair) == {"request_latency": 1, "server_latency": 1}
    assert watch.quantile(pair, "request_latency", 0.5) == pytest.approx(2, rel=0.1)


@pytest.mark.slow
def test_a_server_that_begins_to_hang_is_slow_and_so_are_its_next_answers() -> None:
    # two minutes of quiet work would be a long test: the pair is known from an earlier daemon
    asking, answering = names()
    serve = """
for delay in (0, 11, 2): all_of(c, 300); time.sleep(delay); c.sendall(bytes(700))
"""
    with program(answering, SERVER + serve) as serves:
        port = int(hear(serves))
        with program(
            asking, CLIENT + "request(c); tell('one'); wait(); request(c, 2)", port
        ) as asks:
            assert hear(asks) == "one"
            with watching(known=((Pair(asking, answering, port), 3600.0),)) as watch:
                say(asks)
                ended(asks)
                ended(serves)
                watch.settle()
    pair = Pair(asking, answering, port)
    assert figures(watch, pair, "requests", "waits") == {"requests": 2, "waits": 0}
    assert _latencies(watch, pair) == {"request_latency": 2, "server_latency": 2}
    assert watch.quantile(pair, "request_latency", 1) == pytest.approx(11, rel=0.1)
