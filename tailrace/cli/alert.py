"""`tailrace alert`."""

from __future__ import annotations

from pathlib import Path

import click

from tailrace.cli import options
from tailrace.cli.output import say
from tailrace.errors import ConfigError


@click.group(epilog=options.examples("tailrace alert test on-call"))
def alert() -> None:
    """Try out receivers of alerts."""


@alert.command(epilog=options.examples("tailrace alert test on-call --config tailrace.toml"))
@click.argument("receiver")
@options.config_option
@options.ignores_state_dir
def test(receiver: str, config_path: Path | None) -> None:
    """Send one message, marked as a test, to RECEIVER of the configuration."""
    from tailrace import config  # noqa: PLC0415 - slow to import

    loaded = config.load(config_path)
    settings = {each.name: each for each in loaded.receiver_settings()}
    if receiver not in settings:
        known = ", ".join(settings) or "none is configured"
        raise ConfigError(
            f"no receiver is named `{receiver}`",
            where=str(config.find(config_path) or "no configuration file"),
            remedy=f"name one of those that are configured: {known}",
        )
    config.check_files(loaded, only=receiver)
    from alerts.trial import send_test  # noqa: PLC0415 - HTTP clients are slow to import

    result = send_test(settings[receiver])
    say(f"{result.receiver} has it: message {result.message_id}, in {result.took_s:.2f} s")
