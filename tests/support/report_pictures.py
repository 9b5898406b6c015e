"""Pictures of the report and of `tailrace top`, of a shop whose redis was just deployed.

`scripts/picture report` makes docs/pictures/report.svg, top.svg and report-html.png.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from rich.console import Console

from tailrace import state
from tailrace.cli import report_table
from tailrace.report import html
from tailrace.report.gather import Asked, Report, gathered
from tailrace.top import table
from tailrace.top.view import View
from tests.support.slack_page import draw
from tests.support.stored_shop import build

END = dt.datetime(2026, 11, 27, 18, 30, tzinfo=dt.UTC).timestamp()
SINCE_S = 3600.0
COLUMNS, LINES = 124, 24


def terminal(title: str, file: Path, show: Callable[[Console], None]) -> None:
    """Write as an SVG what a terminal shows."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True,
                      color_system="standard", highlight=False)  # fmt: skip
    show(console)
    console.save_svg(str(file), title=title)


def report_on(report: Report) -> Callable[[Console], None]:
    """Return what shows a report on a terminal."""

    def show(console: Console) -> None:
        with (
            mock.patch("tailrace.cli.output.console", return_value=console),
            mock.patch("tailrace.cli.report_table.console", return_value=console),
        ):
            report_table.print_report(report)

    return show


def screen_of(report: Report, directory: Path) -> table.Content:
    """Return what `tailrace top` shows at the end of a report."""
    rows = json.loads((directory / state.PAIRS).read_bytes())["pairs"]
    going_on = [each for each in report.incidents if each.state != "resolved"]
    return table.Content(rows=rows, incidents=going_on, problem="", clock="18:30:00 UTC")


def main(directory: Path) -> None:
    """Draw all of them into a directory."""
    with tempfile.TemporaryDirectory() as kept:
        build(Path(kept), end=END)
        with gathered(Path(kept), Asked(since=END - SINCE_S, until=END)) as found:
            report = dataclasses.replace(found, host="shop-1")
            terminal("tailrace report", directory / "report.svg", report_on(report))
            content = screen_of(report, Path(kept))
            screen = table.screen(content, View(), height=LINES)
            terminal("tailrace top", directory / "top.svg", lambda out: out.print(screen))
            page = html.page(report)
    draw(page, directory / "report-html.png", width=1228, height=1390, scale=1, colours=200)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
