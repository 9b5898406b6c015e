"""Answers that are waited for on purpose, on real connections: no slow requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL

import pytest

from bpf import layout
from probes.observer import Observer
from probes.programs import Programs
from probes.window import Pair
from tests.support.peers import ended, figures, names, program
from tests.support.traffic import answers, free_port, hear, running, say, wait_for
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


# Jobs of a queue, from a real Redis, whose one thread hands what it reads to who waits for it

ANSWER_LINES = """
def lines(c, number):
    data = b""
    while data.count(b"\\r\\n") < number: data += c.recv(65536)
"""

WORKER = (
    CLIENT
    + ANSWER_LINES
    + """
ask = sys.argv[4].encode() + b"\\r\\n"
for _ in range(int(sys.argv[3])): c.sendall(ask); lines(c, int(sys.argv[5]))
"""
)

PRODUCER = (
    CLIENT
    + ANSWER_LINES
    + """
for number, pause in ((30, 0.15), (20, 0.45)):
    for _ in range(number): time.sleep(pause); c.sendall(b"LPUSH jobs 1\\r\\n"); lines(c, 1)
    tell("done"); wait()
"""
)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The name and the port of a Redis of our own."""
    port, name = free_port(), names()[1]
    program = tmp_path / name
    program.symlink_to("/usr/bin/redis-server")
    with running(program, "--port", str(port), "--save", "", "--dir", tmp_path, stdout=DEVNULL):
        wait_for(lambda: answers(port), what="Redis answers")
        yield name, port


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "lines"), [("BLPOP jobs 5", 5), ("BRPOPLPUSH jobs taken 5", 2)]
)
def test_who_waits_in_an_empty_queue_is_not_slow(
    watch: Watch, redis: tuple[str, int], command: str, lines: int
) -> None:
    (server, port), (working, pushing) = redis, (names()[0], names()[0])
    with (
        program(working, WORKER, port, 50, command, lines) as works,
        program(pushing, PRODUCER, port) as pushes,
    ):
        assert hear(pushes) == "done"
        watch.settle()
        pair = Pair(working, server, port)
        learned = watch.samples(pair, "request_latency")
        say(pushes)
        assert hear(pushes) == "done"
        ended(works)
    watch.settle()
    # it takes some waits to know; the longer ones, with a third of the jobs, are none of latency
    assert learned <= 16
    assert _latencies(watch, pair) == {"request_latency": learned, "server_latency": learned}
    assert watch.total(pair, "requests") == 50
    assert watch.total(pair, "waits") >= 20
    other = Pair(pushing, server, port)
    assert figures(watch, other, "requests", "waits") == {"requests": 50, "waits": 0}
    assert watch.samples(other, "request_latency") == 50


@pytest.mark.slow
def test_waits_are_known_when_few_requests_are_timed(redis: tuple[str, int]) -> None:
    # a budget that is tight; of the two questions that it takes to know, one is rarely timed
    (server, port), (working, pushing) = redis, (names()[0], names()[0])
    threads = WORKER.replace("\nc = ", "\nc = [").replace("2])))", "2]))) for _ in range(4)]")
    threads = threads.replace(
        "for _ in range(int(sys.argv[3])):",
        "def work(c):\n  for _ in range(int(sys.argv[3])):",
    )
    threads += "\nall = [threading.Thread(target=work, args=(each,)) for each in c]\n"
    threads += "for each in all: each.start()\nfor each in all: each.join()\n"
    push = PRODUCER.replace("((30, 0.15), (20, 0.45))", "((400, 0.025), (160, 0.075))")
    programs = Programs()
    programs.tune(layout.TUNING_INTERVAL, 16)
    with Observer(0.25, programs=programs) as observer:
        watch = Watch(observer)
        watch.start()
        with (
            program(working, threads, port, 140, "BLPOP jobs 5", 5) as works,
            program(pushing, push, port) as pushes,
        ):
            assert hear(pushes) == "done"
            watch.settle()
            pair = Pair(working, server, port)
            learned = watch.samples(pair, "request_latency")
            say(pushes)
            assert hear(pushes) == "done"
            ended(works)
        watch.settle()
        watch.stop()
    assert _latencies(watch, pair)["request_latency"] == learned
    assert figures(watch, pair, "requests")["requests"] == 560


@pytest.mark.slow
def test_a_redis_that_is_busy_is_slow(watch: Watch, redis: tuple[str, int]) -> None:
    # it reads what others have asked meanwhile right before it answers
    (server, port), (asking, pushing) = redis, (names()[0], names()[0])
    busy = 'EVAL "local n = 0 while n < 1.2e7 do n = n + 1 end return n" 0'
    push = PRODUCER.replace("((30, 0.15), (20, 0.45))", "((200, 0.01),)")
    with (
        program(pushing, push, port) as pushes,
        program(asking, WORKER, port, 30, busy, 1) as asks,
    ):
        ended(asks)
        assert hear(pushes) == "done"
    watch.settle()
    pair = Pair(asking, server, port)
    assert figures(watch, pair, "requests", "waits") == {"requests": 30, "waits": 0}
    assert _latencies(watch, pair) == {"request_latency": 30, "server_latency": 30}
    assert watch.quantile(pair, "request_latency", 0.5) > 0.08


@pytest.mark.slow
def test_a_server_that_is_slow_while_others_ask_is_slow(watch: Watch) -> None:
    # one thread for all, as Redis has; what it does for one client takes time of another's
    asking, answering = names()
    pushing = names()[0]
    serve = """
import asyncio
async def answer(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            question = await reader.readexactly(300)
            await asyncio.sleep(question[0] / 100)
            writer.write(bytes(700))
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    tell(server.sockets[0].getsockname()[1])
    await server.serve_forever()
asyncio.run(main())
"""
    ask = """
for _ in range(int(sys.argv[3])):
    time.sleep(float(sys.argv[5]))
    c.sendall(bytes([int(sys.argv[4])]) + bytes(299)); assert len(all_of(c, 700)) == 700
"""
    with program(answering, "import contextlib\n" + serve) as serves:
        port = int(hear(serves))
        with (
            program(pushing, CLIENT + ask, port, 600, 0, 0.005) as pushes,
            program(asking, CLIENT + ask, port, 30, 10, 0.0) as asks,
        ):
            ended(asks)
            ended(pushes)
    watch.settle()
    pair = Pair(asking, answering, port)
    assert figures(watch, pair, "requests", "waits") == {"requests": 30, "waits": 0}
    assert _latencies(watch, pair) == {"request_latency": 30, "server_latency": 30}
    assert watch.quantile(pair, "request_latency", 0.5) == pytest.approx(0.1, rel=0.2)
