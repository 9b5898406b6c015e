"""Real services with a fault each: how to start them, break them and mend them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import programs
from tests.support.netns import two_hosts
from tests.support.traffic import answers, free_port, hear, nginx, python, running, say, wait_for

PYTHON = Path(sys.executable).name
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One pair of services.

    Attributes:
        name: of the fault.
        pair: client, server, port.
        expected: (signal, direction) of which at least one must be found.
        fault: begins it.
        mend: ends it.
        cause: what the finding must name.
    """

    name: str
    pair: tuple[str, str, int]
    expected: frozenset[tuple[str, str]]
    fault: Callable[[], None]
    mend: Callable[[], None]
    cause: str = ""


@contextmanager
def slow_server() -> Iterator[Scene]:
    port = free_port()
    with (
        python(programs.HTTP_SERVER, "127.0.0.1", port, 0.002) as server,
        ExitStack() as stack,
    ):
        assert hear(server) == "ready"
        stack.enter_context(python(programs.RATE_CLIENT, "127.0.0.1", port, 60, *programs.GET))
        yield Scene(
            name="server slowed from 2 to 20 ms",
            pair=(PYTHON, PYTHON, port),
            expected=frozenset({("request_latency", "up")}),
            fault=lambda: say(server, "0.02"),
            mend=lambda: say(server, "0.002"),
        )


@contextmanager
def stopped_server(directory: Path) -> Iterator[Scene]:
    port = free_port()
    command = ("redis-server", "--port", str(port), "--save", "", "--dir", str(directory))
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())

        def start() -> None:
            server.enter_context(running(*command, stdout=subprocess.DEVNULL))
            wait_for(lambda: answers(port), what="redis accepts")

        start()
        stack.enter_context(python(programs.RATE_CLIENT, "127.0.0.1", port, 20, *programs.PING))
        yield Scene(
            name="server stopped",
            pair=(PYTHON, "redis-server", port),
            expected=frozenset({("connect_errors", "up")}),
            fault=server.close,
            mend=start,
            cause="refused",
        )


@contextmanager
def changed_rate(
    directory: Path, *, to: float, name: str, signals: set[tuple[str, str]]
) -> Iterator[Scene]:
    directory.mkdir()
    with (
        nginx(directory) as server,
        python(programs.RATE_CLIENT, "127.0.0.1", server.port, 40, *programs.GET) as client,
    ):
        yield Scene(
            name=name,
            pair=(PYTHON, "nginx", server.port),
            expected=frozenset(signals),
            fault=lambda: say(client, str(to)),
            mend=lambda: say(client, "40"),
        )


@contextmanager
def lost_packets() -> Iterator[Scene]:
    with two_hosts() as hosts:
        serve = hosts.on_right(
            sys.executable, "-c", programs.HTTP_SERVER, hosts.right_address, 8080, 0
        )
        ask = hosts.on_left(
            sys.executable, "-c", programs.RATE_CLIENT, hosts.right_address, 8080, 100,
            *programs.GET,
        )  # fmt: skip
        with running(*serve, **PIPES) as server:
            assert hear(server) == "ready"
            with running(*ask, **PIPES):
                yield Scene(
                    name="5 % packet loss",
                    pair=(PYTHON, PYTHON, 8080),
                    expected=frozenset({("retransmits", "up")}),
                    fault=lambda: hosts.lose(5),
                    mend=lambda: hosts.lose(0),
                )


@contextmanager
def new_client(directory: Path) -> Iterator[Scene]:
    directory.mkdir()
    port = free_port()
    command = ("redis-server", "--port", str(port), "--save", "", "--dir", str(directory))
    with (
        running(*command, stdout=subprocess.DEVNULL),
        ExitStack() as stack,
    ):
        wait_for(lambda: answers(port), what="redis accepts")
        stack.enter_context(python(programs.RATE_CLIENT, "127.0.0.1", port, 20, *programs.PING))
        stranger = stack.enter_context(ExitStack())

        def come() -> None:
            stranger.enter_context(
                running(
                    "redis-cli", "-p", str(port), "-r", "100000", "-i", "0.05", "PING",
                    stdout=subprocess.DEVNULL,
                )
            )  # fmt: skip

        yield Scene(
            name="a new client",
            pair=("redis-cli", "redis-server", port),
            expected=frozenset({("new_pair", "new")}),
            fault=come,
            mend=stranger.close,
        )


@contextmanager
def all_scenes(directory: Path) -> Iterator[list[Scene]]:
    """Run every scene's services at once."""
    # they rise together, and whichever is sure first tells it
    tripled = {(signal, "up") for signal in ("requests", "bytes_sent", "bytes_received")}
    stopped = {("requests", "down"), ("silent_pair", "gone")}
    with ExitStack() as stack:
        yield [
            stack.enter_context(scene)
            for scene in (
                slow_server(),
                stopped_server(directory),
                changed_rate(directory / "a", to=120, name="requests tripled", signals=tripled),
                changed_rate(directory / "b", to=0, name="requests stopped", signals=stopped),
                lost_packets(),
                new_client(directory / "c"),
            )
        ]
