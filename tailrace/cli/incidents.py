"""`tailrace incidents`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace.cli import options
from tailrace.cli.output import say

if TYPE_CHECKING:
    from alerts.incident import State

_STATES = ("pending", "firing", "recovering", "resolved")


@click.command(
    epilog=options.examples(
        "tailrace incidents",
        "tailrace incidents --since 2d --state firing",
        "tailrace incidents --since 1w -o jsonl",
    )
)
@click.option("--since", type=options.MOMENT, default="1d", show_default=True, metavar="MOMENT",
              help="From when on: how long ago (10m, 1h, 2d), or a time (RFC 3339).")  # fmt: skip
@click.option("--until", type=options.MOMENT, metavar="MOMENT", help="Until when. [default: now]")
@click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@options.output_option
@options.state_dir_option
@options.ignores_config
def incidents(
    *,
    since: float,
    until: float | None,
    state: State | None,
    output: str,
    state_dir: Path | None,
) -> None:
    """List incidents: what people were told, where its root is, and what was not told and why.

    `tailrace explain ID` shows one in full. Reads what the daemon stored, while it runs or after.
    """
    from alerts.store import Store  # noqa: PLC0415 - slow to import
    from tailrace.cli.incident_list import emit_incidents  # noqa: PLC0415

    with Store.open(options.state_dir_of(state_dir), read_only=True) as store:
        found = store.incidents(since=since, until=until, state=state)
    if not emit_incidents(found, output):
        say("no incidents in that time")
