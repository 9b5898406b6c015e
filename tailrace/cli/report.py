"""`tailrace report` and `tailrace explain`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tailrace.cli import options
from tailrace.cli.output import say

if TYPE_CHECKING:
    from tailrace.pairs import Published


@click.command(
    epilog=options.examples(
        "tailrace report --since 1h",
        "tailrace report --since 2d --server nginx.service --signal request_latency -o jsonl",
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
@options.output_option
@options.state_dir_option
@options.ignores_config
def report(
    *,
    since: float,
    until: float | None,
    client: str | None,
    server: str | None,
    signal: str | None,
    changes: bool,
    output: str,
    state_dir: Path | None,
) -> None:
    """List what changed.

    Reads what the daemon stored, while it runs or after.
    """
    from alerts.store import Store  # noqa: PLC0415 - slow to import
    from tailrace.cli.changes import emit_changes  # noqa: PLC0415
    from tailrace.cli.findings import COLUMNS, emit_findings  # noqa: PLC0415

    directory = options.state_dir_of(state_dir)
    asked: dict[str, Any] = {
        "since": since, "until": until, "client": client, "server": server, "signal": signal,
    }  # fmt: skip
    held: Mapping[str, str] = {}
    with Store.open(directory, read_only=True) as store:
        if changes:
            number = emit_changes(store.changes(**asked), output)
        else:
            findings, held = store.findings(**asked), store.held_back()
            number = emit_findings(findings, output, columns=COLUMNS, held=held)
            held = {finding.id: held[finding.id] for finding in findings if finding.id in held}
    running = _running(directory)
    if not number:
        say(f"nothing changed in that time; {_watched(running)}")
    for reason in sorted(set(held.values())):
        ids = [id_ for id_, why in held.items() if why == reason]
        say(f"{len(ids)} of these were not told, or in a digest at most: {reason}")
    if running is not None:
        _say_how_it_does(running)


def _say_how_it_does(running: Published) -> None:
    from tailrace import calibration  # noqa: PLC0415

    condition = running.condition
    if not condition.full:
        say(f"the daemon is at {condition.cost_text()}: {condition.measure_text()}")
    if condition.lost:
        say(f"the daemon lost since its start: {condition.lost_text()}")
    for each in running.calibration:
        say(calibration.text(each))


def _running(directory: Path) -> Published | None:
    import time  # noqa: PLC0415

    from tailrace import pairs, state  # noqa: PLC0415
    from tailrace.errors import TailraceError  # noqa: PLC0415

    try:
        return pairs.published_by(directory / state.PAIRS, now=time.time())
    except TailraceError:
        return None


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
