"""What it costs to follow conntrack, in a network namespace of its own.

    scripts/bench conntrack [--entries 200000] [--rate 1000] [--seconds 20]

Each line is a process of its own, so that its memory is its own. The namespace is filled by
ctnetlink, with UDP connections. CPU is the following process's, not what the kernel does for
whoever sends: what is not translated is filtered there.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from probes.conntrack.follower import Conntrack
from tests.support.ctnetlink import fill_in, message, send
from tests.support.nat import within
from tests.support.netns import lone_host


def memory_mb() -> float:
    """Return the memory that is this process's alone."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) / 1024
    return 0.0


def first_dump(inode: int, entries: int) -> dict[str, float]:
    """Follow; return what it took to know what there was."""
    before = memory_mb()
    began, cpu = time.monotonic(), time.process_time()
    conntrack = Conntrack(most=max(entries, 1))
    conntrack.wait(600)
    taken = {
        "seconds": time.monotonic() - began,
        "cpu_s": time.process_time() - cpu,
        "kept": float(conntrack.kept_of(inode)),
        "memory_mb": memory_mb() - before,
    }
    conntrack.close()
    return taken


def follow(seconds: float) -> dict[str, float]:
    """Follow for a while; return the share of a core that it took."""
    conntrack = Conntrack()
    conntrack.wait(60)
    print("ready", flush=True)
    sys.stdin.readline()
    began, cpu = time.monotonic(), time.process_time()
    time.sleep(seconds)
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    taken = {"share": share, "overruns": float(conntrack.overruns), "kept": float(conntrack.kept)}
    conntrack.close()
    return taken


def churn(rate: int, seconds: float, *, translated: bool) -> int:
    """Add so many connections a second here, and end each after a second; return how many."""
    at, began = 0, time.monotonic()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as ctnetlink:
        while (now := time.monotonic() - began) < seconds:
            until = int(now * rate)
            fresh = [message(n, translated=translated) for n in range(at, until)]
            send(ctnetlink, fresh)
            ended = range(max(at - rate, 0), max(until - rate, 0))
            send(ctnetlink, [message(n, translated=False, new=False) for n in ended])
            at = until
            time.sleep(0.01)
    return at


def _child(*arguments: object) -> list[str]:
    return [sys.executable, str(Path(__file__)), *map(str, arguments)]


def _measure_dump(entries: int, percent: int) -> str:
    with lone_host() as host:
        fill_in(host, entries, entries * percent // 100)
        inode = Path("/run/netns", host).stat().st_ino
        command = _child("--child-dump", inode, "--entries", entries)
        told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return (
        f"first dump, {entries:,} entries, {percent} % translated | {told['seconds']:.2f} s | "
        f"{told['cpu_s']:.2f} s of CPU | {told['kept']:,.0f} kept | {told['memory_mb']:.0f} MB"
    )


def _measure_rate(rate: int, seconds: float, *, translated: bool) -> str:
    with lone_host() as host:
        command = _child("--child-follow", "--seconds", seconds)
        child = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        adder = _child("--child-churn", int(translated), "--rate", rate, "--seconds", seconds + 1)
        adding = subprocess.Popen(within(host, *adder), stdout=-1, text=True)
        time.sleep(0.5)
        child.stdin.write("\n")
        child.stdin.flush()
        told = json.loads(child.communicate()[0])
        made = int(adding.communicate()[0]) / (seconds + 1)
    kind = "translated" if translated else "untranslated"
    return (
        f"{made:,.0f} new {kind} connections/s, as many ending | {told['share']:.2%} of a core | "
        f"{told['overruns']:.0f} overruns | {told['kept']:,.0f} known at the end"
    )


def main() -> None:
    """Measure, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--child-dump", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child-follow", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child-churn", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child_dump:
        print(json.dumps(first_dump(given.child_dump, given.entries)))
    elif given.child_follow:
        print(json.dumps(follow(given.seconds)))
    elif given.child_churn is not None:
        print(churn(given.rate, given.seconds, translated=bool(given.child_churn)))
    else:
        for percent in (1, 100):
            print(_measure_dump(given.entries, percent), flush=True)
        for rate, translated in ((0, True), (given.rate, False), (given.rate, True)):
            print(_measure_rate(rate, given.seconds, translated=translated), flush=True)


if __name__ == "__main__":
    main()
