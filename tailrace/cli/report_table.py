"""A report for a terminal: incidents first, each in full, then what changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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

    from detector.finding import Finding
    from tailrace.report.gather import Report

_IN_FULL: Final = 10
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
    finding_list.print_findings(report.findings, held=report.held, pictures=_pictures(report))


def _heading(report: Report) -> Text:
    from rich.text import Text  # noqa: PLC0415 - slow to import

    return Text.assemble((verdict(report), "bold"), (f"   {interval(report)}\n", "dim"))


def _print_incident(out: Console, incident: Incident, report: Report) -> None:
    from rich.padding import Padding  # noqa: PLC0415 - slow to import
    from rich.text import Text  # noqa: PLC0415

    out.print(_line(incident, report))
    before, after = _bars_of(incident, report)
    trigger = incident.trigger
    why = f": {incident.root.why}" if incident.root.why else ""
    lines = [
        ("root", f"{root(incident)}{why}"),
        ("trigger", "" if trigger is None else telling.trigger(trigger, incident.started)),
        ("impact", incident.impact),
        ("felt by", ", ".join(map(words.clean, incident.affected[:8]))),
        ("not told", incident.suppressed),
    ]
    for name, text in lines:
        if text:
            style = "bold" if name == "root" else ""
            out.print(
                Padding(
                    Text.assemble((f"{name:<9}", "dim"), (text, style)), (0, 0, 0, 4), expand=False
                )
            )
    if after:
        colour = SEVERITY_COLOURS[incident.severity]
        shown = Text.assemble(
            ("history  ", "dim"), (before, "green"), (after, colour),
            ("  a quarter of an hour before and after", "dim"),
        )  # fmt: skip
        out.print(Padding(shown, (0, 0, 0, 4), expand=False))
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
    if not sys.stdout.isatty() and not report.findings:
        return found
    shown: Sequence[Finding] = report.findings[-_PICTURES:]
    for finding in shown:
        before, after = bars(finding, report.past, until=report.until)
        if after:
            found[finding.id] = before, after
    return found
