"""What following the processes of services costs, as a share of a core.

    scripts/bench happenings [--services 200] [--workers 2] [--rounds 5]

So many real servers, each with workers that serve with it, are watched once a second for a minute
at a time, while nothing happens to them; the seconds are told, not waited for, and CPU time is what
is measured. Then what the start and the end of one of them cost.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from probes.identity import processes
from probes.identity.happenings import Happenings
from probes.identity.resolver import Services

_SERVER = r"""
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
/* Argument: how many workers. Tells its port. */
int main(int count, char **given)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t size = sizeof(at);
	int end = socket(AF_INET, SOCK_STREAM, 0), workers = atoi(given[1]);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bind(end, (struct sockaddr *)&at, sizeof(at));
	listen(end, 10);
	getsockname(end, (struct sockaddr *)&at, &size);
	while (workers--)
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;) pause();
		}
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	for (;;) pause();
}
"""
_SECONDS = 60


@contextlib.contextmanager
def _serving(directory: Path, number: int, workers: int) -> Iterator[list[tuple[int, int]]]:
    """Run so many servers; give the id and the port of each."""
    source, program = directory / "server.c", directory / "server"
    source.write_text(_SERVER)
    subprocess.run(["gcc", "-O2", "-o", program, source], check=True)
    running = []
    try:
        for each in range(number):
            link = program.with_name(f"serves{each}")
            link.hardlink_to(program)
            running.append(
                subprocess.Popen([link, str(workers)], stdout=subprocess.PIPE, text=True)
            )
        yield [(one.pid, int(one.stdout.readline())) for one in running if one.stdout]
    finally:
        for one in running:
            one.kill()
        for one in running:
            one.communicate()


def _measure(servers: list[tuple[int, int]], rounds: int) -> None:
    happenings = Happenings(Services(), own_tgid=0)
    now = time.time()
    found = [(processes.facts_of(Path("/proc"), pid), port) for pid, port in servers]
    began = time.process_time()
    for facts, port in found:
        assert facts is not None
        happenings.sight(facts, port, serves=True)
    happenings.update(now)
    met_us = (time.process_time() - began) / len(servers) * 1e6
    assert happenings.watched == len(servers), f"{happenings.watched} of {len(servers)} are watched"
    for _ in range(30):
        now += 1
        happenings.update(now)
    shares = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(_SECONDS):
            now += 1
            happenings.update(now)
        shares.append((time.process_time() - began) / _SECONDS * 100)
    assert happenings.events() == []
    low, middle, high = min(shares), statistics.median(shares), max(shares)
    print(f"{len(servers)} services: {middle:.3f} % of a core ({low:.3f} to {high:.3f})")
    print(f"  a process that is met: {met_us:.0f} us, its name included")
    happenings.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2, help="of each of them")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as place,
        _serving(Path(place), given.services, given.workers) as servers,
    ):
        _measure(servers, given.rounds)


if __name__ == "__main__":
    main()
