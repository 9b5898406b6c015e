"""`tailrace doctor`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace.cli import options
from tailrace.cli.output import print_table
from tailrace.errors import CHECK_FAILED, OK

if TYPE_CHECKING:
    from tailrace.check import Check

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
            "checks": [_public(check) for check in checks],
            "hooks": [dataclasses.asdict(check.hook) for check in checks if check.hook],
        }
        click.echo(json.dumps(public, ensure_ascii=False, indent=2))
    else:
        _say([check for check in checks if check.hook is None])
        hooks = [check for check in checks if check.hook is not None]
        if hooks:
            click.echo()
            _table(hooks)
    ctx.exit(CHECK_FAILED if failed else OK)


def _public(check: Check) -> dict[str, str]:
    """Return a check for programs; the hook table has a list of its own."""
    return {key: getattr(check, key) for key in ("name", "state", "detail", "remedy")}


def _say(checks: Sequence[Check]) -> None:
    width = max(len(check.name) for check in checks)
    colour = sys.stdout.isatty()
    for check in checks:
        label = f"{check.state:<4}"
        label = click.style(label, fg=_COLOURS[check.state]) if colour else label
        remedy = f" - {check.remedy}" if check.remedy else ""
        click.echo(f"{label}  {check.name:<{width}}  {check.detail}{remedy}")


def _table(checks: Sequence[Check]) -> None:
    """Write which hook tells of which event, and why no better one."""
    rows = []
    for check in checks:
        line = check.hook
        assert line is not None
        size = f"{line.instructions:,}" if line.instructions else "-"
        notes = [*line.reasons, *([check.remedy] if check.remedy else [])]
        # "iter" and "raw_tracepoint" are the kernel's words for what the family says
        hook = line.hook.replace("raw_tracepoint ", "").replace("iter ", "").replace("cgroup ", "")
        family = line.family or "none"
        rows.append((check.state, line.event, family, hook, size, "; ".join(notes)))
    headings = ["", "event", "family", "hook", "instructions", "not used, and why"]
    shown = len(headings) if any(row[5] for row in rows) else len(headings) - 1
    print_table(
        headings[:shown],
        (row[:shown] for row in rows),
        right=[4],
        folded=[3, 5],
        style=lambda row: "" if row[0] == "ok" else _COLOURS[row[0]],
    )
