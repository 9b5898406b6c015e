"""`tailrace silence`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace.cli import options
from tailrace.cli.output import emit, print_table, say
from tailrace.errors import UsageError

if TYPE_CHECKING:
    from alerts.silences import Silence

_COLUMNS = ("schema", "id", "state", "matchers", "starts", "ends", "author", "comment", "created")
_COLOURS = {"active": "yellow", "pending": "", "expired": "dim"}


@click.group(
    epilog=options.examples(
        'tailrace silence add service=redis --for 2h --comment "moving it"',
        "tailrace silence list",
        "tailrace silence end 3f2a9c",
    )
)
def silence() -> None:
    """Hear nothing of certain incidents for a while; they stay in the report."""


@silence.command(
    epilog=options.examples(
        'tailrace silence add service=redis --for 2h --comment "moving it"',
        'tailrace silence add "client=~cron.*" severity!=critical --for 8h --comment "backfill"',
    )
)
@click.argument("matchers", nargs=-1, required=True, metavar="MATCHER...")
@click.option("--for", "length_s", type=options.DURATION, required=True, metavar="TIME",
              help="How long (90s, 10m, 2h, 3d), at most 30d.")  # fmt: skip
@click.option("--from", "starts", type=options.LATER, metavar="MOMENT",
              help="From when on: a time (RFC 3339), or in how long (10m, 2h). "
                   "[default: now]")  # fmt: skip
@click.option("--comment", required=True, metavar="TEXT", help="Why; the report shows it.")
@click.option("--author", metavar="NAME", help="Who wants it. [default: who you are]")
@options.state_dir_option
@options.ignores_config
def add(
    *,
    matchers: Sequence[str],
    length_s: float,
    starts: float | None,
    comment: str,
    author: str | None,
    state_dir: Path | None,
) -> None:
    """Silence the incidents that meet every MATCHER; print the silence's id.

    A MATCHER is LABEL=VALUE, LABEL!=VALUE, or with a regular expression for the whole value
    LABEL=~PATTERN, LABEL!~PATTERN. The labels are service (where the cause may lie), root (where
    it probably does), side, severity, affected, trigger; and of a finding client, server, port,
    transport, signal, direction, cause. A running daemon heeds it within seconds.
    """
    from alerts import silences  # noqa: PLC0415 - slow to import
    from alerts.matchers import parse_all  # noqa: PLC0415

    now = time.time()
    begins = now if starts is None else starts
    try:
        made = silences.make(
            parse_all(matchers),
            starts=begins,
            ends=begins + length_s,
            comment=comment,
            author=_user() if author is None else author,
            now=now,
        )
    except ValueError as error:
        raise UsageError(
            f"no silence: {error}", remedy="correct it; `tailrace silence add --help` has more"
        ) from None
    silences.add(options.state_dir_of(state_dir), made)
    click.echo(made.id)
    say(f"{_what(made, now)}; `tailrace silence end {made.id}` ends it")


@silence.command(
    "list",
    epilog=options.examples("tailrace silence list", "tailrace silence list --expired -o json"),
)
@click.option("--expired", is_flag=True, help="Those that are over as well.")
@options.output_option
@options.state_dir_option
@options.ignores_config
def list_(*, expired: bool, output: str, state_dir: Path | None) -> None:
    """List silences."""
    from alerts import silences  # noqa: PLC0415 - slow to import

    now = time.time()
    listed = silences.stored(options.state_dir_of(state_dir), after=None if expired else now)

    def table(rows: Sequence[Silence]) -> None:
        _table(rows, now=now)

    number = emit(
        listed, output, to_json=lambda each: each.to_json(now), table=table, columns=_COLUMNS
    )
    if not number:
        say("nothing was ever silenced" if expired else "nothing is silenced")


@silence.command(epilog=options.examples("tailrace silence end 3f2a9c"))
@click.argument("silence_id", metavar="ID")
@options.state_dir_option
@options.ignores_config
def end(silence_id: str, state_dir: Path | None) -> None:
    """End a silence now; the start of its ID is enough. What still fires is told then."""
    from alerts import silences  # noqa: PLC0415 - slow to import

    ended = silences.end(options.state_dir_of(state_dir), silence_id, now=time.time())
    say(f"ended: {' '.join(map(str, ended.matchers))} ({ended.comment})")


def _user() -> str:
    """Return who asks, behind sudo too."""
    import getpass  # noqa: PLC0415 - only needed here

    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _what(made: Silence, now: float) -> str:
    from alerts import words  # noqa: PLC0415 - slow to import

    what = " ".join(map(str, made.matchers))
    begins = f"from {words.moment(made.starts)} " if made.state(now) == "pending" else ""
    return f"silenced {begins}until {words.moment(made.ends)}: {what}"


def _table(rows: Sequence[Silence], *, now: float) -> None:
    from alerts import words  # noqa: PLC0415 - slow to import

    if not rows:
        return
    print_table(
        ("id", "state", "matchers", "from (UTC)", "until (UTC)", "by", "comment"),
        (
            (
                each.id[:8],
                each.state(now),
                " ".join(map(str, each.matchers)),
                words.moment(each.starts).removesuffix(" UTC"),
                words.moment(each.ends).removesuffix(" UTC"),
                each.author,
                each.comment,
            )
            for each in rows
        ),
        folded=[2, 6],
        style=lambda row: _COLOURS[row[1]],
    )
