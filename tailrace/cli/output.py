"""Lists on stdout: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tailrace.errors import TailraceError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_T = TypeVar("_T")


def emit(
    items: Iterable[_T],
    output: str,
    *,
    to_json: Callable[[_T], Mapping[str, Any]],
    table: Callable[[Sequence[_T]], None],
    columns: Sequence[str] = (),
) -> int:
    """Write a list in the format that was asked for; return how many items it had.

    Args:
        items: what to list; JSON lines are written as they come.
        output: "table", "json" (one array), "jsonl" (one object per line) or "csv".
        to_json: an item's public form.
        table: writes the items as a table.
        columns: the first columns of CSV; all others follow as they come.
    """
    if output == "jsonl":
        number = 0
        for item in items:
            number += 1
            sys.stdout.write(json.dumps(to_json(item), ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()
        return number
    every = list(items)
    if output == "json":
        public = [to_json(item) for item in every]
        click.echo(json.dumps(public, ensure_ascii=False, allow_nan=False, indent=2))
    elif output == "csv":
        _csv([_flat(to_json(item)) for item in every], columns)
    else:
        table(every)
    return len(every)


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    names = dict.fromkeys(columns)
    for row in rows:
        names |= dict.fromkeys(row)
    writer = csv.DictWriter(sys.stdout, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _flat(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"a": {"b": 1}}` as `{"a_b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in item.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}_{inner}": v for inner, v in value.items()}
        elif isinstance(value, list):
            flat[key] = " ".join(map(str, value))
        else:
            flat[key] = value
    return flat


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Iterable[int] = (),
    folded: Iterable[int] = (),
    style: Callable[[Sequence[Any]], str] = lambda _: "",
) -> None:
    """Write rows as a table, as wide as the terminal, or as they need off a terminal.

    Args:
        headings: one per column.
        rows: cells as plain text, or with colours of their own.
        right: columns to align right.
        folded: columns whose cells may take several lines; the others keep theirs whole.
        style: a row's colour.
    """
    from rich import box  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        header_style="bold",
        padding=(0, 0, 0, 1),
    )
    aligned, breakable = set(right), set(folded)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number in aligned else "left",
                         overflow="fold", no_wrap=number not in breakable)  # fmt: skip
    for row in rows:
        # Text: a service's name is never markup
        cells = (cell if isinstance(cell, Text) else Text(cell) for cell in row)
        table.add_row(*cells, style=style(row))
    console().print(table)


def console() -> Console:
    """Return what writes to stdout: as wide as the terminal, or without limit and plain off one."""
    from rich.console import Console  # noqa: PLC0415 - slow to import

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=100_000, no_color=True)


@contextlib.contextmanager
def into(file: Path | None) -> Iterator[None]:
    """Have what is written to stdout in a file, which is replaced as a whole; None: stdout.

    Raises:
        TailraceError: it cannot be written; what was there before stays.
    """
    if file is None:
        yield
        return
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as opened, contextlib.redirect_stdout(opened):
            yield
        temporary.replace(file)
    except OSError as error:
        raise TailraceError(f"cannot write it: {error.strerror}", where=str(file)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def say(text: str) -> None:
    """Say something on stderr."""
    click.echo(text, err=True)
