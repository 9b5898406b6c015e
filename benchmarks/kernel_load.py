"""The loads of the kernel benchmark: real servers under wrk, redis-benchmark and `traffic.c`."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kernel_child import ROOT, BenchmarkError, Child
from tests.support.traffic import Nginx, answers, free_port, nginx, wait_for

CLIENTS = 50
REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

_WRK_SCRIPT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("SUMMARY %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""


@dataclass(frozen=True, slots=True)
class Served:
    """What a load generator measured.

    Attributes:
        requests: how many were answered.
        per_s: requests per second.
        p50_us: median latency in microseconds.
        p99_us: 99th percentile.
        p999_us: 99.9th percentile.
    """

    requests: int
    per_s: float
    p50_us: float
    p99_us: float
    p999_us: float


Load = Callable[[float], Served]
"""Runs a load for about so many seconds."""


def _output(command: list[str], seconds: float) -> str:
    if shutil.which(command[0]) is None:
        raise BenchmarkError(f"{command[0]} is not installed: see bench_packages in scripts/lib.sh")
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=10 * seconds + 30, check=False
    )
    if run.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed: {run.stderr or run.stdout}")
    return run.stdout


def wrk(directory: Path, server: Nginx, seconds: float, *, close: bool) -> Served:
    """Ask nginx over 50 connections; with `close`, each request has a connection of its own.

    Raises:
        BenchmarkError: wrk failed, or some requests did.
    """
    script = directory / "percentiles.lua"
    script.write_text(_WRK_SCRIPT)
    header = ["-H", "Connection: close"] if close else []
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{max(1, round(seconds))}s", "-s", str(script)]
    said = _output([*command, *header, f"http://127.0.0.1:{server.port}/"], seconds)
    found = re.search(r"SUMMARY (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", said)
    if not found:
        raise BenchmarkError(f"wrk said something unexpected: {said}")
    requests, duration_us, errors, p50, p99, p999 = map(int, found.groups())
    if errors or not requests:
        raise BenchmarkError(f"wrk: {errors} errors, {requests} requests: is nginx overloaded?")
    return Served(requests, requests / (duration_us / 1e6), p50, p99, p999)


def redis_benchmark(port: int, requests: int, command: str, seconds: float) -> Served:
    """Send so many GETs or SETs over 50 connections.

    Args:
        port: the server's port on 127.0.0.1.
        requests: how many in all.
        command: "get" or "set".
        seconds: how long that is expected to take.

    Raises:
        BenchmarkError: redis-benchmark failed.
    """
    words = ["redis-benchmark", "-p", str(port), "-c", str(CLIENTS), "-n", str(requests)]
    said = _output([*words, "-t", command], seconds).replace("\r", "\n")
    rate = re.search(r"throughput summary: ([\d.]+) requests", said)
    summary = re.search(r"avg\s+min\s+p50\s+p95\s+p99\s+max\s+([\d. ]+)", said)
    # it prints 50, 75, 87.5 ... %: the first line above 99.9 is that of 99.902 %
    tail = [
        float(latency)
        for part, latency in re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds", said)
        if float(part) >= 99.9
    ]
    if not rate or not summary or not tail:
        raise BenchmarkError(f"redis-benchmark said something unexpected: {said[-2000:]}")
    values = [float(value) for value in summary.group(1).split()]
    return Served(requests, float(rate.group(1)), values[2] * 1e3, values[4] * 1e3, tail[0] * 1e3)


@contextlib.contextmanager
def redis() -> Iterator[int]:
    """Run a Redis of our own that keeps nothing; yields its port."""
    port = free_port()
    options = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with Child("redis-server", *options, stop=signal.SIGTERM):
        wait_for(lambda: answers(port), what="redis accepts")
        yield port


@contextlib.contextmanager
def loads(directory: Path) -> Iterator[Mapping[str, Load]]:
    """Run the servers; yields the loads by name, in the order in which results are shown."""
    with nginx(directory) as web, redis() as store:
        rates = {name: redis_benchmark(store, 50_000, name, 2).per_s for name in ("get", "set")}

        def redis_load(command: str) -> Load:
            return lambda s: redis_benchmark(
                store, max(1000, round(s * rates[command])), command, s
            )

        yield {
            "nginx, keep-alive": lambda s: wrk(directory, web, s, close=False),
            "nginx, a connection per request": lambda s: wrk(directory, web, s, close=True),
            "redis GET": redis_load("get"),
            "redis SET": redis_load("set"),
        }


def answer_bytes(port: int) -> int:
    """Return how long nginx's answer to `REQUEST` is, in bytes: it is always the same."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(REQUEST.encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\nhello\n"):
            more = client.recv(65536)
            if not more:
                raise BenchmarkError(f"nginx closed the connection after {answer!r}")
            answer += more
    return len(answer)


def build_traffic(directory: Path) -> Path:
    """Compile `traffic.c`; return the program.

    Raises:
        BenchmarkError: there is no C compiler, or it failed.
    """
    program = directory / "traffic"
    source = ROOT / "benchmarks" / "traffic.c"
    _output(["gcc", "-O2", "-o", str(program), str(source)], 30)
    return program


def serve(program: Path, address: str, first_port: int, ports: int, request_bytes: int) -> Child:
    """Start an echo server on a range of ports; it accepts when this returns."""
    server = Child(program, "serve", address, first_port, ports, request_bytes)
    return _when_ready(server)


def drive(
    program: Path,
    address: str,
    first_port: int,
    *,
    ports: int = 1,
    connections: int,
    rate: float,
    request: str = REQUEST,
    reply_bytes: int,
) -> Child:
    """Start a client that sends `rate` requests a second in all; connected when this returns."""
    client = Child(
        program, "load", address, first_port, ports, connections, rate, request, reply_bytes
    )
    return _when_ready(client)


def _when_ready(child: Child) -> Child:
    try:
        child.expect("ready", 120)
    except BaseException:
        child.close()
        raise
    return child


def progress(client: Child) -> tuple[int, int, int]:
    """Return (sent, answered, late) of a client so far."""
    client.say()
    sent, answered, late = map(int, client.hear().split())
    return sent, answered, late
