"""Results as a table for the terminal, and as docs/kernels.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.kernels.results import Result

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "kernels.md"
_WRITTEN: Final = "<!-- From here on written by scripts/kernels --write. -->\n"
_HEADS: Final = ("kernel", "hooks", "result", "checks", "lost", "started")


def _row(result: Result) -> tuple[str, ...]:
    if not result.checks:
        return (result.kernel, result.family, result.state, "", "", "")
    passed = len(result.checks) - len(result.failed)
    return (
        result.kernel,
        result.family,
        result.state,
        f"{passed} of {len(result.checks)}",
        str(result.lost),
        f"{result.started_s:.1f} s",
    )


def table(kernels: Mapping[str, Sequence[Result] | str]) -> str:
    """Return one line per kernel and family, then what failed and why.

    Args:
        kernels: for each version asked for, its results, or why there are none.
    """
    rows: list[tuple[str, ...]] = [_HEADS]
    remarks: list[str] = []
    for version, results in kernels.items():
        if isinstance(results, str):
            rows.append((version, "", "FAIL", "", "", ""))
            remarks.append(f"{version}: {results}")
            continue
        for result in results:
            rows.append(_row(result))
            remarks += [f"{result.kernel}, {result.family}: {line}" for line in _remarks(result)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *remarks]).rstrip() + "\n"


def _remarks(result: Result) -> Iterator[str]:
    if result.absent:
        yield f"not in this kernel ({result.absent})"
    if result.error:
        yield result.error.strip()
    yield from result.notes
    yield from map(str, result.failed)


def document(kernels: Iterable[Sequence[Result]], introduction: str) -> str:
    """Return docs/kernels.md: its hand-written part kept, the rest made from the results.

    Args:
        kernels: the results of each kernel.
        introduction: the file as it is now.

    Raises:
        ValueError: the file has no line that says where the written part begins.
    """
    written_by_hand, mark, _ = introduction.partition(_WRITTEN)
    if not mark:
        raise ValueError(f"{DOCUMENT} has no line {_WRITTEN.strip()!r}: put it back")
    kernels = list(kernels)
    lines = [written_by_hand + mark, "## Results", ""]
    lines += _markdown(
        ("kernel", "hooks", "result", "checks passed", "samples lost"),
        [_row(result)[:5] for results in kernels for result in results],
    )
    remarks = [
        f"- {result.kernel}, {result.family}: {' '.join(line.split())}"
        for results in kernels
        for result in results
        for line in _remarks(result)
    ]
    lines += ["", *remarks] if remarks else []
    for results in kernels:
        lines += ["", f"## Hooks on {results[0].kernel}", "", *_hooks(results)]
    return "\n".join(lines) + "\n"


def _hooks(results: Sequence[Result]) -> Iterator[str]:
    """Yield a table: events down, families across, in each cell the hook and its instructions."""
    shown = [result for result in results if result.hooks]
    events = dict.fromkeys(hook.event for result in shown for hook in result.hooks)
    rows: list[tuple[str, ...]] = []
    reasons: dict[str, None] = {}
    for event in events:
        row = [event]
        for result in shown:
            cells = []
            for hook in result.hooks:
                if hook.event != event:
                    continue
                count = f", {hook.instructions}" if hook.instructions else ""
                cells.append(f"{hook.hook}{count}")
                if hook.reasons:
                    reasons[f"- {result.family}, {event}: {'; '.join(hook.reasons)}"] = None
            row.append("<br>".join(cells) or "-")
        rows.append(tuple(row))
    yield from _markdown(("event", *(result.family for result in shown)), rows)
    if reasons:
        yield ""
        yield from reasons


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
