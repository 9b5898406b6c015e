"""The C structs and their numpy mirrors, byte for byte."""

import ctypes as ct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bpf import layout
from probes.programs import Programs

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    loaded = Programs()
    yield loaded
    loaded.close()


def _places(structure: Any) -> dict[str, tuple[int, int]]:
    return {
        name: (getattr(structure, name).offset, getattr(structure, name).size)
        for name, *_ in structure._fields_
        if not name.startswith("__pad")
    }


@pytest.mark.parametrize(
    ("table", "part", "mirror"),
    [
        ("connections", "Leaf", layout.CONNECTION),
        ("closed", "Leaf", layout.CONNECTION),
        ("listeners", "Key", layout.ENDPOINT),
        ("listeners", "Leaf", layout.LISTENER),
        ("latencies", "Key", layout.LATENCY_KEY),
    ],
)
def test_a_mirror_is_true(programs: Programs, table: str, part: str, mirror: np.dtype[Any]) -> None:
    compiled = getattr(programs._bpf[table.encode()], part)
    assert ct.sizeof(compiled) == mirror.itemsize
    assert mirror.fields is not None
    assert _places(compiled) == {
        name: (offset, kind.itemsize) for name, (kind, offset, *_) in mirror.fields.items()
    }
