"""`tailrace report` and `tailrace explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace.cli import options
from tailrace.cli.output import say

if TYPE_CHECKING:
    from tailrace.pairs import Published


@click.command(
    epilog=options.examples(
        "tailrace report --since 1h",
        "tailrace report --since 2d --server nginx.service --signal request_latency -o jsonl",
    )
)
@click.option("--since", type=options.MOMENT, default="1h", show_default=True, metavar="MOMENT",
              help="From when on: how long ago (10m, 1h, 2d), or a time (RFC 3339).")  # fmt: skip
@click.option("--until", type=options.MOMENT, metavar="MOMENT", help="Until when. [default: now]")
@click.option("--client", metavar="NAME", help="Only this client service.")
@click.option("--server", metavar="NAME", help="Only this server service.")
@click.option("--signal", metavar="NAME", help="Only this signal, e.g. request_latency.")
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
    output: str,
    state_dir: Path | None,
) -> None:
    """List what changed.

    Reads what the daemon stored, while it runs or after.
    """
    from alerts.store import Store  # noqa: PLC0415 - slow to import
    from tailrace.cli.findings import COLUMNS, emit_findings  # noqa: PLC0415

    directory = options.state_dir_of(state_dir)
    with Store.open(directory, read_only=True) as store:
        findings = store.findings(
            since=since, until=until, client=client, server=server, signal=signal
        )
    nothing = not emit_findings(findings, output, columns=COLUMNS)
    running = _running(directory)
    if nothing:
        say(f"nothing changed in that time; {_watched(running)}")
    if running is not None:
        condition = running.condition
        if not condition.full:
            say(f"the daemon is at {condition.cost_text()}: {condition.measure_text()}")
        if condition.lost:
            say(f"the daemon lost since its start: {condition.lost_text()}")


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
@click.argument("finding_id", metavar="ID")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table",
              show_default=True, help="Format on stdout.")  # fmt: skip
@options.state_dir_option
@options.ignores_config
def explain(finding_id: str, output: str, state_dir: Path | None) -> None:
    """Show one finding and the evidence for it; the start of its ID is enough."""
    from alerts.store import Store  # noqa: PLC0415 - slow to import
    from tailrace.cli.findings import print_finding  # noqa: PLC0415

    with Store.open(options.state_dir_of(state_dir), read_only=True) as store:
        finding = store.finding(finding_id)
    if output == "json":
        public = finding.to_json() | {"evidence": dict(finding.evidence)}
        click.echo(json.dumps(public, ensure_ascii=False, indent=2))
    else:
        print_finding(finding)
