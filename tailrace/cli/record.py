"""`tailrace record`."""

from __future__ import annotations

from pathlib import Path

import click

from tailrace.cli import options
from tailrace.cli.output import say


@click.command(epilog=options.examples("sudo tailrace record morning.csv --duration 30s"))
@click.argument("file", type=options.NEW_FILE)
@click.option("--duration", "duration_s", type=options.DURATION, metavar="TIME",
              help="Stop after this long. [default: until Ctrl-C]")  # fmt: skip
@options.window_option
@options.config_option
@options.ignores_state_dir
@click.pass_context
def record(
    ctx: click.Context,
    *,
    file: Path,
    duration_s: float | None,
    window_s: float | None,
    config_path: Path | None,
) -> None:
    """Write every window of this host's traffic to FILE (.csv, .csv.gz or .parquet).

    A CSV file holds every finished window even after a crash; a Parquet file can be read once
    the recording has ended.
    """
    from tailrace import config, observe, recording  # noqa: PLC0415 - slow to import
    from tailrace.condition import Condition  # noqa: PLC0415

    settings = config.load(config_path)
    window_s = window_s or settings.probes.window
    limit = observe.windows_within(duration_s, window_s)
    windows = rows = 0
    with (
        recording.create(file) as recorder,
        observe.observer(
            window_s,
            hooks=settings.probes.hooks,
            overhead_budget=settings.probes.overhead_budget,
            naming=settings.naming_settings(),
            netns=settings.probes.netns,
        ) as observer,
    ):
        for note in observer.notes:
            say(note)
        with observe.stopped_by_signals(observer.stop) as interrupt:
            for window in observer.windows():
                recorder.write(window)
                windows += 1
                rows += len(window)
                if windows == limit:
                    break
        lost = Condition.of(observer).lost_text()
        if lost:
            say(f"lost: {lost}")
    say(f"{windows} windows, {rows} rows in {file}")
    ctx.exit(interrupt.exit_code)
