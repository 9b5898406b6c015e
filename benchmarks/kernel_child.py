"""Processes of the kernel benchmark: started, heard, measured, and always ended."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[1]


class BenchmarkError(Exception):
    """The benchmark cannot go on; the message says why and what to do."""


class Child:
    """A process that is spoken to in lines; it ends with the `with`.

    Attributes:
        pid: its process id.
        started: when it was started, `time.monotonic()` seconds.
    """

    def __init__(
        self, *command: object, name: str = "", stop: signal.Signals | None = None
    ) -> None:
        """Start it.

        Args:
            command: the program and its arguments.
            name: what to call it in errors; the program's name if empty.
            stop: the signal that ends it; None when the end of its standard input does.
        """
        words = [str(word) for word in command]
        self.name = name or Path(words[0]).name
        self._stop = stop
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._closed = False
        environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
        self.started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        except OSError as error:
            raise BenchmarkError(f"cannot start {words[0]}: {error}") from error
        self.pid = self._process.pid
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)

    def hear(self, within_s: float = 30.0) -> str:
        """Return its next line.

        Raises:
            BenchmarkError: it has ended, or said nothing in time.
        """
        try:
            line = self._lines.get(timeout=within_s)
        except queue.Empty:
            raise BenchmarkError(f"{self.name} said nothing for {within_s:g} s") from None
        if line is None:
            self._lines.put(None)
            self._readers[1].join(timeout=2)
            raise BenchmarkError(f"{self.name} has ended: {self.errors or 'it did not say why'}")
        return line

    def expect(self, beginning: str, within_s: float = 30.0) -> str:
        """Return its next line that begins so; what it says before is passed over.

        Raises:
            BenchmarkError: it has ended, or did not say it in time.
        """
        end = time.monotonic() + within_s
        while True:
            line = self.hear(max(0.01, end - time.monotonic()))
            if line.startswith(beginning):
                return line

    def said(self) -> list[str]:
        """Return the lines it has said and nobody has heard yet."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get_nowait()) is not None:
                lines.append(line)
        return lines

    def say(self, line: str = "") -> None:
        """Write a line to its standard input.

        Raises:
            BenchmarkError: it has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            self._readers[1].join(timeout=2)
            raise BenchmarkError(f"{self.name} has ended: {self.errors}") from None

    @property
    def errors(self) -> str:
        """What it wrote to its standard error."""
        return "".join(self._errors).strip()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it and wait for that."""
        if self._closed:
            return
        self._closed = True
        assert self._process.stdin is not None
        if self._stop is not None and self.alive:
            self._process.send_signal(self._stop)
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(timeout=5)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def python_child(function: str, *arguments: object) -> Child:
    """Start `module:function` of this project in a Python process of its own."""
    module, _, name = function.partition(":")
    source = f"from {module} import {name}; {name}()"
    return Child(sys.executable, "-c", source, *arguments, name=module)


def process_tree(pid: int) -> list[int]:
    """Return a process and all that descend from it; empty when it has ended."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        try:
            tasks = list(Path(f"/proc/{one}/task").iterdir())
            for task in tasks:
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append(one)
    return found


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process and its descendants, in bytes."""
    total = 0
    for one in process_tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
            found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
            total += int(found.group(1)) * 1024 if found else 0
    return total


def process_cpu_s(pid: int) -> float:
    """Return the user and system CPU seconds of a process so far, all its threads together.

    Raises:
        BenchmarkError: it has ended.
    """
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            # ns on a CPU, from the scheduler: finer than the ticks of /proc/PID/stat
            total += int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError) as error:
        raise BenchmarkError(f"the process {pid} ended while it was measured") from error
    return total / 1e9


def cpu_of(command: Sequence[str]) -> float:
    """Run a command to its end, its output thrown away; return its user and system CPU seconds.

    Raises:
        BenchmarkError: it failed.
    """
    process = subprocess.Popen(list(command), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise BenchmarkError(f"{' '.join(command)} failed with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def busy_s() -> float:
    """Return the CPU seconds that this host has been busy since it started, all cores together.

    Idle time is read, not busy time: the kernel measures it exactly, while busy time is sampled
    by a timer that a paced load may run in step with. Time in which the host was not run by its
    hypervisor counts as busy.
    """
    tick = os.sysconf("SC_CLK_TCK")
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    idle = (int(fields[4]) + int(fields[5])) / tick
    cores = os.cpu_count() or 1
    return time.monotonic() * cores - idle


@contextlib.contextmanager
def bpf_statistics() -> Iterator[None]:
    """Let the kernel time every BPF program for the length of a `with`.

    Raises:
        BenchmarkError: it cannot be switched on.
    """
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    try:
        before = switch.read_text()
        switch.write_text("1")
    except OSError as error:
        raise BenchmarkError(
            f"cannot write to {switch} ({error}): run the benchmark as root"
        ) from error
    try:
        yield
    finally:
        switch.write_text(before)
