"""`tailrace report` and `tailrace explain`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace.cli import options
from tailrace.cli.output import into, say
from tailrace.errors import CHECK_FAILED, OK, UsageError

if TYPE_CHECKING:
    from alerts.severity import Severity
    from tailrace.pairs import Published
    from tailrace.report.gather import Asked, Report

_FORMATS = ("table", "html", "markdown", "json", "jsonl", "csv")
_NAMED = 5
"""So many incidents are named when `--fail-on` fails."""


@click.command(
    epilog=options.examples(
        "tailrace report --since 1h",
        "tailrace report --since 1d -o html -f report.html",
        "tailrace report --since 2d --server nginx.service --signal request_latency -o jsonl",
        "tailrace report --since 10m -o markdown --fail-on warning",
        "tailrace report --changes",
    )
)
@click.option("--since", type=options.MOMENT, default="1h", show_default=True, metavar="MOMENT",
              help="From when on: how long ago (10m, 1h, 2d), or a time (RFC 3339).")  # fmt: skip
@click.option("--until", type=options.MOMENT, metavar="MOMENT", help="Until when. [default: now]")
@click.option("--client", metavar="NAME", help="Only this client service.")
@click.option("--server", metavar="NAME", help="Only this server service.")
@click.option("--signal", metavar="NAME", help="Only this signal, e.g. request_latency.")
@click.option("--changes", is_flag=True,
              help="List the feed of changes of the last day instead: significant, but not enough "
                   "for a finding; some of it is chance.")  # fmt: skip
@click.option("-o", "--output", type=click.Choice(_FORMATS), default="table", show_default=True,
              help="Format. html is one file with the map, the incidents and their curves; "
                   "json, jsonl and csv have the findings.")  # fmt: skip
@click.option("-f", "--output-file", "file", type=options.NEW_FILE, metavar="FILE",
              help="Write it here. [default: stdout]")  # fmt: skip
@click.option("--fail-on", type=click.Choice(["warning", "critical"]),
              help="Exit with 3 if there is a confirmed incident of this severity or worse in "
                   "that time, whether anybody was told of it or not.")  # fmt: skip
@options.state_dir_option
@options.ignores_config
@click.pass_context
def report(
    ctx: click.Context,
    *,
    since: float,
    until: float | None,
    client: str | None,
    server: str | None,
    signal: str | None,
    changes: bool,
    output: str,
    file: Path | None,
    fail_on: Severity | None,
    state_dir: Path | None,
) -> None:
    """Show what changed: incidents first, then every change.

    Reads what the daemon stored, while it runs or after.
    """
    from tailrace.report.gather import Asked, gathered  # noqa: PLC0415 - slow to import

    directory = options.state_dir_of(state_dir)
    asked = Asked(since=since, until=until, client=client, server=server, signal=signal)
    if until is not None and until <= since:
        raise UsageError("the interval is empty", where="--until", remedy="give one after --since")
    if changes:
        _report_changes(directory, asked, output, file, fail_on)
        return
    if output == "html" and file is None and sys.stdout.isatty():
        raise UsageError("HTML is for a browser", where="-o html", remedy="add -f report.html")
    with gathered(directory, asked) as found:
        with into(file):
            _write(found, output)
        _say_of(found)
        if fail_on is not None:
            ctx.exit(_judge(found, fail_on))


def _report_changes(
    directory: Path, asked: Asked, output: str, file: Path | None, fail_on: Severity | None
) -> None:
    """Write the feed of changes, which has no incidents."""
    import time  # noqa: PLC0415

    from alerts.store import Store  # noqa: PLC0415 - slow to import
    from tailrace.cli.changes import emit_changes  # noqa: PLC0415
    from tailrace.report.gather import running_in  # noqa: PLC0415

    if output in ("html", "markdown"):
        raise UsageError(f"the feed of changes is not written as {output}", where="--changes",
                         remedy="use -o table, json, jsonl or csv")  # fmt: skip
    if fail_on is not None:
        raise UsageError("--changes has no incidents to judge", where="--fail-on")
    with Store.open(directory, read_only=True) as store, into(file):
        number = emit_changes(store.changes(**asked.query()), output)
    running = running_in(directory, now=time.time())
    if not number:
        say(f"nothing changed in that time; {_watched(running)}")
    if running is not None:
        _say_how_it_does(running)


def _write(found: Report, output: str) -> None:
    if output == "html":
        from tailrace.report import html  # noqa: PLC0415 - slow to import

        click.echo(html.page(found), nl=False)
    elif output == "markdown":
        from tailrace.report import markdown  # noqa: PLC0415

        click.echo(markdown.page(found), nl=False)
    elif output == "table":
        from tailrace.cli.report_table import print_report  # noqa: PLC0415

        print_report(found)
    else:
        from tailrace.cli.findings import COLUMNS, emit_findings  # noqa: PLC0415

        emit_findings(found.findings, output, columns=COLUMNS, held=found.held)


def _say_of(found: Report) -> None:
    """Say what is not in the list itself."""
    if not found.findings:
        say(f"nothing changed in that time; {_watched(found.running)}")
    for reason in sorted(set(found.held.values())):
        number = sum(why == reason for why in found.held.values())
        say(f"{number} of these were not told, or in a digest at most: {reason}")
    if found.past.problem:
        say(f"without history: {found.past.problem}")
    if found.running is not None:
        _say_how_it_does(found.running)


def _judge(found: Report, severity: Severity) -> int:
    """Return the exit code that `--fail-on` asks for, and say why."""
    failing = found.at_least(severity)
    for incident in failing[:_NAMED]:
        say(f"{incident.severity}: {incident.title} ({incident.id[:8]})")
    if len(failing) > _NAMED:
        say(f"and {len(failing) - _NAMED} more")
    if failing:
        say(f"failed: {len(failing)} incidents are {severity} or worse")
        return CHECK_FAILED
    pending = sum(each.state == "pending" for each in found.incidents)
    if pending:
        say(f"passed; {pending} incidents are not confirmed yet")
    return OK


def _say_how_it_does(running: Published) -> None:
    from tailrace import calibration  # noqa: PLC0415

    condition = running.condition
    if not condition.full:
        say(f"the daemon is at {condition.cost_text()}: {condition.measure_text()}")
    if condition.lost:
        say(f"the daemon lost since its start: {condition.lost_text()}")
    for each in running.calibration:
        say(calibration.text(each))


def _watched(running: Published | None) -> str:
    """Return what is being watched, for a report that has nothing to say."""
    if running is None:
        return "no daemon is running: start `tailrace run`"
    return f"{len(running.rows)} service pairs are being watched: see `tailrace pairs`"


@click.command(epilog=options.examples("tailrace explain 3f2a9c"))
@click.argument("id_", metavar="ID")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table",
              show_default=True, help="Format on stdout.")  # fmt: skip
@options.state_dir_option
@options.ignores_config
def explain(id_: str, output: str, state_dir: Path | None) -> None:
    """Show one incident, or one finding and the evidence for it; the start of its ID is enough."""
    from alerts.store import Store  # noqa: PLC0415 - slow to import
    from tailrace.cli.findings import VERDICTS, print_finding, public_form  # noqa: PLC0415
    from tailrace.cli.incident_list import print_incident  # noqa: PLC0415

    with Store.open(options.state_dir_of(state_dir), read_only=True) as store:
        incident = store.incident(id_)
        if incident is None:
            finding = store.finding(id_)
            held = store.held_back().get(finding.id, "")
            part_of = store.incident_of(finding.id)
            verdict = store.verdict(part_of)
        else:
            verdict = store.verdict(incident.id)
    if incident is not None:
        if output == "json":
            public = incident.to_json() | ({"verdict": verdict} if verdict else {})
            click.echo(json.dumps(public, ensure_ascii=False, indent=2))
        else:
            print_incident(incident, verdict=VERDICTS.get(verdict, ""))
        return
    if output == "json":
        public = public_form(finding, held) | {"evidence": dict(finding.evidence)}
        if part_of:
            public["incident"] = part_of
        if verdict:
            public["verdict"] = verdict
        click.echo(json.dumps(public, ensure_ascii=False, indent=2))
    else:
        print_finding(finding, incident=part_of, held=held, verdict=verdict)
