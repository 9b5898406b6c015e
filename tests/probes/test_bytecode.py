"""What was compiled is used again, and only if nobody else can have written it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from probes import bytecode
from probes.bytecode import Bytecode, relocated
from probes.loader import load
from probes.mapcalls import MapInfo
from tests.support.loading import SOURCE, TRACEPOINT, TRACEPOINT_WAY, event, seen, talk

NAME = "a" * 64
CODE = Bytecode({"f": b"12345678", "g": b""}, {"m": MapInfo(1, 4, 8, 10, 1)}, b"GPL")


def _instruction(opcode: int, registers: int, immediate: int) -> bytes:
    return struct.pack("<BBhi", opcode, registers, 0, immediate)


def test_only_maps_get_another_number() -> None:
    def code(first: int, second: int) -> bytes:
        return b"".join(
            (
                _instruction(0x18, 0x11, first),
                _instruction(0, 0, 0),
                _instruction(0x18, 0x02, 7),  # a number of 64 bits, whose second half looks
                _instruction(0x18, 0x11, 7),  # like a map's
                _instruction(0xB7, 0x11, 7),
                _instruction(0x18, 0x13, second),
                _instruction(0, 0, 0),
            )
        )

    assert relocated(code(7, 9), {7: 0, 9: 1}.__getitem__) == code(0, 1)


def test_what_is_kept_is_read(tmp_path: Path) -> None:
    place = tmp_path / "new" / "directory"
    assert bytecode.read(place, NAME) is None
    bytecode.keep(place, NAME, CODE)
    assert bytecode.read(place, NAME) == CODE
    assert bytecode.read(place, "b" * 64) is None


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _change(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"GPL", b"MIT"))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _open_to_all(path: Path) -> None:
    path.chmod(0o646)


def _directory_open_to_group(path: Path) -> None:
    path.parent.chmod(0o770)


def _of_another(path: Path) -> None:
    os.chown(path, 12345, 12345)


def _a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [_truncate, _change, _empty, _open_to_all, _directory_open_to_group, _of_another, _a_link],
)
def test_what_is_spoiled_or_may_be_another_s_is_not_read(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    if spoil is _of_another and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    place = tmp_path / "cache"
    bytecode.keep(place, NAME, CODE)
    spoil(place / NAME)
    assert bytecode.read(place, NAME) is None


def test_the_longest_unused_are_forgotten(tmp_path: Path) -> None:
    names = [f"{i:064x}" for i in range(12)]
    for age, name in enumerate(names[:9]):
        bytecode.keep(tmp_path, name, CODE)
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    assert bytecode.read(tmp_path, names[1]) == CODE  # used now: young again
    for name in names[9:]:
        bytecode.keep(tmp_path, name, CODE)
    assert {path.name for path in tmp_path.iterdir()} == {names[1], *names[5:]}


def test_the_name_tells_sources_and_flags_apart() -> None:
    names = {
        bytecode.key(source, flags)
        for source in (b"a", b"ab")
        for flags in ([], ["-DA=1"], ["-DA=2"], ["-DA=1", "-DB"])
    }
    assert len(names) == 8
    assert bytecode.key(b"a", ["-DA=1"]) in names
    assert bytecode.key(b"a", ["-I/usr/include"]) == ""  # what is in there is not known


def test_systemd_names_the_directory() -> None:
    assert bytecode.directory({"CACHE_DIRECTORY": "/a/b:/c"}) == Path("/a/b")


@pytest.mark.kernel
def test_compiled_once_and_at_work_twice(tmp_path: Path) -> None:
    source = b'#warning "compiled"\n' + SOURCE
    events = [event("state", TRACEPOINT_WAY)]
    for compiles in (True, False):
        with load(source, cflags=["-DX=1"], events=events, cache=tmp_path) as loaded:
            assert ('"compiled"' in loaded.warnings) == compiles
            shapes = {name: each.shape for name, each in loaded.maps.items()}
            loaded.attach()
            talk(1)
            assert seen(loaded, TRACEPOINT) >= 6
        if compiles:
            first = shapes
    assert shapes == first
    with load(source, cflags=["-DX=2"], events=events, cache=tmp_path) as loaded:
        assert '"compiled"' in loaded.warnings


@pytest.mark.kernel
def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with load(SOURCE, cflags=[], events=[event("state", TRACEPOINT_WAY)], cache=path) as loaded:
        assert "compiled programs are not kept" in loaded.warnings
        assert loaded.chosen["state"] == TRACEPOINT_WAY
