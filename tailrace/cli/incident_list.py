"""Incidents as a list and one in full, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from alerts import words
from alerts.incident import Incident
from tailrace.cli.output import emit, print_table

if TYPE_CHECKING:
    from alerts.grouping import Change

COLUMNS = (
    "schema", "event", "id", "state", "severity", "suppressed", "started", "detected", "changed",
    "resolved", "ended_as", "part_of", "root", "root_side", "root_score", "affected", "trigger",
    "impact", "title", "summary", "findings", "picture",
)  # fmt: skip
SEVERITY_COLOURS = {"critical": "bold red", "warning": "yellow", "info": "blue"}


def emit_changes(changes: Iterable[Change], output: str) -> str:
    """Write what is told of incidents, as it is told; return how many there were, in words."""
    events: dict[str, str] = {}
    ids: set[str] = set()

    def seen() -> Iterator[Change]:
        for change in changes:
            ids.add(change.incident.id)
            yield change

    def public(change: Change) -> dict[str, Any]:
        form = {"schema": "", "event": change.event or ""} | change.incident.to_json()
        return _flat(form) if output == "csv" else form

    def table(rows: Sequence[Change]) -> None:
        events.update({row.incident.id: row.event or "" for row in rows})
        _table([row.incident for row in rows], [row.event or "" for row in rows])

    number = emit(seen(), output, to_json=public, table=table, columns=COLUMNS)
    return f"{number} changes of {len(ids)} incidents"


def emit_incidents(incidents: Iterable[Incident], output: str) -> int:
    """Write incidents in the format that was asked for; return how many."""
    return emit(
        incidents,
        output,
        to_json=lambda i: _flat(i.to_json()) if output == "csv" else i.to_json(),
        table=lambda rows: _table(rows, []),
        columns=[column for column in COLUMNS if column != "event"],
    )


def _flat(form: dict[str, Any]) -> dict[str, Any]:
    """Return a public form for CSV: the first root only, and no symptoms."""
    root, trigger = form["roots"][0], form["trigger"]
    flat = {key: form[key] for key in form if key not in ("roots", "symptoms", "trigger")}
    return flat | {
        "root": root["service"],
        "root_side": root["side"],
        "root_score": root["score"],
        "trigger": "" if trigger is None else f"{trigger['kind']} of {trigger['service']}",
    }


def _table(incidents: Sequence[Incident], events: Sequence[str]) -> None:
    if not incidents:
        return
    print_table(
        ("id", "since (UTC)", "severity", "what changed", "probable root", "state"),
        (
            (
                i.id[:8],
                words.moment(i.started).removesuffix(" UTC"),
                i.severity,
                i.title,
                root(i),
                _state(i, events[number] if events else ""),
            )
            for number, i in enumerate(incidents)
        ),
        folded=[3, 4, 5],
        style=lambda row: SEVERITY_COLOURS[row[2]] if row[-1].startswith("firing") else "",
    )


def root(incident: Incident) -> str:
    """Return where the cause probably lies, e.g. "postgres (server, 81 %)"."""
    first = incident.root
    return f"{words.clean(first.service)} ({first.side}, {100 * first.score:.0f} %)"


def _state(incident: Incident, event: str) -> str:
    state = event or incident.state
    if incident.ended_as in ("adopted", "merged"):
        state = (
            "new normal" if incident.ended_as == "adopted" else f"part of {incident.part_of[:8]}"
        )
    return f"{state}: {incident.suppressed}" if incident.suppressed else state


def print_incident(incident: Incident, *, verdict: str = "") -> None:
    """Write one incident with all that is known about it.

    Args:
        incident: which.
        verdict: what a user said of it, in words; "" for nothing.
    """
    from alerts import telling  # noqa: PLC0415 - slow to import

    resolved = "" if incident.resolved is None else words.moment(incident.resolved)
    trigger = incident.trigger
    lines = [
        ("incident", incident.id),
        ("state", _state(incident, "")),
        ("severity", incident.severity),
        ("began", words.moment(incident.started)),
        ("detected", words.moment(incident.detected)),
        ("ended", resolved),
        ("impact", incident.impact),
        ("affected", ", ".join(map(words.clean, incident.affected))),
        ("trigger", "" if trigger is None else telling.trigger(trigger, incident.started)),
        ("picture", incident.picture),
        ("you said", verdict),
    ]
    click.echo(incident.title)
    click.echo()
    for name, text in lines:
        if text:
            click.echo(f"  {name:<10} {text}")
    click.echo("\nProbable roots")
    for each in incident.roots:
        where = f"{words.clean(each.service)} ({each.side})"
        click.echo(f"  {100 * each.score:3.0f} %  {where}: {each.why}")
    click.echo("\nFindings, those of the root first")
    for finding in incident.symptoms:
        click.echo(f"  {finding.id[:8]}  {words.moment(finding.onset)}  {words.what(finding)}")
    hidden = len(incident.findings) - len(incident.symptoms)
    if hidden > 0:
        click.echo(f"  and {hidden} more")
