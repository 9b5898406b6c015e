"""How real processes end, and whom the kernel has killed for want of memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.identity import oom, processes, versions
from probes.identity.ends import Ended, Ends, is_crash
from tests.support.traffic import wait_for

_KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2])


@pytest.fixture
def ends() -> Iterator[Ends]:
    with contextlib.closing(Ends()) as ends:
        yield ends


def _process(source: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE)


def _next(ends: Ends) -> Ended:
    found: list[Ended] = []
    wait_for(lambda: bool(found.extend(ends.ended(time.time())) or found), what="an end")
    (one,) = found
    return one


@pytest.mark.parametrize(
    ("end", "how"),
    [("raise SystemExit(0)", "exit code 0"), ("raise SystemExit(3)", "exit code 3"),
     ("import os; os.abort()", "killed by SIGABRT")],
)  # fmt: skip
def test_how_a_process_ends(ends: Ends, end: str, how: str) -> None:
    process = _process(f"import sys; sys.stdin.readline(); {end}")
    assert ends.watch("it", process.pid)
    assert ends.ended(time.time()) == []
    before = time.time()
    process.communicate(b"\n")
    one = _next(ends)
    assert (one.who, len(ends)) == ("it", 0)
    assert before <= one.at <= time.time()
    assert one.how == (how if _KERNEL >= (6, 15) else "")
    assert ends.ended(time.time()) == []


def test_who_is_killed_and_whom_nobody_waits_for(ends: Ends) -> None:
    process = _process("import sys; sys.stdin.readline()")
    assert ends.watch("it", process.pid)
    process.kill()
    # its parent may still do so, and then it is known how
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    now = time.time()
    if _KERNEL >= (6, 15):
        assert ends.ended(now) == []
        assert ends.ended(now + 1) == []
    assert ends.ended(now + 5) == [Ended("it", now, "")]
    process.communicate()


def test_who_is_gone_or_forgotten_is_not_watched(ends: Ends) -> None:
    process = _process("")
    process.communicate()
    assert not ends.watch("gone", process.pid)
    process = _process("import sys; sys.stdin.readline()")
    assert ends.watch("it", process.pid)
    assert ends.watch("it", process.pid)
    assert len(ends) == 1
    ends.forget("it")
    ends.forget("it")
    process.communicate(b"\n")
    assert ends.ended(time.time()) == []


def test_no_more_are_watched_than_may_be(ends: Ends) -> None:
    ends.most = 2
    assert [ends.watch(n, os.getpid()) for n in range(3)] == [True, True, False]
    assert ends.refused == 1


def test_what_is_a_crash() -> None:
    assert not any(map(is_crash, ("", "exit code 0", "killed by SIGTERM", "killed by SIGQUIT")))
    assert all(map(is_crash, ("exit code 1", "killed by SIGKILL", "killed by SIGSEGV")))
    assert is_crash(f"killed by {signal.Signals(signal.SIGBUS).name}")


def _host(root: Path, kind: str, options: str) -> tuple[Path, Path]:
    """Make what a host shows of memory: its procfs, and where its hierarchy is mounted."""
    proc, mounted = root / "proc", root / "cgroup"
    (proc / "self").mkdir(parents=True)
    (mounted / "shop").mkdir(parents=True)
    (proc / "self" / "mounts").write_text(f"none {mounted} {kind} rw,{options} 0 0\n")
    (proc / "vmstat").write_text("pgfault 7\noom_kill 4\n")
    return proc, mounted


@pytest.mark.parametrize("unified", [True, False], ids=["v2", "v1"])
def test_whom_the_kernel_has_killed(tmp_path: Path, unified: bool) -> None:
    if unified:  # the files as of Linux 6.1
        proc, root = _host(tmp_path, "cgroup2", "relatime")
        counts, form = root / "shop" / "memory.events", "low 0\nhigh 0\nmax 9\noom 3\noom_kill {}\n"
        limit, within = root / "shop" / "memory.max", [("", "/shop")]
    else:
        proc, root = _host(tmp_path, "cgroup", "memory")
        counts = root / "shop" / "memory.oom_control"
        form = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
        limit, within = root / "shop" / "memory.limit_in_bytes", [("memory", "/shop"), ("", "/")]
    counts.write_text(form.format(2))
    limit.write_text(f"{48 << 20}\n")
    memory = oom.MemoryCgroups(proc)
    place = memory.place(within)
    assert place == root / "shop"
    assert oom.kills(place) == 2
    assert not memory.any_killed()
    (proc / "vmstat").write_text("pgfault 9\noom_kill 5\n")
    counts.write_text(form.format(3))
    assert memory.any_killed()
    assert not memory.any_killed()
    assert oom.kills(place) == 3
    assert oom.detail(place) == "the limit of its cgroup is 48 MiB"
    limit.write_text("max\n" if unified else "9223372036854771712\n")
    assert oom.detail(place) == oom.detail(None) == ""
    counts.unlink()
    assert oom.kills(place) is None
    assert memory.place(within) is None
    assert memory.place([("memory", "/"), ("", "/")]) is None


def test_a_host_that_tells_nothing_of_memory(tmp_path: Path) -> None:
    memory = oom.MemoryCgroups(tmp_path)
    assert not memory.any_killed()
    assert memory.place([("", "/shop")]) is None


@pytest.mark.parametrize("absolute", [True, False])
def test_a_script_is_its_own_version(tmp_path: Path, absolute: bool) -> None:
    script = tmp_path / "server.py"
    script.write_text("import sys; sys.stdin.readline()")
    os.utime(script, (1_700_000_000, 1_700_000_000))
    given = str(script) if absolute else script.name
    command = [sys.executable, given]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        wait_for(lambda: b"server.py" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
        facts = processes.facts_of(Path("/proc"), process.pid)
        assert facts is not None
        found = versions.of_process(Path("/proc"), facts, processes.read(Path("/proc"), facts))
        assert found == f"{given} of 2023-11-14T22:13:20Z"
        script.unlink()  # then it is the interpreter's
        found = versions.of_process(Path("/proc"), facts, processes.read(Path("/proc"), facts))
        assert "/python3" in found
        process.communicate(b"\n")
    assert versions.of_process(Path("/proc"), facts, None) == ""
