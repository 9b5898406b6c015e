"""What each end of a connection sees of it, with both on this host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from probes.observer import Observer
from tests.support.peers import names, program
from tests.support.traffic import hear, say
from tests.support.watching import Watch

pytestmark = pytest.mark.kernel

_SERVER = """
s = socket(); s.bind(("127.0.0.1", 0)); s.listen()
tell(s.getsockname()[1])
c = s.accept()[0]
for _ in range(20):
    select.select([c], [], [])
    time.sleep(float(sys.argv[2]))
    assert len(all_of(c, 300)) == 300
    c.sendall(bytes(700))
tell("done")
wait()
"""
_CLIENT = """
c = create_connection(("127.0.0.1", int(sys.argv[2])))
wait()
for _ in range(20):
    c.sendall(bytes(300))
    select.select([c], [], [])
    time.sleep(float(sys.argv[3]))
    assert len(all_of(c, 700)) == 700
c.sendall(bytes(50))
tell("done")
wait()
"""


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with Observer(0.5) as observer:
        watching = Watch(observer)
        watching.start()
        yield watching
        watching.stop()


@pytest.mark.parametrize(("at_client_s", "at_server_s"), [(0.05, 0.0), (0.0, 0.05)])
def test_what_lies_unread_is_told_apart(
    watch: Watch, at_client_s: float, at_server_s: float
) -> None:
    client, server = names()
    with (
        program(server, _SERVER, at_server_s) as serving,
        program(client, _CLIENT, hear(serving), at_client_s) as calling,
    ):
        say(calling)
        hear(serving), hear(calling)
        watch.settle(2)
    (pair,) = [pair for pair in watch.pairs() if pair.client == client]
    # the last 50 bytes lie where nobody reads them
    assert watch.total(pair, "bytes_sent") == 20 * 300 + 50
    assert watch.total(pair, "server_bytes_received") == 20 * 300
    assert watch.total(pair, "bytes_received") == 20 * 700
    assert watch.total(pair, "server_bytes_sent") == 20 * 700
    assert watch.total(pair, "requests") == watch.total(pair, "server_requests") == 20
    slow, quick = ("client", "server") if at_client_s else ("server", "client")
    # the kernel notes arrivals in ticks, 10 ms at most
    assert watch.quantile(pair, f"{slow}_read_latency", 0.5) > 0.035
    assert watch.quantile(pair, f"{quick}_read_latency", 0.5) < 0.02
    assert watch.quantile(pair, "server_latency", 0.5) < 0.02
