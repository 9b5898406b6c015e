"""Findings as a list and one in full, for people."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from alerts import words
from detector.finding import Finding
from tailrace.cli.output import emit, print_table

if TYPE_CHECKING:
    from rich.text import Text

COLUMNS = (
    "schema", "id", "client", "server", "port", "transport", "signal", "direction", "onset",
    "detected", "before", "after", "ratio", "unit", "significance", "cause", "side", "state",
    "ended",
)  # fmt: skip
VERDICTS = {"confirmed": "it was real", "dismissed": "it was a false alert"}
_COLOURS = {"firing": "red", "resolved": "green", "adopted": "yellow"}


def public_form(finding: Finding, held: str) -> dict[str, Any]:
    """Return a finding's public form, with the reason why it was held back if it was."""
    return finding.to_json() | ({"held_back": held} if held else {})


def emit_findings(
    items: Iterable[Finding],
    output: str,
    *,
    columns: Sequence[str],
    held: Mapping[str, str] | None = None,
) -> int:
    """Write findings in the format that was asked for; return how many.

    Args:
        items: the findings.
        output: the format.
        columns: of CSV.
        held: why findings were not told, by id.
    """
    reasons = held or {}
    return emit(
        items,
        output,
        to_json=lambda finding: public_form(finding, reasons.get(finding.id, "")),
        table=functools.partial(print_findings, held=reasons),
        columns=columns,
    )


def print_findings(
    findings: Sequence[Finding],
    *,
    held: Mapping[str, str],
    pictures: Mapping[str, tuple[str, str]] | None = None,
    today: str = "",
) -> None:
    """Write findings as a table; of none, nothing.

    Args:
        findings: in the order of their rows.
        held: why findings were not told, by id.
        pictures: by id, bars of before and after the onset.
        today: the day (UTC) whose times are shown without it, if all are of it.
    """
    from rich.text import Text  # noqa: PLC0415 - slow to import

    if not findings:
        return
    drawn = pictures or {}
    moments = [words.moment(f.onset).removesuffix(" UTC") for f in findings]
    if all(moment.startswith(f"{today} ") for moment in moments):
        moments = [moment[11:] for moment in moments]

    def row(f: Finding, moment: str) -> list[str | Text]:
        colour = _COLOURS[f.state]
        before, after = drawn.get(f.id, ("", ""))
        state = f"{f.state}, held back" if f.id in held else f.state
        return [
            f.id[:8],
            moment,
            words.pair(f.pair),
            change(f),
            *([Text.assemble((before, "green"), (after, colour))] if drawn else []),
            Text(state, style=colour),
        ]

    headings = ["id", "since (UTC)", "pair", "what changed", "state"]
    headings[4:4] = ["before, after"] if drawn else []
    print_table(headings, map(row, findings, moments), folded=[2, 3, len(headings) - 1])


def change(finding: Finding) -> str:
    """Return what changed without the pair's name, e.g. "requests up 3.0x (340 -> 1,020 req/s)"."""
    if finding.direction == "new":
        return "new service pair"
    before, after = words.value(finding, finding.before), words.value(finding, finding.after)
    if finding.direction == "gone":
        return f"silent (was {before})" if finding.before else "silent"
    why = "".join(f", {text}" for text in (words.cause(finding), words.side(finding)) if text)
    return f"{words.subject(finding.signal)} {finding.direction}: {before} -> {after}{why}"


def print_finding(
    finding: Finding, *, incident: str = "", held: str = "", verdict: str = ""
) -> None:
    """Write one finding with all that is known about it.

    Args:
        finding: which.
        incident: id of the one that it belongs to; "" for none.
        held: why receivers were not told of it; "" when they were.
        verdict: what a user said of its incident.
    """
    ending = words.ending(finding)
    lines = [
        ("finding", finding.id),
        ("state", f"{finding.state}, {ending}" if ending else finding.state),
        ("began", words.moment(finding.onset)),
        ("detected", f"{words.moment(finding.detected)}, "
                     f"{words.duration(finding.detected - finding.onset)} later"),
        ("signal", finding.signal),
        ("before", words.value(finding, finding.before)),
        ("after", words.value(finding, finding.after)),
        ("certainty", words.certainty(finding.significance)),
        ("cause", words.cause(finding)),
        ("where", words.side(finding)),
        ("incident", incident),
        ("held back", held),
        ("you said", VERDICTS.get(verdict, "")),
    ]  # fmt: skip
    click.echo(words.what(finding))
    click.echo()
    for name, text in lines:
        if text:
            click.echo(f"  {name:<10} {text}")
    if finding.evidence:
        click.echo("\nEvidence")
        width = max(len(name) for name in finding.evidence)
        for name, value in finding.evidence.items():
            text = value if isinstance(value, str) else f"{value:.6g}"
            click.echo(f"  {words.clean(name):<{width}}  {text}")
