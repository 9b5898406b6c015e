"""What names cost: per new process, as a share of a core, and of a sweep over many services.

    scripts/bench identity [--rounds 4] [--seconds 5] [--rate 200]

Three parts. `processes`: the time to name one process, alive or gone, for the first time and again.
`connections`: the CPU of a process that watches `--rate` new connections a second, each from a new
process, with names and without, in turns within one run; without, every process has one name and
procfs is not read. `services`: the CPU of a window, and of its sweep in it, with 1,000 processes
that hold a connection each and are 1,000 services or 10, in turns. It needs root and an otherwise
idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from probes.identity import processes
from probes.identity.resolver import Services
from probes.identity.service import Facts, Service
from probes.observer import Observer
from tests.support.traffic import nginx

_CLIENT = r"""
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* Arguments: port, seconds between requests on one connection; 0: one request, and the end. */
int main(int count, char **given)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(given[1]))};
	const char *ask = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	int end = socket(AF_INET, SOCK_STREAM, 0), pause = atoi(given[2]);
	char answer[1000];
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(end, (struct sockaddr *)&to, sizeof(to)))
		return 1;
	do {
		if (write(end, ask, strlen(ask)) < 0 || read(end, answer, sizeof(answer)) <= 0)
			return 1;
	} while (pause && !sleep(pause));
	return 0;
}
"""
_NOBODY = Service("somebody", "program")
_HELD = 1_000
_FEW = 10
_TIMES = 2_000
_SETTLED = 65
"""Windows after which as many processes are forgotten as come."""


class _Switched(Services):
    """Names processes, or calls all of them the same; keeps the time that it takes."""

    on = True
    spent_ns = 0

    def service(self, facts: Facts, port: int = 0) -> Service:
        if not self.on:
            return _NOBODY
        began = time.thread_time_ns()
        found = super().service(facts, port)
        self.spent_ns += time.thread_time_ns() - began
        return found

    def forwarded(self, facts: Facts) -> tuple[Service, int] | None:
        return super().forwarded(facts) if self.on else None


def _build(directory: Path) -> Path:
    source, program = directory / "client.c", directory / "client"
    source.write_text(_CLIENT)
    subprocess.run(["gcc", "-O2", "-o", program, source], check=True)
    return program


def _spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{form.format(middle)} ({form.format(low)} to {form.format(high)})"


@contextlib.contextmanager
def _holding(program: Path, names: Sequence[str], port: int) -> Iterator[list[int]]:
    """Run so many clients under these names, each with a connection; give their ids."""
    running = []
    try:
        for name in names:
            link = program.with_name(name)
            if not link.exists():
                link.hardlink_to(program)
            running.append(subprocess.Popen([link, str(port), "1"]))
            time.sleep(0.001)  # their requests are spread
        yield [each.pid for each in running]
    finally:
        for each in running:
            each.kill()
        for each in running:
            each.wait()


def _us(name: Callable[[Services, Facts], object], all_facts: Sequence[Facts]) -> float:
    """Return the time per call, of a resolver that knows nothing yet."""
    services = Services()
    began = time.process_time_ns()
    for facts in all_facts:
        name(services, facts)
    return (time.process_time_ns() - began) / len(all_facts) / 1000


def _processes(program: Path, port: int, rounds: int) -> None:
    print("naming one process, us of CPU: median of rounds (least to most)")
    with _holding(program, [f"held{n}" for n in range(_FEW)] * 30, port) as pids:
        alive = [one for pid in pids if (one := processes.facts_of(Path("/proc"), pid))]
        details = [replace(one, arguments=(one.command, str(port))) for one in alive]
        most = int(Path("/proc/sys/kernel/pid_max").read_text())
        gone = [replace(one, tgid=most + n) for n, one in enumerate(details)]
        known = [details[n % len(details)] for n in range(_TIMES)]

        def again(services: Services, facts: Facts) -> None:
            services.service(facts)

        found: dict[str, list[float]] = {"alive": [], "gone": [], "known": []}
        for _ in range(5 * rounds):
            found["alive"].append(_us(again, details))
            found["gone"].append(_us(again, gone))
            services = Services()
            for one in details:
                services.service(one)
            found["known"].append(_us(lambda _, one, by=services: by.service(one), known))
    for kind, times in found.items():
        print(f"  {kind:8} {_spread(times)}")


class _Watched:
    """An observer whose windows are taken one by one, with what they cost."""

    def __init__(self) -> None:
        self.observer = Observer(1.0)
        names = self.observer._names
        self.names = names._services = _Switched(containers=self.observer._containers)
        programs: Any = self.observer._programs
        sweep, self.sweep_s = programs.sweep, 0.0

        def timed() -> Any:
            began = time.thread_time()
            found = sweep()
            self.sweep_s += time.thread_time() - began
            return found

        programs.sweep = timed
        self._windows = self.observer.windows()

    def run(self, windows: int) -> tuple[float, float, int]:
        """Return CPU and sweep CPU in ms per window, and the connections that began in a window.

        The first window is not in it.
        """
        next(self._windows)
        cpu, swept, began, seconds = time.process_time(), self.sweep_s, 0.0, 0.0
        for _ in range(windows):
            window = next(self._windows)
            signal = window.signals.index("connections")
            began += window.value[window.signal == signal].sum() * window.width
            seconds += window.width
        cpu, swept = time.process_time() - cpu, self.sweep_s - swept
        return 1e3 * cpu / windows, 1e3 * swept / windows, round(began / windows)

    def clients(self, port: int) -> set[str]:
        """Return who has asked a server so far."""
        pairs = self.observer._names.places.pairs
        return {pair.client for pair in pairs if pair.port == port}

    def close(self) -> None:
        self.observer.close()


def _spawn(program: Path, port: int, rate: float) -> None:
    """Start clients, for ever."""
    due = time.monotonic()
    while True:
        due = max(due + 1 / rate, time.monotonic() - 0.1)
        time.sleep(max(0.0, due - time.monotonic()))
        os.posix_spawn(program, [program.name, str(port), "0"], {})
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


@contextlib.contextmanager
def _arriving(program: Path, port: int, rate: float) -> Iterator[None]:
    pid = os.fork()
    if not pid:
        try:
            _spawn(program, port, rate)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, 15)
        os.waitpid(pid, 0)


def _connections(program: Path, port: int, rounds: int, seconds: int, rate: float) -> None:
    print(
        f"\n{rate:.0f} new connections a second, each of a new process: ms of CPU a window of 1 s"
    )
    cost: dict[bool, list[float]] = {True: [], False: []}
    per: list[float] = []
    with _arriving(program, port, rate), contextlib.closing(_Watched()) as watched:
        watched.run(_SETTLED)
        for number in range(2 * rounds):
            on = watched.names.on = number % 4 in (0, 3)  # in turns, and who is first in turns
            watched.names.spent_ns = 0
            cpu, _, began = watched.run(seconds)
            cost[on].append(cpu)
            if on:
                per.append(watched.names.spent_ns / 1e3 / seconds / max(began, 1))
        lost = sum(watched.observer.lost.values())
    for on, what in ((True, "with names"), (False, "without")):
        share = statistics.median(cost[on]) / 10
        print(f"  {what:12} {_spread(cost[on])}, {share:.2f} % of a core")
    ratios = [a / b for a, b in zip(cost[True], cost[False], strict=True)]
    print(f"  with / without {_spread(ratios)}; {lost} lost")
    print(f"  the names of a connection's two ends, us: {_spread(per, '{:.0f}')}")


def _services(program: Path, port: int, rounds: int, seconds: int) -> None:
    print(f"\n{_HELD:,} processes with a connection each, ms of CPU a window of 1 s")
    found: dict[int, list[tuple[float, float]]] = {_HELD: [], _FEW: []}
    for number in range(2 * rounds):
        services = _HELD if number % 4 in (0, 3) else _FEW
        names = [f"service{n % services}" for n in range(_HELD)]
        with _holding(program, names, port), contextlib.closing(_Watched()) as watched:
            watched.run(2)
            cpu, sweep, _ = watched.run(seconds)
            clients = watched.clients(port)
        assert len(clients) == services, f"{len(clients)} services and not {services}"
        found[services].append((cpu, sweep))
    for part, what in ((1, "the sweep"), (0, "all of it")):
        many, few = ([one[part] for one in found[each]] for each in (_HELD, _FEW))
        ratios = [a / b for a, b in zip(many, few, strict=True)]
        print(
            f"  {what}: {_HELD:,} services {_spread(many)}, {_FEW} services {_spread(few)}, "
            f"ratio {_spread(ratios)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=5, help="windows of a measurement")
    parser.add_argument("--rate", type=float, default=200.0, help="new connections a second")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, nginx(Path(place)) as server:
        program = _build(Path(place))
        _processes(program, server.port, given.rounds)
        _connections(program, server.port, given.rounds, given.seconds, given.rate)
        _services(program, server.port, given.rounds, given.seconds)


if __name__ == "__main__":
    main()
