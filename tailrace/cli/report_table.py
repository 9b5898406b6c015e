"""A report for a terminal: incidents first, each in full, then what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from alerts import telling, words
from alerts.incident import Incident
from tailrace.cli import findings as finding_list
from tailrace.cli.incident_list import SEVERITY_COLOURS, root
from tailrace.cli.output import console
from tailrace.report.pictures import bars
from tailrace.report.say import interval, still, verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from tailrace.report.gather import Report

_IN_FULL: Final = 10
_NARROW: Final = 8
"""Bars before and after an onset, in a table that has other columns as well."""
_PICTURES: Final = 60
"""So many findings have bars: each is one question to the history."""


def print_report(report: Report) -> None:
    """Write a report for people; of nothing, nothing."""
    if report.incidents:
        out = console()
        out.print(_heading(report))
        for incident in report.incidents[:_IN_FULL]:
            _print_incident(out, incident, report)
        rest = report.incidents[_IN_FULL:]
        for incident in rest:
            out.print(_line(incident, report))
        if rest:
            out.print()
    finding_list.print_findings(
        report.findings,
        held=report.held,
        pictures=_pictures(report),
        today=words.moment(report.until)[:10],
    )


def _heading(report: Report) -> Text:
    from rich.text import Text  # noqa: PLC0415 - slow to import

    return Text.assemble((verdict(report), "bold"), (f"   {interval(report)}\n", "dim"))


def _print_incident(out: Console, incident: Incident, report: Report) -> None:
    from rich.padding import Padding  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    out.print(_line(incident, report))
    trigger = incident.trigger
    why = f": {incident.root.why}" if incident.root.why else ""
    before, after = _bars_of(incident, report)
    history = Text.assemble((before, "green"), (after, SEVERITY_COLOURS[incident.severity]),
                            ("  a quarter of an hour before and after", "dim"))  # fmt: skip
    lines: list[tuple[str, str | Text]] = [
        ("root", Text.assemble((root(incident), "bold"), why)),
        ("trigger", "" if trigger is None else telling.trigger(trigger, incident.started)),
        ("impact", incident.impact),
        ("felt by", ", ".join(map(words.clean, incident.affected[:8]))),
        ("not told", incident.suppressed),
        ("history", history if after else ""),
    ]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in lines:
        if text:
            grid.add_row(name, text if isinstance(text, Text) else Text(text))
    out.print(Padding(grid, (0, 0, 0, 4), expand=False))
    out.print()


def _line(incident: Incident, report: Report) -> Text:
    from rich.text import Text  # noqa: PLC0415 - slow to import

    since = words.moment(incident.started).removesuffix(" UTC")
    colour = SEVERITY_COLOURS[incident.severity] if incident.state != "resolved" else "dim"
    return Text.assemble(
        (f"{incident.severity.upper():<8}", colour), "  ", (incident.title, "bold"), "\n    ",
        (f"{incident.id[:8]}  since {since}, {still(incident, report.until)}", "dim"),
    )  # fmt: skip


def _bars_of(incident: Incident, report: Report) -> tuple[str, str]:
    if not incident.symptoms:
        return "", ""
    first = report.finding(incident.symptoms[0])
    return bars(first, report.past, until=report.until)


def _pictures(report: Report) -> dict[str, tuple[str, str]]:
    """Return bars before and after by finding; none of any when the history has none."""
    found: dict[str, tuple[str, str]] = {}
    for finding in report.findings[-_PICTURES:]:
        before, after = bars(finding, report.past, until=report.until, width=_NARROW)
        if after:
            found[finding.id] = before, after
    return found
