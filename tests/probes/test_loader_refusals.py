"""What goes wrong while programs are loaded, and what is said of it."""

import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest

from probes.errors import ProbeError
from probes.hooks import Event, Way
from probes.loader import load
from tests.support.loading import (
    NO_WAY,
    SOURCE,
    STATE,
    TRACEPOINT_WAY,
    alone,
    event,
    no_descriptor_is_left,
    one,
)

pytestmark = pytest.mark.kernel


def _fails(*events: Event, source: bytes = SOURCE, match: str, hooks: str = "auto") -> str:
    with no_descriptor_is_left(), pytest.raises(ProbeError, match=match) as caught:
        load(source, cflags=[], events=events, hooks=hooks)
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"none\.c cannot be read: No such file"):
        load(tmp_path / "none.c", cflags=[], events=[event("state", TRACEPOINT_WAY)])


def test_an_iterator_over_a_map_that_is_not_there() -> None:
    way = Way("iterator", (one("iter", "bpf_map_elem:none", "bpf_iter__bpf_map_elem"),))
    with load(SOURCE, cflags=[], events=[event("x", way)]) as loaded:
        assert loaded.reasons["x"] == ("iterator: no map none to iterate over",)
        with pytest.raises(ProbeError, match="x: iterator: no map none"):
            loaded.iterate("x")


def test_a_required_event_without_a_way() -> None:
    needed = event("sends", NO_WAY, required=True)
    said = _fails(needed, match=r"no way to see: sends \(tracepoint: .* no_such_thing\)")
    assert "report" in said
    only = event("state", TRACEPOINT_WAY, required=True)
    _fails(only, match="Try hooks = auto instead of kprobe", hooks="kprobe")
    with load(SOURCE, cflags=[], events=[needed], strict=False) as loaded:
        assert loaded.chosen == {"sends": None}


def test_without_capabilities_it_says_which() -> None:
    run = alone("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    assert run.returncode == 1
    assert "need CAP_BPF and CAP_PERFMON" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_compile_error_is_shown() -> None:
    said = _fails(
        event("state", TRACEPOINT_WAY), source=SOURCE + b"\nint x = ;", match="not compile"
    )
    assert "error: expected expression" in said


def test_a_function_that_is_not_in_the_source() -> None:
    way = Way("tracepoint", (one("raw_tracepoint", STATE.where, "by_nobody"),))
    with load(SOURCE, cflags=[], events=[event("x", way)]) as loaded:
        assert loaded.reasons["x"] == ("tracepoint: the source has no function by_nobody",)


def test_a_map_the_kernel_refuses() -> None:
    source = SOURCE + b'\nBPF_TABLE("array", u64, u64, wide, 1);'  # an array's keys have 4 bytes
    _fails(event("state", TRACEPOINT_WAY), source=source, match="(?s)cannot be prepared here.*wide")


def test_a_helper_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.helper.COMPILE_LIMIT_S", 0.05)
    began = time.monotonic()
    _fails(event("state", TRACEPOINT_WAY), match=r"took longer than 0\.05 s.*try again")
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

    with no_descriptor_is_left():
        thread = threading.Thread(target=kill)
        thread.start()
        try:
            with pytest.raises(ProbeError, match=r"killed by signal 9.*out of memory"):
                load(SOURCE, cflags=[], events=[event("state", TRACEPOINT_WAY)])
        finally:
            killed.set()
            thread.join()


def test_too_few_open_files() -> None:
    names = b"".join(b"BPF_ARRAY(more%d, u64, 1);\n" % i for i in range(40))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.dup(0) for _ in range(150)]  # ours, so that the helper has room and we have not
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 25, hard))
        _fails(event("state", TRACEPOINT_WAY), source=SOURCE + names, match="LimitNOFILE")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "unrelated package"), ("raise ImportError('no libbcc')", "not installed")],
)
def test_a_bcc_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "bcc.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    said = _fails(event("state", TRACEPOINT_WAY), match=message)
    assert "apt install python3-bpfcc" in said


def test_a_family_nobody_knows() -> None:
    with pytest.raises(ValueError, match="hooks is 'uprobe'"):
        load(SOURCE, cflags=[], events=[event("state", TRACEPOINT_WAY)], hooks="uprobe")
