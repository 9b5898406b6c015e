"""The probes on this host and on other kernels: every family of hooks against known traffic."""

from __future__ import annotations

import pytest

from tests.kernels.__main__ import VERSIONS, emulated, on_host
from tests.kernels.images import Archive, UnreachableError, cache_directory
from tests.kernels.report import table
from tests.kernels.results import Result, passes

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def _check(results: list[Result]) -> None:
    assert passes(results), "\n" + table({"": results})


def test_this_host() -> None:
    _check(on_host())


@pytest.mark.emulated
@pytest.mark.parametrize("version", VERSIONS)
def test_debian(version: str) -> None:
    try:
        results = emulated(Archive(cache_directory()), version)
    except UnreachableError as error:
        pytest.skip(f"Linux {version} cannot be downloaded: {error}")
    assert results[0].kernel.startswith(version + ".")
    _check(results)
