"""`tailrace alert`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import click

from tailrace.cli import options
from tailrace.cli.output import say
from tailrace.cli.route import route
from tailrace.errors import ConfigError


@click.group(
    epilog=options.examples(
        "tailrace alert test on-call",
        "tailrace alert route client=shop server=redis",
        "tailrace alert confirm 3f2a9c",
    )
)
def alert() -> None:
    """Try out receivers and routes of incidents; say which incidents were real."""


alert.add_command(route)


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


@alert.command(epilog=options.examples("tailrace alert confirm 3f2a9c"))
@click.argument("incident_id", metavar="ID")
@options.state_dir_option
@options.ignores_config
def confirm(incident_id: str, state_dir: Path | None) -> None:
    """Say that an incident was real: it then costs nothing of the budget of false alerts.

    ID is that of the incident or of a finding of it; its start is enough.
    """
    judged = _judge(incident_id, "confirmed", state_dir)
    say(f"confirmed, so it costs nothing of the budget: {judged}")


@alert.command(epilog=options.examples("tailrace alert dismiss 3f2a9c"))
@click.argument("incident_id", metavar="ID")
@options.state_dir_option
@options.ignores_config
def dismiss(incident_id: str, state_dir: Path | None) -> None:
    """Say that an incident was false: it counts as such in `tailrace doctor`, and in the budget.

    ID is that of the incident or of a finding of it; its start is enough.
    """
    judged = _judge(incident_id, "dismissed", state_dir)
    say(f"dismissed, so it counts as a false alert: {judged}")


def _judge(
    incident_id: str, verdict: Literal["confirmed", "dismissed"], state_dir: Path | None
) -> str:
    from alerts.ledger import give_verdict  # noqa: PLC0415 - slow to import

    directory = options.state_dir_of(state_dir)
    return give_verdict(directory, incident_id, verdict, now=time.time()).title
