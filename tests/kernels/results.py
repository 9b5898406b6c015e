"""What a run of the suite says: one line per hook family, and how a person reads it."""

from __future__ import annotations

import json
import platform
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TextIO

MARK: Final = "@tailrace@"
LOST: Final = "samples lost"
_END: Final = "end"


class GarbledError(Exception):
    """The lines are not what a suite that ran to its end writes; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Where one event is taken from.

    Attributes:
        event: what is watched, in the project's words.
        hook: what it is attached to; "unavailable" if nothing.
        family: of the hook, "" if there is none.
        instructions: as the kernel's verifier counted them; 0 if this kernel does not say.
        reasons: why no better hook.
    """

    event: str
    hook: str
    family: str
    instructions: int
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class Check:
    """One number of one scene (peers.SCENES), as it is and as the probes have it.

    Attributes:
        scene: its name; "" for what concerns all.
        name: what is compared.
        expected: the truth.
        seen: what the windows say.
        slack: by how much they may differ, since so many samples are known to be lost.
    """

    scene: str
    name: str
    expected: int | str
    seen: int | str
    slack: int = 0

    @property
    def passed(self) -> bool:
        if isinstance(self.expected, int) and isinstance(self.seen, int):
            return abs(self.expected - self.seen) <= self.slack
        return self.expected == self.seen

    def __str__(self) -> str:
        return f"{self.scene or 'all'}: {self.name} is {self.seen}, not {self.expected}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One family on one kernel.

    Attributes:
        kernel: its release.
        family: as Observer was asked for it.
        absent: why this kernel does not have the family; "" if it does.
        error: why nothing could be compared; "" if it could.
        started_s: seconds until the observer was ready.
        notes: what the observer said of itself.
        hooks: where it takes each event from.
        checks: what was compared.
    """

    kernel: str
    family: str
    absent: str = ""
    error: str = ""
    started_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @classmethod
    def of(cls, family: str, **fields: Any) -> Result:
        return cls(kernel=platform.release(), family=family, **fields)

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]

    @property
    def lost(self) -> int:
        """Return how many samples the observer said it had lost."""
        return sum(int(check.seen) for check in self.checks if check.name == LOST)

    @property
    def state(self) -> str:
        """Return "pass", "absent" or "FAIL"; to have compared nothing is to fail."""
        if self.absent:
            return "absent"
        return "pass" if self.checks and not self.failed and not self.error else "FAIL"


def write_result(result: Result, to: TextIO) -> None:
    """Write one line; it carries a checksum, for it may pass a console that others write to."""
    _write(json.dumps(asdict(result)), to)


def write_end(to: TextIO) -> None:
    """Write the last line: without it, the suite did not run to its end."""
    _write(json.dumps(_END), to)


def _write(text: str, to: TextIO) -> None:
    to.write(f"{MARK} {zlib.crc32(text.encode()):08x} {text}\n")
    to.flush()


def read_results(lines: Iterable[str]) -> list[Result]:
    """Return the results among the lines of a console.

    Raises:
        GarbledError: a result was damaged on the way, or the suite did not come to its end.
    """
    found: list[Result] = []
    for line in lines:
        _, mark, rest = line.partition(MARK)
        if not mark:
            continue
        checksum, _, text = rest.strip().partition(" ")
        if f"{zlib.crc32(text.encode()):08x}" != checksum:
            raise GarbledError(f"a line of results was damaged on its way: {text[:100]}...")
        data = json.loads(text)
        if data == _END:
            return found
        data["hooks"] = [Hook(**hook) for hook in data["hooks"]]
        data["checks"] = [Check(**check) for check in data["checks"]]
        found.append(Result(**data))
    seen = ", ".join(result.family for result in found) or "nothing"
    raise GarbledError(f"the suite did not come to its end; done was: {seen}")


def passes(results: Sequence[Result]) -> bool:
    """Return whether a kernel passes: nothing failed, and what users get ("auto") was there."""
    states = {result.family: result.state for result in results}
    return states.get("auto") == "pass" and "FAIL" not in states.values()
