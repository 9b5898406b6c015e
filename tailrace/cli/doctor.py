"""`tailrace doctor`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

import click

from tailrace.cli import options
from tailrace.errors import CHECK_FAILED, OK

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(epilog=options.examples("sudo tailrace doctor"))
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table",
              show_default=True, help="Format on stdout.")  # fmt: skip
@options.state_dir_option
@options.config_option
@click.pass_context
def doctor(
    ctx: click.Context, *, output: str, state_dir: Path | None, config_path: Path | None
) -> None:
    """Check that this machine has what `tailrace run` takes; exit 3 when something is missing."""
    from tailrace.doctor import examine  # noqa: PLC0415 - slow to import

    checks = list(examine(options.state_dir_of(state_dir), config_path, now=time.time()))
    failed = any(check.state == "fail" for check in checks)
    if output == "json":
        public = {
            "schema": "tailrace.doctor/1",
            "ok": not failed,
            "checks": [dataclasses.asdict(check) for check in checks],
        }
        click.echo(json.dumps(public, ensure_ascii=False, indent=2))
    else:
        width = max(len(check.name) for check in checks)
        colour = sys.stdout.isatty()
        for check in checks:
            label = f"{check.state:<4}"
            label = click.style(label, fg=_COLOURS[check.state]) if colour else label
            remedy = f" - {check.remedy}" if check.remedy else ""
            click.echo(f"{label}  {check.name:<{width}}  {check.detail}{remedy}")
    ctx.exit(CHECK_FAILED if failed else OK)
