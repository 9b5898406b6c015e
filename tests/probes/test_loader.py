"""The helper process compiles, the kernel decides, and this process attaches."""

import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes import kprobes, loader
from probes.errors import ProbeError
from probes.hookreport import hook_checks, hook_table
from probes.hooks import Event, Way
from probes.loader import load
from tests.support.daemon import ROOT
from tests.support.loading import (
    CGROUP,
    FENTRY,
    FEXIT,
    KPROBE,
    KRETPROBE,
    SOURCE,
    STATE,
    TRACEPOINT,
    TYPED,
    event,
    one,
    open_files,
    seen,
    talk,
)

pytestmark = pytest.mark.kernel

_KPROBES = (kprobes.DEVICE / "type").exists()
_KPROBE = Way("kprobe", (one("kprobe", "tcp_sendmsg", "by_kprobe"),))
_FENTRY = Way("fentry", (one("fentry", "tcp_sendmsg", "by_fentry"),))
_TRACEPOINT = Way("tracepoint", (STATE,))
_NO_TRACEPOINT = Way("tracepoint", (one("raw_tracepoint", "no_such_thing", "by_tracepoint"),))
_RECKLESS = Way("tracepoint", (one("raw_tracepoint", "inet_sock_set_state", "reckless"),))
_FILES = Way("iterator", (one("iter", "task_file", "bpf_iter__task_file"),))
_ENTRIES = Way("iterator", (one("iter", "bpf_map_elem:sends", "bpf_iter__bpf_map_elem"),))


@contextmanager
def _no_descriptor_is_left() -> Iterator[None]:
    before = open_files()
    yield
    assert open_files() == before


def _fails(*events: Event, source: bytes = SOURCE, match: str, hooks: str = "auto") -> str:
    with _no_descriptor_is_left(), pytest.raises(ProbeError, match=match) as caught:
        load(source, cflags=[], events=events, hooks=hooks)
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


def test_the_first_way_that_works_is_taken() -> None:
    events = [event("state", _NO_TRACEPOINT, _RECKLESS, _TRACEPOINT, _KPROBE, required=True)]
    with _no_descriptor_is_left(), load(SOURCE, cflags=[], events=events) as loaded:
        assert loaded.chosen["state"] == _TRACEPOINT
        missing, reckless = loaded.reasons["state"]
        assert missing == "tracepoint: this kernel has no tracepoint no_such_thing"
        assert reckless.startswith("tracepoint: the kernel refused reckless (Permission denied): R")
        assert list(loaded.programs) == ["by_tracepoint"]
        assert loaded.programs["by_tracepoint"].instructions != 1
        talk(1)
        assert seen(loaded, TRACEPOINT) == 0  # loaded is not attached
        loaded.attach()
        talk(1)
        number = seen(loaded, TRACEPOINT)
        assert number >= 6
        assert loaded.recursion_misses == 0
        loaded.detach()
        talk(1)
        assert seen(loaded, TRACEPOINT) == number


def test_a_target_of_two_events_is_attached_once() -> None:
    optional = Way(
        "tracepoint", (STATE, one("raw_tracepoint", "nothing", "by_tracepoint", required=False))
    )
    events = [event("a", _TRACEPOINT), event("b", optional)]
    with load(SOURCE, cflags=[], events=events) as loaded:
        assert loaded.chosen["b"] == _TRACEPOINT
        assert loaded.reasons["b"] == (
            "without raw_tracepoint nothing: this kernel has no tracepoint nothing",
        )
        loaded.attach(["a"])
        talk(1)
        once = seen(loaded, TRACEPOINT)
        loaded.attach(["b", "a"])
        talk(1)
        assert seen(loaded, TRACEPOINT) == 2 * once


def test_a_way_counts_only_with_all_it_requires() -> None:
    both = Way("tracepoint", (STATE, *_NO_TRACEPOINT.targets))
    with load(SOURCE, cflags=[], events=[event("a", both)]) as loaded:
        assert loaded.chosen["a"] is None
        assert loaded.programs == {}


def test_typed_tracepoints_and_cgroups() -> None:
    events = [
        event("typed", Way("tracepoint", (one("tp_btf", STATE.where, "by_typed_tracepoint"),))),
        event("connect", Way("cgroup", (one("cgroup", "connect4", "by_cgroup"),))),
        event("nowhere", Way("cgroup", (one("cgroup", "connect9", "by_cgroup9"),))),
    ]
    with load(
        SOURCE + b"\nint by_cgroup9(void *c) { return 1; }", cflags=[], events=events
    ) as all_:
        all_.attach()
        talk(1)
        assert seen(all_, TYPED) >= 6
        assert seen(all_, CGROUP) == 1
        assert all_.reasons["nowhere"] == ("cgroup: cgroups have no attach point connect9",)


def test_kprobes_where_there_are_any() -> None:
    returning = Way("kprobe", (one("kretprobe", "tcp_sendmsg", "by_kretprobe"),))
    nothing = Way("kprobe", (one("kprobe", "no_such_function", "by_kprobe"),))
    events = [event("call", _KPROBE), event("return", returning), event("nothing", nothing)]
    with _no_descriptor_is_left(), load(SOURCE, cflags=[], events=events) as loaded:
        loaded.attach()
        talk(10)
        if _KPROBES:
            assert (seen(loaded, KPROBE), seen(loaded, KRETPROBE)) == (10, 10)
            assert loaded.recursion_misses == 0
            why = "kprobe: this kernel has no function no_such_function"
        else:
            assert loaded.chosen["call"] is None
            assert loaded.chosen["return"] is None
            why = "kprobe: this kernel has no kprobes"
        assert loaded.reasons["nothing"] == (why,)


def test_fentry_where_it_is_allowed() -> None:
    leaving = Way("fentry", (one("fexit", "tcp_sendmsg", "by_fexit"),))
    nothing = Way("fentry", (one("fentry", "no_such_function", "by_fentry"),))
    events = [event("call", _FENTRY), event("return", leaving), event("nothing", nothing)]
    with _no_descriptor_is_left(), load(SOURCE, cflags=[], events=events) as loaded:
        loaded.attach()
        talk(10)
        if loaded.chosen["call"]:
            assert (seen(loaded, FENTRY), seen(loaded, FEXIT)) == (10, 10)
            assert list(loaded.programs) == ["by_fentry@tcp_sendmsg", "by_fexit@tcp_sendmsg"]
        else:
            assert loaded.reasons["call"] in (
                ("fentry: this kernel refuses fentry programs (not permitted)",),
                ("fentry: this kernel can crash when fentry programs are detached",),
            )
        (why,) = loaded.reasons["nothing"]
        assert "no_such_function" in why or "can crash" in why


def test_iterators_run_to_their_end() -> None:
    events = [event("files", _FILES), event("entries", _ENTRIES), event("state", _TRACEPOINT)]
    with _no_descriptor_is_left(), load(SOURCE, cflags=[], events=events) as loaded:
        walked = loaded.maps["walked"]
        for key in range(700):
            loaded.maps["sends"].update(struct.pack("=Q", key), bytes(8))
        assert loaded.iterate("entries") == b""
        assert walked.lookup(struct.pack("=I", 1)) == struct.pack("=Q", 700)
        loaded.iterate("entries")
        assert walked.lookup(struct.pack("=I", 1)) == struct.pack("=Q", 1400)
        loaded.iterate("files")
        files = walked.lookup(bytes(4))
        assert files is not None
        assert struct.unpack("=Q", files)[0] >= len(open_files())
        with pytest.raises(ProbeError, match="state: it has no iterator"):
            loaded.iterate("state")


def test_an_iterator_over_a_map_that_is_not_there() -> None:
    way = Way("iterator", (one("iter", "bpf_map_elem:none", "bpf_iter__bpf_map_elem"),))
    with load(SOURCE, cflags=[], events=[event("x", way)]) as loaded:
        assert loaded.reasons["x"] == ("iterator: no map none to iterate over",)
        with pytest.raises(ProbeError, match="x: iterator: no map none"):
            loaded.iterate("x")


def test_a_family_is_forced() -> None:
    events = [event("state", _TRACEPOINT, _KPROBE), event("only", _TRACEPOINT), event("f", _FILES)]
    with load(SOURCE, cflags=[], events=events, hooks="kprobe") as loaded:
        assert loaded.chosen["state"] == (_KPROBE if _KPROBES else None)
        assert loaded.chosen["only"] is None
        assert loaded.reasons["only"] == ("it cannot be seen by kprobe",)
        assert loaded.chosen["f"] == _FILES


def test_a_required_event_without_a_way() -> None:
    needed = event("sends", _NO_TRACEPOINT, required=True)
    said = _fails(needed, match=r"no way to see: sends \(tracepoint: .* no_such_thing\)")
    assert "report" in said
    only = event("state", _TRACEPOINT, required=True)
    _fails(only, match="Try hooks = auto instead of kprobe", hooks="kprobe")
    with load(SOURCE, cflags=[], events=[needed], strict=False) as loaded:
        assert loaded.chosen == {"sends": None}


def test_the_table_for_the_doctor() -> None:
    events = [
        event("state", _NO_TRACEPOINT, _TRACEPOINT),
        event("sends", _NO_TRACEPOINT),
        event("needed", _NO_TRACEPOINT, required=True),
    ]
    with load(SOURCE, cflags=[], events=events, strict=False) as loaded:
        state, sends, needed = hook_table(loaded)
        assert (state.family, state.hook) == ("tracepoint", "raw_tracepoint inet_sock_set_state")
        assert state.instructions == loaded.programs["by_tracepoint"].instructions
        assert (sends.available, sends.hook, needed.required) == (False, "unavailable", True)
        checks = {check.name: check for check in hook_checks(loaded)}
    assert checks["event: state"].state == "ok"
    assert "raw_tracepoint inet_sock_set_state (tracepoint" in checks["event: state"].detail
    assert checks["event: sends"].state == "warn"
    assert checks["event: sends"].detail == (
        "unavailable: tracepoint: this kernel has no tracepoint no_such_thing"
    )
    assert checks["event: needed"].state == "fail"
    assert checks["event: needed"].remedy


_ALONE = """
import sys
from probes.errors import ProbeError
from probes.hooks import Way
from probes.loader import load
from tests.support.loading import SOURCE, STATE, TRACEPOINT, event, one, seen, talk
connect = Way("cgroup", (one("cgroup", "connect4", "by_cgroup"),))
events = [event("state", Way("tracepoint", (STATE,))), event("connect", connect)]
try:
    loaded = load(SOURCE, cflags=[], events=events)
except ProbeError as error:
    sys.exit(str(error))
loaded.attach()
talk(1)
assert seen(loaded, TRACEPOINT) >= 6
"""


def _alone(*prefix: str, then: str = "") -> subprocess.CompletedProcess[str]:
    command = (*prefix, sys.executable, "-c", _ALONE + then)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_compiler_stays_in_this_process() -> None:
    """In a process of its own: another test may have imported BCC here."""
    run = _alone(
        then="""
mapped = open("/proc/self/maps").read()
assert "libc.so" in mapped
found = [line for line in mapped.splitlines() if "LLVM" in line or "libbcc" in line]
assert not found, found
assert "bcc" not in sys.modules
"""
    )
    assert run.returncode == 0, run.stderr


def test_two_capabilities_are_enough_for_tracepoints() -> None:
    run = _alone(
        *("setpriv", "--inh-caps=-all", "--bounding-set=-all,+bpf,+perfmon"),
        then="print(loaded.reasons['connect'][0])",
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "cgroup: this kernel refuses cgroup programs (not permitted)\n"


def test_without_capabilities_it_says_which() -> None:
    run = _alone("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    assert run.returncode == 1
    assert "need CAP_BPF and CAP_PERFMON" in run.stderr
    assert "Traceback" not in run.stderr


def test_headers_beside_the_source(tmp_path: Path) -> None:
    (tmp_path / "own.h").write_text("#define ENTRIES (SIZE + 1)\n")
    own = b'\n#include "own.h"\nBPF_ARRAY(sized, u64, ENTRIES);\n'
    (tmp_path / "main.c").write_bytes(SOURCE + own)
    events = [event("state", _TRACEPOINT)]
    with load(tmp_path / "main.c", cflags=["-DSIZE=17"], events=events) as loaded:
        assert loaded.maps["sized"].shape.max_entries == 18
        assert loaded.chosen["state"] == _TRACEPOINT
        assert loaded.warnings == ""


def test_warnings_are_kept() -> None:
    source = SOURCE + b"\n#warning mind the gap\n"
    with load(source, cflags=[], events=[event("state", _TRACEPOINT)]) as loaded:
        assert "mind the gap" in loaded.warnings


def test_a_compile_error_is_shown() -> None:
    said = _fails(event("state", _TRACEPOINT), source=SOURCE + b"\nint x = ;", match="not compile")
    assert "error: expected expression" in said


def test_a_function_that_is_not_in_the_source() -> None:
    way = Way("tracepoint", (one("raw_tracepoint", STATE.where, "by_nobody"),))
    with load(SOURCE, cflags=[], events=[event("x", way)]) as loaded:
        assert loaded.reasons["x"] == ("tracepoint: the source has no function by_nobody",)


def test_a_map_the_kernel_refuses() -> None:
    source = SOURCE + b'\nBPF_TABLE("array", u64, u64, wide, 1);'  # an array's keys have 4 bytes
    _fails(event("state", _TRACEPOINT), source=source, match="(?s)cannot be prepared here.*wide")


def test_a_helper_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "COMPILE_LIMIT_S", 0.05)
    began = time.monotonic()
    _fails(event("state", _TRACEPOINT), match=r"took longer than 0\.05 s.*try again")
    assert time.monotonic() - began < 5


def test_a_helper_that_dies() -> None:
    killed = threading.Event()

    def kill() -> None:
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        while not killed.is_set():
            for child in children.read_text().split():
                if b"probes.compiler" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
                    killed.set()
            time.sleep(0.001)

    with _no_descriptor_is_left():
        thread = threading.Thread(target=kill)
        thread.start()
        try:
            with pytest.raises(ProbeError, match=r"killed by signal 9.*out of memory"):
                load(SOURCE, cflags=[], events=[event("state", _TRACEPOINT)])
        finally:
            killed.set()
            thread.join()


def test_too_few_open_files() -> None:
    names = b"".join(b"BPF_ARRAY(more%d, u64, 1);\n" % i for i in range(40))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.dup(0) for _ in range(150)]  # ours, so that the helper has room and we have not
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 25, hard))
        _fails(event("state", _TRACEPOINT), source=SOURCE + names, match="LimitNOFILE")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


def test_more_descriptors_than_one_message_takes() -> None:
    names = b"".join(b"BPF_ARRAY(more%d, u64, %d);\n" % (i, i + 1) for i in range(420))
    with (
        _no_descriptor_is_left(),
        load(SOURCE + names, cflags=[], events=[event("state", _TRACEPOINT)]) as loaded,
    ):
        for i in (0, 199, 200, 419):
            assert loaded.maps[f"more{i}"].shape.max_entries == i + 1
            shape = loader.syscalls.map_info(loaded.maps[f"more{i}"].descriptor)
            assert shape == loaded.maps[f"more{i}"].shape


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "unrelated package"), ("raise ImportError('no libbcc')", "not installed")],
)
def test_a_bcc_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "bcc.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    said = _fails(event("state", _TRACEPOINT), match=message)
    assert "apt install python3-bpfcc" in said


def test_a_family_nobody_knows() -> None:
    with pytest.raises(ValueError, match="hooks is 'uprobe'"):
        load(SOURCE, cflags=[], events=[event("state", _TRACEPOINT)], hooks="uprobe")
