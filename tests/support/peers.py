"""Processes with names of their own that talk to each other, and what must be seen of them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from probes.window import Kind, Pair, kind_of
from tests.support.daemon import ROOT
from tests.support.traffic import running
from tests.support.watching import Watch

_numbers = itertools.count()

HEAD = """
import array, ctypes, os, select, socket, struct, sys, threading, time
from socket import *
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def tell(*words): print(*words, flush=True)
def wait(): sys.stdin.readline()
def name(text):
    with open("/proc/self/comm", "w") as f: f.write(text)
def all_of(s, size):
    data = b""
    while len(data) < size:
        part = s.recv(size - len(data))
        if not part: return data
        data += part
    return data
def serve(c, ask=300, answer=700):
    # until the client has said all it wants
    while len(all_of(c, ask)) == ask: c.sendall(bytes(answer))
    c.close()
def request(c, times=1, ask=300, answer=700):
    for _ in range(times):
        c.sendall(bytes(ask))
        assert len(all_of(c, answer)) == answer
name(sys.argv[1])
"""
"""What every program below begins with; its first argument is its name."""


def names() -> tuple[str, str]:
    """Return names for a client and a server that nobody else has."""
    number = f"{os.getpid()}-{next(_numbers)}"
    return f"c{number}", f"s{number}"


@contextmanager
def program(
    name: str, source: str, *arguments: object, prefix: Sequence[str] = (), **kwargs: object
) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program under a name of its own, with pipes on its standard input and output.

    Args:
        name: at most 15 characters.
        source: goes after `HEAD`.
        arguments: sys.argv[2:] of it.
        prefix: command that runs it.
        kwargs: of Popen.
    """
    command = (*prefix, sys.executable, "-c", HEAD + source, name, *map(str, arguments))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    with running(*command, **{**pipes, **kwargs}) as process:
        yield process


def ended(process: subprocess.Popen[str]) -> None:
    """Wait for a program's end and see that it was a good one."""
    assert process.wait(timeout=20) == 0


def seen(watch: Watch, *mine: str, port: int | None = None) -> set[Pair]:
    """Return the active pairs that carry any of these names, or the port."""
    return {
        pair
        for pair in watch.pairs()
        if pair.client in mine or pair.server in mine or (port and pair.port == port)
    }


def figures(watch: Watch, pair: Pair, *signals: str) -> dict[str, float]:
    """Return the sums of a pair's rates over all windows, and the failed parts of its ratios."""
    return {signal: float(watch.total(pair, signal)) for signal in signals}


TRAFFIC = ("connections", "requests", "bytes_sent", "bytes_received")
ERRORS = ("connect_errors", "resets", "retransmits", "stalls", "drops")


def causes(watch: Watch, pair: Pair) -> dict[str, dict[str, int]]:
    """Return the causes of every error that a pair has had: {signal: {cause: number}}."""
    found = {signal: dict(watch.causes(pair, signal)) for signal in ERRORS}
    return {signal: number for signal, number in found.items() if number}


def failures(watch: Watch, pair: Pair) -> dict[str, float]:
    """Return the errors that a pair has had: {signal: number}."""
    assert all(kind_of(signal) is Kind.RATIO for signal in ERRORS)
    had = {}
    for signal in ERRORS:
        part, _ = watch.part_and_whole(pair, signal)
        if part:
            had[signal] = part
    return had


def traffic(*amounts: int) -> dict[str, float]:
    """Return what `figures` should return of TRAFFIC: connections, requests, sent, received."""
    return dict(zip(TRAFFIC, map(float, amounts), strict=True))


def expect(
    watch: Watch, pair: Pair, connections: int, requests: int, sent: int, received: int
) -> None:
    """See that the pair, and no other of its names or port, did this and had no error.

    Args:
        watch: after the traffic.
        pair: whose it was.
        connections: of these and the rest, how many.
        requests: answered.
        sent: bytes, by the client.
        received: bytes, by the client.
    """
    watch.settle()
    found = seen(watch, pair.client, pair.server, port=pair.port)
    assert found == {pair}, f"{found} and not {pair}"
    had = figures(watch, pair, *TRAFFIC)
    want = traffic(connections, requests, sent, received)
    assert had == want, f"{had} and not {want}"
    errors = failures(watch, pair)
    errors.pop("retransmits", None)  # a busy machine's kernel may repeat a segment
    assert errors == {}, f"{errors}"
