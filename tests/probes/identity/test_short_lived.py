"""Processes that are gone before anybody can look at them, or that are not what they were."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from probes.window import Pair
from tests.support.traffic import Nginx, hear, nginx, python, say
from tests.support.watching import Watch, watching

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_SECONDS = int(os.environ.get("TAILRACE_SHORT_LIVED_SECONDS", "60"))
_PER_S = 20

_PYTHON = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as end:
    end.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    assert end.recv(1000).startswith(b"HTTP/1.1 200")
"""

_SHELL = """
exec 3<>/dev/tcp/127.0.0.1/$1
printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3
read -r -u3 answer
[[ $answer == HTTP/1.1\\ 200* ]]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nginx]:
    with nginx(tmp_path) as found:
        yield found


def _on(watch: Watch, port: int) -> Counter[Pair]:
    """Return the connections of each pair on a port that did anything."""
    found: Counter[Pair] = Counter()
    for window in watch.windows:
        connections = window.signals.index("connections")
        for at in np.flatnonzero(window.value > 0):
            pair = window.pairs[window.pair[at]]
            if pair.port == port:
                begun = window.signal[at] == connections
                found[pair] += round(window.value[at] * window.width) if begun else 0
    return found


def _jobs(directory: Path, number: int) -> list[tuple[str, list[str]]]:
    """Write so many programs, no two alike; return their names and how they are run."""
    shutil.copy("/usr/bin/bash", directory / "program")
    jobs = []
    for at in range(number):
        name = f"{('reaper.py', 'sweeper.sh', 'program')[at % 3]}{at}"
        if at % 3 == 0:
            name = f"reaper-{at}.py"
            (directory / name).write_text(_PYTHON)
            # a short path: of a long command line the kernel side keeps the beginning only
            command = ["/usr/bin/python3", "-I", "-S", name]
        elif at % 3 == 1:
            name = f"sweeper-{at}"
            (directory / name).write_text(_SHELL)
            command = ["/usr/bin/bash", name]
        else:
            name = f"program-{at}"
            (directory / name).hardlink_to(directory / "program")
            command = [f"./{name}", "-c", _SHELL, "inline"]
        jobs.append((name, command))
    return jobs


def test_each_has_its_own_name(tmp_path: Path, server: Nginx) -> None:
    number = _SECONDS * _PER_S
    jobs = _jobs(tmp_path, number)
    with watching(1.0) as watch:
        began, left = time.monotonic(), []
        for at, (_, command) in enumerate(jobs):
            time.sleep(max(0.0, began + at / _PER_S - time.monotonic()))
            left.append(subprocess.Popen([*command, str(server.port)], cwd=tmp_path))
            left = [each for each in left if each.poll() is None]
        for each in left:
            assert each.wait(10) == 0
        took = time.monotonic() - began
        watch.settle(2)
    found = _on(watch, server.port)
    right = sum(found.pop(Pair(name, "nginx", server.port), 0) == 1 for name, _ in jobs)
    print(f"{right} of {number} named rightly, in {took:.0f} s; others: {found}")
    # what has no name of its own is an interpreter, or unknown; never another's
    assert {pair.client for pair in found} <= {"unknown", "python3", "bash"}
    assert {pair.server for pair in found} <= {"nginx"}
    assert right >= 0.999 * number
    assert right + sum(found.values()) == number
    assert watch.lost == 0


_TWINS = """
import ctypes, os, sys
port, number = sys.argv[1], int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
SIGCHLD, CLONE3 = 17, 435
def run(tgid, script):
    # clone3(2): flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid size
    tgids = (ctypes.c_int * 1)(tgid)
    asked = (ctypes.c_uint64 * 10)(0, 0, 0, 0, SIGCHLD, 0, 0, 0, ctypes.addressof(tgids), 1)
    found = libc.syscall(CLONE3, asked, ctypes.sizeof(asked))
    if found == 0: os.execv("/usr/bin/bash", ["bash", script, port])
    return found
most = int(open("/proc/sys/kernel/pid_max").read())
tgid, alive, apart = most - 2, [], []
for at in range(number):
    while (first := run(tgid, f"first-{at}")) < 0:
        assert ctypes.get_errno() == 17, os.strerror(ctypes.get_errno())  # EEXIST
        tgid -= 1
    starts = [int(open(f"/proc/{tgid}/stat").read().rpartition(")")[2].split()[19])]
    assert os.waitpid(tgid, 0)[1] == 0
    assert run(tgid, f"second-{at}") == tgid
    starts.append(int(open(f"/proc/{tgid}/stat").read().rpartition(")")[2].split()[19]))
    apart.append(starts[1] - starts[0])
    alive.append(tgid)
    tgid -= 1
print(min(apart), flush=True)
sys.stdin.readline()
for each in alive: os.kill(each, 15)
for each in alive: os.waitpid(each, 0)
"""


def test_a_process_id_that_is_used_again_at_once(tmp_path: Path, server: Nginx) -> None:
    number = 20
    for at in range(number):
        (tmp_path / f"first-{at}").write_text(_SHELL)
        (tmp_path / f"second-{at}").write_text(_SHELL + "exec 3>&-\nread -r -t 60 <> <(:)\n")
    with (
        watching(0.5) as watch,
        python(_TWINS, server.port, number, cwd=tmp_path) as twins,
    ):
        # in ticks of 10 ms, which is all that procfs tells of a start
        assert int(hear(twins)) <= 5
        watch.settle(3)
        say(twins)
        assert twins.wait(10) == 0
        watch.settle(2)
    names = [f"{which}-{at}" for at in range(number) for which in ("first", "second")]
    assert _on(watch, server.port) == {Pair(name, "nginx", server.port): 1 for name in names}


def _scripts(directory: Path, **sources: str) -> None:
    head = """
import os, socket, subprocess, sys
port = int(sys.argv[1])
def ask(end=None, last=True):
    end = end or socket.create_connection(("127.0.0.1", port))
    end.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    assert end.recv(1000).startswith(b"HTTP/1.1 200")
    return end
def become(script, *more):
    os.execv(sys.executable, ["python3", "-I", "-S", script, str(port), *map(str, more)])
"""
    for name, source in sources.items():
        (directory / f"{name}.py").write_text(head + source)


def _run(directory: Path, script: str, port: int) -> None:
    command = [sys.executable, "-I", "-S", script, str(port)]
    subprocess.run(command, check=True, timeout=10, cwd=directory)


def test_a_process_that_executes_another_program(tmp_path: Path, server: Nginx) -> None:
    _scripts(
        tmp_path,
        setup="ask().close(); ask().close(); become('main.py')",
        main="ask().close()\nos.execv('./tool', ['tool', 'talk', str(port)])",
    )
    shutil.copy("/usr/bin/bash", tmp_path / "tool")
    (tmp_path / "talk").write_text(_SHELL * 3)
    with watching(0.25) as watch:
        for _ in range(10):
            _run(tmp_path, "setup.py", server.port)
        watch.settle(3)
    assert _on(watch, server.port) == {
        Pair("setup.py", "nginx", server.port): 20,
        Pair("main.py", "nginx", server.port): 10,
        Pair("tool", "nginx", server.port): 30,
    }


def test_a_connection_that_is_open_meanwhile(tmp_path: Path, server: Nginx) -> None:
    # it counts for the program that opened it; what the next opens, for the next
    _scripts(
        tmp_path,
        opener="end = ask(); end.set_inheritable(True); become('heir.py', end.fileno())",
        heir="for _ in range(4): ask(socket.socket(fileno=os.dup(int(sys.argv[2]))))\nask(); ask()",
    )
    with watching(0.25) as watch:
        for _ in range(5):
            _run(tmp_path, "opener.py", server.port)
        watch.settle(3)
    opener, heir = (Pair(f"{name}.py", "nginx", server.port) for name in ("opener", "heir"))
    assert _on(watch, server.port) == {opener: 5, heir: 10}
    assert watch.total(opener, "requests") == 25
    assert watch.total(heir, "requests") == 10


def test_children_that_execute_nothing(tmp_path: Path, server: Nginx) -> None:
    _scripts(
        tmp_path,
        parent="""
for _ in range(8):
    if os.fork() == 0:
        ask()
        os._exit(0)
for _ in range(8): assert os.wait()[1] == 0
ask()
""",
    )
    with watching(0.25) as watch:
        _run(tmp_path, "parent.py", server.port)
        watch.settle(3)
    assert _on(watch, server.port) == {Pair("parent.py", "nginx", server.port): 9}
