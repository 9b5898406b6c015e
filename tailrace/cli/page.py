"""`tailrace page`."""

from __future__ import annotations

from pathlib import Path

import click

from tailrace.cli import options
from tailrace.cli.output import say


@click.command(epilog=options.examples("tailrace page", "xdg-open $(sudo tailrace page)"))
@options.state_dir_option
@options.config_option
def page(state_dir: Path | None, config_path: Path | None) -> None:
    """Print the address of the live page that `tailrace run` serves.

    Whoever has it may look, and silence incidents; with a password_file in the configuration, the
    page asks for that password instead.
    """
    from tailrace import config  # noqa: PLC0415 - slow to import
    from tailrace.config_page import address_of  # noqa: PLC0415
    from tailrace.errors import UsageError  # noqa: PLC0415
    from tailrace.page.beside import url_of  # noqa: PLC0415
    from tailrace.page.keys import FILE, Keys  # noqa: PLC0415

    settings = config.load(config_path).page
    if not settings.enabled:
        raise UsageError("there is no live page", where="[page]", remedy="set enabled = true")
    directory = options.state_dir_of(state_dir)
    token = None
    if settings.password_file is None:
        if not (directory / FILE).exists():
            raise UsageError(
                "no live page was ever served from it",
                where=str(directory),
                remedy="start `tailrace run`, or name its state directory with --state-dir",
            )
        token = Keys.of(directory).token
    host, port = address_of(settings.listen)
    click.echo(url_of(host, port, token))
    if token is None:
        say("it asks for the password in [page] password_file")
