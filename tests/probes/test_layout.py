"""The C structs and their numpy mirrors, byte for byte."""

import ctypes as ct
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bpf import layout

pytestmark = pytest.mark.kernel

_ASK = """
import ctypes, json, os, sys
os.environ["BCC_KERNEL_SOURCE"] = sys.argv[1]
import bcc
from bpf import layout
from probes.programs import Capacity, _flags
from probes.offsets import read_offsets
module = bcc.BPF(text=layout.source(), cflags=_flags(read_offsets(), Capacity(groups=64)))
def places(kind):
    return {
        name: [getattr(kind, name).offset, getattr(kind, name).size]
        for name, *_ in getattr(kind, "_fields_", ())
    } | {"": [0, ctypes.sizeof(kind)]}
tables = {"groups": "Leaf", "group_slots": "Key", "listeners": "Leaf", "latencies": "Leaf",
          "answers": "Leaf"}
found = {name: places(getattr(module[name.encode()], part)) for name, part in tables.items()}
found["at"] = places(module[b"listeners"].Key)
found["latency_key"] = places(module[b"latencies"].Key)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def compiled() -> dict[str, dict[str, tuple[int, int]]]:
    # in a process of its own: LLVM stays where it has been
    answer = subprocess.run(
        [sys.executable, "-c", _ASK, str(layout.HEADERS)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, dict[str, tuple[int, int]]] = json.loads(answer.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("table", "mirror"),
    [
        ("groups", layout.GROUP),
        ("group_slots", layout.GROUP_KEY),
        ("listeners", layout.LISTENER),
        ("latencies", layout.LATENCY),
        ("answers", layout.ANSWER),
        ("latency_key", layout.LATENCY_KEY),
        ("at", layout.ENDPOINT),
    ],
)
def test_a_mirror_is_true(
    compiled: dict[str, dict[str, tuple[int, int]]], table: str, mirror: np.dtype[Any]
) -> None:
    places = {name: tuple(place) for name, place in compiled[table].items()}
    assert places.pop("") == (0, mirror.itemsize)
    assert mirror.fields is not None
    assert places == {
        name: (offset, kind.itemsize) for name, (kind, offset, *_) in mirror.fields.items()
    }


def _enumerators(text: str) -> list[str]:
    body = re.sub(r"/\*.*?\*/", "", re.search(r"enum counter \{(.*?)\}", text, re.S)[1], flags=re.S)  # type: ignore[index]
    return [name.strip() for name in body.split(",")]


def _numbered(text: str, prefix: str) -> list[str]:
    found = re.findall(rf"^#define {prefix}_(\w+) (\d+)", text, re.M)
    return [name.lower() for name, _ in sorted(found, key=lambda each: int(each[1]))]


def test_the_lists_are_in_step() -> None:
    text = (Path(layout.HERE) / "records.h").read_text()
    counters = _enumerators(text)
    assert counters.pop() == "COUNTERS"
    assert [name.lower() for name in counters] == list(layout.COUNTERS)
    assert _numbered(text, "LATENCY") == list(layout.LATENCIES)
    assert _numbered(text, "LOST") == [*layout.LOST_KINDS, "kinds"]
    assert ct.sizeof(ct.c_uint64) * len(layout.COUNTERS) == layout.GROUP["counts"].itemsize
