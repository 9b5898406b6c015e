"""Errors that a person is expected to meet: what is wrong, where, and what to do about it."""

from __future__ import annotations

from pathlib import Path

OK, RUNTIME, USAGE, CHECK_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes of the command line."""


class TailraceError(Exception):
    """An expected failure; the command line prints it without a traceback.

    Attributes:
        what: what is wrong, in one line.
        where: the file, line or key it is about; "" when `what` says it all.
        remedy: what to do about it; "" when there is nothing to do.
        exit_code: what the process ends with.
    """

    exit_code = RUNTIME

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)


class UsageError(TailraceError):
    """The command line asks for something that makes no sense."""

    exit_code = USAGE


class ConfigError(TailraceError):
    """The configuration file is wrong."""

    exit_code = USAGE


class RecordingError(TailraceError):
    """A recording cannot be read or written."""


def at_line(path: Path | str, line: int | None, unit: str = "line") -> str:
    """Return the place in a file as errors show it: `file:12`, or `file, row 12`."""
    if line is None:
        return str(path)
    return f"{path}:{line}" if unit == "line" else f"{path}, {unit} {line}"
