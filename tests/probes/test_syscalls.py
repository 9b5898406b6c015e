"""bpf(2) and perf_event_open(2) against the real kernel."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from probes import kprobes, links, mapcalls, syscalls
from probes.btf import KIND_FUNCTION, KIND_TYPEDEF, KernelTypes
from probes.errors import ProbeError
from probes.hooks import Way
from probes.loader import Loaded, load
from probes.maps import MapReader
from probes.table import Map, possible_cpus
from tests.support.loading import SOURCE, STATE, TRACEPOINT, event, seen, talk

kernel = pytest.mark.kernel
_KPROBES = (kprobes.DEVICE / "type").exists()

_RETURN_0 = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
_RETURN_NOTHING = struct.pack("<BBhi", 0x95, 0, 0, 0)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    with load(SOURCE, cflags=[], events=[event("state", Way("tracepoint", (STATE,)))]) as made:
        yield made


@pytest.fixture
def small(loaded: Loaded) -> Iterator[Map]:
    """An empty map of u32 to u32 with room for 4."""
    table = loaded.maps["small"]
    yield table
    for key in range(8):
        table.delete(struct.pack("=I", key))


@pytest.fixture
def sends(loaded: Loaded) -> Map:
    """An empty map of u64 to u64 with room for 1024."""
    table = loaded.maps["sends"]
    _reader(table, drain=True).read()
    return table


def _reader(sends: Map, *, drain: bool) -> MapReader:
    return MapReader(sends.descriptor, name="sends", key=np.dtype("u8"), value=np.dtype("u8"),
        capacity=1024, drain=drain,
    )  # fmt: skip


@kernel
def test_a_program_loads_and_is_counted() -> None:
    program = syscalls.load_program(syscalls.PROG_RAW_TRACEPOINT, _RETURN_0, name="noth-ing")
    try:
        info = syscalls.program_info(program)
        assert info.instructions in (0, 2)  # 0 before 5.16
        assert (info.run_time_ns, info.run_count, info.recursion_misses) == (0, 0, 0)
    finally:
        os.close(program)


@kernel
def test_a_refusal_carries_the_verifiers_words() -> None:
    with pytest.raises(syscalls.LoadError, match="Permission denied") as caught:
        syscalls.load_program(syscalls.PROG_RAW_TRACEPOINT, _RETURN_NOTHING, name="nothing")
    assert caught.value.errno == errno.EACCES
    assert "R0 !read_ok" in caught.value.log


@kernel
def test_a_tracepoint_that_does_not_exist() -> None:
    program = syscalls.load_program(syscalls.PROG_RAW_TRACEPOINT, _RETURN_0, name="nothing")
    try:
        with pytest.raises(FileNotFoundError):
            syscalls.open_raw_tracepoint(program, "no_such_tracepoint")
    finally:
        os.close(program)


@kernel
def test_statistics_run_only_while_somebody_holds_them(loaded: Loaded) -> None:
    loaded.attach()
    before = loaded.run_time_ns()["by_tracepoint"]
    statistics = syscalls.enable_statistics()
    try:
        talk(1)
    finally:
        os.close(statistics)
    during = loaded.run_time_ns()["by_tracepoint"]
    talk(1)
    loaded.detach()
    assert during[0] > before[0]
    assert during[1] >= before[1] + 6  # six changes of state at least, of two sockets
    assert loaded.run_time_ns()["by_tracepoint"] == during
    assert seen(loaded, TRACEPOINT) >= 12


@kernel
def test_elements_of_a_map(small: Map) -> None:
    key, value = struct.pack("=I", 7), struct.pack("=I", 42)
    assert small.lookup(key) is None
    small.update(key, value)
    assert small.lookup(key) == value
    assert small.delete(key)
    assert not small.delete(key)
    assert small.lookup(key) is None


@kernel
def test_a_full_map_says_so(small: Map) -> None:
    for key in range(4):
        small.update(struct.pack("=I", key), bytes(4))
    with pytest.raises(OSError, match="too long") as caught:
        small.update(struct.pack("=I", 4), bytes(4))
    assert caught.value.errno == errno.E2BIG


@kernel
def test_sizes_are_checked_before_the_kernel_reads_past_them(small: Map) -> None:
    with pytest.raises(ValueError, match="a key of this map has 4 bytes, not 8"):
        small.lookup(bytes(8))
    with pytest.raises(ValueError, match="a value of this map has 4 bytes, not 1"):
        small.update(bytes(4), bytes(1))
    with pytest.raises(ValueError, match="a key of this map has 4 bytes, not 0"):
        small.delete(b"")


@kernel
def test_the_shape_of_maps(loaded: Loaded) -> None:
    assert loaded.maps["sends"].shape == mapcalls.MapInfo(1, 8, 8, 1024, 0)
    per_cpu = loaded.maps["per_cpu"]
    assert per_cpu.shape == mapcalls.MapInfo(6, 4, 8, 2, 0)
    value = per_cpu.lookup(bytes(4))
    assert value is not None
    assert len(value) == per_cpu.value_bytes == 8 * (os.cpu_count() or 0)


def test_cpus_are_counted_in_lists_with_gaps() -> None:
    assert possible_cpus("0\n") == 1
    assert possible_cpus("0-3,8,10-11\n") == 7


@kernel
@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("number", [0, 1, 500, 1024])
def test_whole_maps_are_read(sends: Map, number: int, *, drain: bool) -> None:
    for key in range(number):
        sends.update(struct.pack("=Q", key), struct.pack("=Q", key * key))
    reader = _reader(sends, drain=drain)
    keys, values = reader.read()
    assert sorted(keys.tolist()) == list(range(number))
    assert (values == keys * keys).all()
    keys, _ = reader.read()
    assert len(keys) == (0 if drain else number)


@kernel
def test_a_map_is_read_piece_by_piece(sends: Map) -> None:
    for key in range(1000):
        sends.update(struct.pack("=Q", key), bytes(8))
    found: list[int] = []
    cursor: bytes | None = None
    pieces = 0
    while pieces == 0 or cursor is not None:
        keys, values = np.empty(100, "u8"), np.empty(100, "u8")
        copied, cursor = mapcalls.lookup_batch(
            sends.descriptor, cursor, keys.ctypes.data, values.ctypes.data, 100
        )
        found += keys[:copied].tolist()
        pieces += 1
    assert sorted(found) == list(range(1000))
    assert pieces >= 10


@kernel
def test_a_descriptor_of_something_else() -> None:
    with pytest.raises(OSError, match="Invalid argument"), Path("/dev/null").open() as file:
        mapcalls.map_info(file.fileno())


@kernel
@pytest.mark.skipif(_KPROBES, reason="this kernel has kprobes")
def test_without_kprobes() -> None:
    with pytest.raises(ProbeError, match="this kernel has no kprobes"):
        kprobes.open_kprobe("tcp_sendmsg")


@kernel
@pytest.mark.skipif(not _KPROBES, reason="this kernel has no kprobes")
def test_a_kprobe_on_nothing() -> None:
    with pytest.raises(FileNotFoundError):
        os.close(kprobes.open_kprobe("no_such_function_anywhere"))
    os.close(kprobes.open_kprobe("tcp_sendmsg", at_return=True))


def test_an_unknown_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(ProbeError, match=r"this machine \(vax\).*x86_64 and aarch64"):
        syscalls.enable_statistics()


def test_types_are_found_by_name_and_kind() -> None:
    with KernelTypes() as types:
        assert types.find("tcp_sendmsg", KIND_FUNCTION)
        assert types.find("tcp_sendmsg", KIND_TYPEDEF) is None
        assert types.find("btf_trace_inet_sock_set_state", KIND_TYPEDEF)
        assert types.parameters("tcp_sendmsg") == ("sk", "msg", "size")
        with pytest.raises(ProbeError, match="no function no_such_function"):
            types.parameters("no_such_function")


def _mounts(path: Path, *lines: str) -> Path:
    file = path / "mountinfo"
    file.write_text("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" + "\n".join(lines) + "\n")
    return file


def test_the_root_of_the_cgroups(tmp_path: Path) -> None:
    part = "40 31 0:38 /docker/a /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw"
    whole = r"41 31 0:38 / /mnt/all\040of\040it rw shared:4 - cgroup2 cgroup2 rw"
    assert links.cgroup_root(_mounts(tmp_path, part, whole)) == Path("/mnt/all of it")
    with pytest.raises(ProbeError, match=r"only a part .* is mounted here, at /sys/fs/cgroup"):
        links.cgroup_root(_mounts(tmp_path, part))
    with pytest.raises(ProbeError, match="not mounted"):
        links.cgroup_root(_mounts(tmp_path))
