"""The helper process compiles, the kernel decides, and this process attaches."""

import os
import struct
from pathlib import Path

import pytest

from probes import kprobes, mapcalls, syscalls
from probes.compiler import idling
from probes.errors import ProbeError
from probes.hookreport import hook_checks, hook_table
from probes.hooks import Way
from probes.links import attach
from probes.loader import load
from tests.support.loading import (
    CGROUP,
    ENTRIES_WAY,
    FENTRY,
    FENTRY_WAY,
    FEXIT,
    FILES_WAY,
    KPROBE,
    KPROBE_WAY,
    KRETPROBE,
    NO_WAY,
    RECKLESS_WAY,
    SOURCE,
    STATE,
    TRACEPOINT,
    TRACEPOINT_WAY,
    TYPED,
    alone,
    event,
    no_descriptor_is_left,
    one,
    open_files,
    seen,
    talk,
)

pytestmark = pytest.mark.kernel

KPROBES = (kprobes.DEVICE / "type").exists()


def test_the_first_way_that_works_is_taken() -> None:
    events = [event("state", NO_WAY, RECKLESS_WAY, TRACEPOINT_WAY, KPROBE_WAY, required=True)]
    with no_descriptor_is_left(), load(SOURCE, cflags=[], events=events) as loaded:
        assert loaded.chosen["state"] == TRACEPOINT_WAY
        missing, reckless = loaded.reasons["state"]
        assert missing == "tracepoint: this kernel has no tracepoint no_such_thing"
        assert reckless.startswith("tracepoint: the kernel refused reckless (Permission denied): R")
        assert list(loaded.programs) == ["by_tracepoint"]
        assert not 0 < loaded.programs["by_tracepoint"].instructions < 10  # 0 before 5.16
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
    events = [event("a", TRACEPOINT_WAY), event("b", optional)]
    with load(SOURCE, cflags=[], events=events) as loaded:
        assert loaded.chosen["b"] == TRACEPOINT_WAY
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
    both = Way("tracepoint", (STATE, *NO_WAY.targets))
    with load(SOURCE, cflags=[], events=[event("a", both)]) as loaded:
        assert loaded.chosen["a"] is None
        assert loaded.programs == {}


def test_what_is_tried_does_nothing() -> None:
    """The same instructions, idle and as they are: count in slot 0 of the map `walked`."""
    with load(SOURCE, cflags=[], events=[event("state", TRACEPOINT_WAY)]) as loaded:
        walked = loaded.maps["walked"]
        counting = b"".join(
            struct.pack("<BBhi", *each)
            for each in (
                (0x62, 0x0A, -4, 0),  # the key, on the stack
                (0xBF, 0xA2, 0, 0),
                (0x07, 0x02, 0, -4),
                (0x18, 0x11, 0, walked.descriptor),
                (0, 0, 0, 0),
                (0x85, 0, 0, 1),  # look it up
                (0x15, 0x00, 2, 0),
                (0xB7, 0x01, 0, 1),
                (0xDB, 0x10, 0, 0),  # add 1
                (0xB7, 0x00, 0, 0),
                (0x95, 0, 0, 0),
            )
        )
        counted = []
        for code in (idling(counting, 0), counting):
            program = syscalls.load_program(syscalls.PROG_RAW_TRACEPOINT, code, name="tried")
            link = attach(STATE, program, {})
            talk(1)
            link.close()
            os.close(program)
            counted.append(struct.unpack("=Q", walked.lookup(bytes(4)) or b"")[0])
    assert counted[0] == 0
    assert counted[1] >= 6


def test_arguments_that_a_tracepoint_does_not_have() -> None:
    greedy = Way("tracepoint", (one("raw_tracepoint", STATE.where, "greedy"),))
    with load(SOURCE, cflags=[], events=[event("x", greedy, TRACEPOINT_WAY)]) as loaded:
        assert loaded.chosen["x"] == TRACEPOINT_WAY
        assert loaded.reasons["x"] == (
            "tracepoint: the tracepoint inet_sock_set_state has fewer arguments than greedy reads",
        )


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
    events = [event("call", KPROBE_WAY), event("return", returning), event("nothing", nothing)]
    with no_descriptor_is_left(), load(SOURCE, cflags=[], events=events) as loaded:
        loaded.attach()
        talk(10)
        if KPROBES:
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
    events = [event("call", FENTRY_WAY), event("return", leaving), event("nothing", nothing)]
    with no_descriptor_is_left(), load(SOURCE, cflags=[], events=events) as loaded:
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
    events = [
        event("files", FILES_WAY),
        event("entries", ENTRIES_WAY),
        event("state", TRACEPOINT_WAY),
    ]
    with no_descriptor_is_left(), load(SOURCE, cflags=[], events=events) as loaded:
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


def test_a_family_is_forced() -> None:
    events = [
        event("state", TRACEPOINT_WAY, KPROBE_WAY),
        event("only", TRACEPOINT_WAY),
        event("f", FILES_WAY),
    ]
    with load(SOURCE, cflags=[], events=events, hooks="kprobe") as loaded:
        assert loaded.chosen["state"] == (KPROBE_WAY if KPROBES else None)
        assert loaded.chosen["only"] is None
        assert loaded.reasons["only"] == ("it cannot be seen by kprobe",)
        assert loaded.chosen["f"] == FILES_WAY


def test_the_table_for_the_doctor() -> None:
    events = [
        event("state", NO_WAY, TRACEPOINT_WAY),
        event("sends", NO_WAY),
        event("needed", NO_WAY, required=True),
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


def test_no_compiler_stays_in_this_process() -> None:
    """In a process of its own: another test may have imported BCC here."""
    run = alone(
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
    run = alone(
        *("setpriv", "--inh-caps=-all", "--bounding-set=-all,+bpf,+perfmon"),
        then="print(loaded.reasons['connect'][0])",
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "cgroup: this kernel refuses cgroup programs (not permitted)\n"


def test_headers_beside_the_source(tmp_path: Path) -> None:
    (tmp_path / "own.h").write_text("#define ENTRIES (SIZE + 1)\n")
    own = b'\n#include "own.h"\nBPF_ARRAY(sized, u64, ENTRIES);\n'
    (tmp_path / "main.c").write_bytes(SOURCE + own)
    events = [event("state", TRACEPOINT_WAY)]
    with load(tmp_path / "main.c", cflags=["-DSIZE=17"], events=events) as loaded:
        assert loaded.maps["sized"].shape.max_entries == 18
        assert loaded.chosen["state"] == TRACEPOINT_WAY
        assert loaded.warnings == ""


def test_warnings_are_kept() -> None:
    source = SOURCE + b"\n#warning mind the gap\n"
    with load(source, cflags=[], events=[event("state", TRACEPOINT_WAY)]) as loaded:
        assert "mind the gap" in loaded.warnings


def test_more_descriptors_than_one_message_takes() -> None:
    names = b"".join(b"BPF_ARRAY(more%d, u64, %d);\n" % (i, i + 1) for i in range(420))
    with (
        no_descriptor_is_left(),
        load(SOURCE + names, cflags=[], events=[event("state", TRACEPOINT_WAY)]) as loaded,
    ):
        for i in (0, 199, 200, 419):
            assert loaded.maps[f"more{i}"].shape.max_entries == i + 1
            shape = mapcalls.map_info(loaded.maps[f"more{i}"].descriptor)
            assert shape == loaded.maps[f"more{i}"].shape
