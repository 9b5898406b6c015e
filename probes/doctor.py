"""Can this kernel be watched? Each step of starting the probes, tried for real."""

from __future__ import annotations

import time
from collections.abc import Iterator

from probes.checks import Check
from probes.errors import ProbeError
from probes.hookreport import hook_checks
from probes.offsets import FIELDS, read_offsets
from probes.programs import Programs
from probes.selfcheck import check

_REPORT = "please report it with the output of `tailrace doctor -o json`"


def reads_calls() -> bool:
    """Return whether DNS can be read here: from the buffers of system calls.

    Raises:
        ProbeError: not even the rest of what is needed is there.
    """
    return "DNS" not in read_offsets().missing


def checks(hooks: str = "auto") -> list[Check]:
    """Try every step of starting the probes, until one fails; nothing stays loaded.

    Args:
        hooks: "auto", or the family of hooks that may be used.

    Raises:
        ValueError: no such family.
    """
    return list(_steps(hooks))


def _steps(hooks: str) -> Iterator[Check]:
    try:
        read_offsets()
    except ProbeError as error:
        yield Check(name="kernel fields", state="fail", detail=str(error), remedy=_REPORT)
        return
    yield Check(
        name="kernel fields", state="ok", detail=f"all {len(FIELDS)} found in the kernel's BTF"
    )
    began = time.monotonic()
    try:
        programs = Programs(hooks=hooks, strict=False)
    except ProbeError as error:
        yield Check(
            name="programs",
            state="fail",
            detail=str(error),
            remedy="if the lines above are fine, " + _REPORT,
        )
        return
    try:
        took_s = time.monotonic() - began
        yield Check(name="programs", state="ok", detail=f"compiled and loaded in {took_s:.1f} s")
        yield from _attached(programs)
    finally:
        programs.close()


def _attached(programs: Programs) -> Iterator[Check]:
    try:
        programs.attach()
    except ProbeError as error:
        yield Check(
            name="hooks",
            state="fail",
            detail=str(error),
            remedy=_REPORT,
        )
        return
    table = list(hook_checks(programs.loaded))
    yield from table
    if any(step.state == "fail" for step in table):
        return
    try:
        found = check(programs)
    except ProbeError as error:
        yield Check(name="self-check", state="fail", detail=str(error), remedy=_REPORT)
        return
    if found.notes:
        for note in found.notes:
            yield Check(name="self-check", state="warn", detail=note, remedy=_REPORT)
    else:
        yield Check(
            name="self-check",
            state="ok",
            detail="a connection of our own is seen as TCP_INFO reports it",
        )
    try:
        programs.seed()
    except ProbeError as error:
        yield Check(
            name="open connections",
            state="warn",
            detail=f"they are met when they next move data: {error}",
            remedy="nothing to do: they are found by and by",
        )
        return
    yield Check(name="open connections", state="ok", detail="found, with owner and direction")
