"""The probes on this host and on other kernels: every family of hooks against known traffic."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.kernels.__main__ import VERSIONS, emulated, on_host
from tests.kernels.images import (
    Archive,
    Image,
    KernelsError,
    UnreachableError,
    cache_directory,
)
from tests.kernels.machine import boot
from tests.kernels.report import table
from tests.kernels.results import Result, passes

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_TRIED = VERSIONS if os.environ.get("TAILRACE_KERNELS") == "all" else ("6.1",)
"""Each takes minutes, so without being asked only the one of Debian 12."""


def _check(results: list[Result]) -> None:
    assert passes(results), "\n" + table({"": results})


def test_this_host() -> None:
    _check(on_host())


def _fetched(version: str) -> Image:
    try:
        return Archive(cache_directory()).image(version)
    except UnreachableError as error:
        pytest.skip(f"Linux {version} cannot be downloaded: {error}")


@pytest.mark.emulated
def test_a_machine_that_hangs_is_switched_off(tmp_path: Path) -> None:
    image, mark, log = _fetched(_TRIED[0]), f"hanging-{tmp_path.name}", tmp_path / "log"
    # long enough to be sure that it was up, and saying so
    hang = ["sh", "-c", f"echo {mark}; sleep 3600"]
    with pytest.raises(KernelsError, match="was not done after 60 s"):
        boot(image, hang, within_s=60, log=log, directory=tmp_path)
    assert mark in log.read_text()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert str(tmp_path).strip("/") not in process.read_text(errors="replace")


@pytest.mark.emulated
@pytest.mark.parametrize("version", _TRIED)
def test_debian(version: str) -> None:
    _fetched(version)
    results = emulated(Archive(cache_directory()), version)
    assert results[0].kernel.startswith(version + ".")
    _check(results)
