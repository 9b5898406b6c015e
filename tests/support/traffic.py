"""Real servers and clients for tests: nginx, wrk, small Python ones, all on loopback."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_WRK_SUMMARY = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("SUMMARY %d %d %d\\n", summary.requests, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(condition: Callable[[], bool], *, within_s: float = 10.0, what: str = "") -> None:
    """Return as soon as `condition()` holds; fail after `within_s`."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s: {what or condition}")


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether somebody accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(*command: str | Path, **kwargs: object) -> Iterator[subprocess.Popen[str]]:
    """Run a process for the length of a `with`."""
    process = subprocess.Popen([str(c) for c in command], text=True, **kwargs)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@dataclass(frozen=True, slots=True)
class Nginx:
    port: int
    pid: int
    inside: str = ""

    def status(self) -> tuple[int, int]:
        """Return (connections accepted, requests), this question included."""
        url = f"http://127.0.0.1:{self.port}/status"
        if self.inside:
            ask = f"import urllib.request as u; print(u.urlopen({url!r}).read().decode())"
            command = [*_within(self.inside), sys.executable, "-c", ask]
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        else:  # from this process, whose own connections are not shown
            with urllib.request.urlopen(url) as answer:
                text = answer.read().decode()
        accepts, _, requests = re.search(r"(\d+) (\d+) (\d+) ", text).groups()  # type: ignore[union-attr]
        return int(accepts), int(requests)


@contextlib.contextmanager
def nginx(
    directory: Path, *, port: int | None = None, listen: str = "", inside: str = ""
) -> Iterator[Nginx]:
    """Run an nginx of our own: /, /file (10,000 bytes) and /status; `inside` a namespace."""
    port = port or free_port()
    (directory / "file").write_bytes(b"x" * 10_000)
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"""
        user root; worker_processes 1; daemon off;
        pid {directory}/pid; error_log {directory}/error.log;
        events {{ worker_connections 4096; }}
        http {{
          access_log off; keepalive_requests 1000000000;
          client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
          fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
          scgi_temp_path {directory}/scgi;
          server {{
            listen 127.0.0.1:{port} backlog=4096; {listen}
            location / {{ return 200 "hello\\n"; }}
            location /status {{ stub_status; }}
            location /file {{ root {directory}; sendfile on; }}
          }}
        }}"""
    )
    with running(*_within(inside), "nginx", "-p", directory, "-c", configuration) as process:
        started = Nginx(port, process.pid, inside)
        wait_for(lambda: _ready(started), what="nginx accepts")
        yield started


def _ready(server: Nginx) -> bool:
    with contextlib.suppress(subprocess.CalledProcessError, OSError):
        server.status()
        return True
    return False


def _within(namespace: str) -> list[str]:
    return ["ip", "netns", "exec", namespace] if namespace else []


@dataclass(frozen=True, slots=True)
class Wrk:
    requests: int
    bytes_read: int
    errors: int


def wrk(directory: Path, url: str, *, connections: int, seconds: int, close: bool = False) -> Wrk:
    """Run wrk to its end and return what it counted."""
    script = directory / "summary.lua"
    script.write_text(_WRK_SUMMARY)
    header = ["-H", "Connection: close"] if close else []
    run = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, *header, url],
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
    )
    found = re.search(r"SUMMARY (\d+) (\d+) (\d+)", run.stdout)
    assert found, run.stdout
    return Wrk(*map(int, found.groups()))


@contextlib.contextmanager
def python(source: str, *arguments: object, **kwargs: object) -> Iterator[subprocess.Popen[str]]:
    """Run a small Python program with pipes on its standard input and output."""
    with running(
        sys.executable,
        "-c",
        source,
        *map(str, arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **kwargs,
    ) as process:
        yield process


def say(process: subprocess.Popen[str], line: str = "") -> None:
    """Write a line to a process's standard input."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """Return the next line of a process's standard output."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the process ended: {process.poll()}"
    return str(line).strip()
