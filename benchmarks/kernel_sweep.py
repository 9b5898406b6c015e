"""Part `sweep`: the CPU of reading 1,000 to 100,000 open sockets, beside `ss`."""

from __future__ import annotations

import contextlib
import math
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.kernel_child import BenchmarkError, Child, cpu_of
from benchmarks.kernel_load import REQUEST, build_traffic, drive, progress, serve
from benchmarks.kernel_plan import Plan, spread
from benchmarks.kernel_watch import Seen, Watcher, cpu_per_window

_SS = ["ss", "-tinH"]
_PORT = 18_000
_MOST_PER_PROCESS = 12_500  # well below the 20,000 files that a process may often hold
_WINDOWS = 4
"""Windows of each round."""


def _sockets() -> int:
    command = [*_SS[:1], "-tnH"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return len(run.stdout.splitlines())


@contextlib.contextmanager
def _open(plan: Plan, connections: int) -> Iterator[list[Child]]:
    """Hold so many connections, one in a hundred of them moving data each second."""
    program = build_traffic(plan.directory)
    groups = math.ceil(connections / _MOST_PER_PROCESS)
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(groups):
            mine = connections // groups + (number < connections % groups)
            address = f"127.77.0.{number + 1}"  # a range of source ports for each
            stack.enter_context(serve(program, address, _PORT, 1, len(REQUEST)))
            clients.append(
                stack.enter_context(
                    drive(
                        program,
                        address,
                        _PORT,
                        connections=mine,
                        rate=mine / 100,
                        reply_bytes=len(REQUEST),
                    )
                )
            )
        yield clients


def _settled(watcher: Watcher) -> Seen:
    """Wait until the sweep has met all there is: two windows with as many connections."""
    before = watcher.windows(3)[-1]
    for _ in range(60):
        after = watcher.window()
        if after.connections == before.connections:
            return after
        before = after
    raise BenchmarkError("the number of connections did not settle within 60 windows")


def _size(plan: Plan, sockets: int) -> dict[str, Any]:
    plan.say(f"sweep: {sockets:,} sockets")
    ours: list[float] = []
    theirs: list[float] = []
    lost = 0
    # the default has room for the smaller sizes, and for what else runs on this host
    room = 0 if sockets <= 10_000 else 2 * sockets
    with _open(plan, sockets // 2) as clients, Watcher(connections=room) as watcher:
        last = _settled(watcher)
        for number in range(plan.rounds):
            if number % 2:
                theirs.append(cpu_of(_SS))
            # one more than counted: the first one's CPU is only where the count begins
            seen = watcher.windows(_WINDOWS + 1)
            ours += cpu_per_window(seen)
            lost += sum(one.lost for one in seen)
            last = seen[-1]
            if number % 2 == 0:
                theirs.append(cpu_of(_SS))
        counted = _sockets()
        answered = sum(progress(client)[1] for client in clients)
        memory = watcher.pss_bytes()
    if counted < sockets or not answered:
        raise BenchmarkError(f"only {counted} of {sockets} sockets are open, {answered} answers")
    if lost or (last.connections >= 0 and abs(last.connections - counted) > counted / 50):
        plan.warn(
            f"sweep: of {counted:,} sockets {last.connections:,} were followed and {lost:,} "
            "samples lost; connections of others on this host count as well."
        )
    return {
        "sockets": counted,
        "followed": last.connections,
        "room": watcher.room,
        "lost": lost,
        "pss_bytes": memory,
        "ours_s": spread(ours),
        "ss_s": spread(theirs),
        "ratio": spread(ours)["median"] / spread(theirs)["median"],
    }


def measure(plan: Plan) -> dict[str, Any]:
    """Return, by number of sockets, the CPU seconds of a sweep and of `ss` on the same sockets.

    Both ends of every connection are on this host, so a connection is two sockets; sockets are
    what is counted.
    """
    sizes = (1_000, 10_000) if plan.quick else (1_000, 10_000, 100_000)
    results = []
    for size in sizes:
        results.append(_size(plan, size))
        time.sleep(1.0)  # the kernel frees what was closed
    return {"sizes": results, "rounds": plan.rounds, "windows": _WINDOWS}
