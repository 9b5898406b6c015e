"""`tailrace top`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tailrace.cli import options
from tailrace.errors import TailraceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.incident import Incident, State
    from tailrace.pairs import Row
    from tailrace.top.table import Content
    from tailrace.top.view import View

_ORDERS = ("requests", "errors", "latency", "odd", "name")
_REMEDY = "start `tailrace run`, or look for yourself with `tailrace pairs --live`"
_EVERY_S: Final = 1.0
_INCIDENTS_EVERY_S: Final = 2.0
_GOING_ON: Final[tuple[State, ...]] = ("pending", "firing", "recovering")


@click.command(
    epilog=options.examples(
        "tailrace top",
        "tailrace top --sort errors --filter postgres",
        "tailrace top --once --sort latency | head",
    )
)
@click.option("--sort", "order", type=click.Choice(_ORDERS), default="requests",
              show_default=True, help="Which pairs come first.")  # fmt: skip
@click.option("--filter", "text", metavar="TEXT", default="",
              help="Only pairs in whose names this occurs.")  # fmt: skip
@click.option("--once", is_flag=True, help="Print it once, as a plain table; so is it off a "
                                           "terminal.")  # fmt: skip
@options.state_dir_option
@options.ignores_config
def top(*, order: str, text: str, once: bool, state_dir: Path | None) -> None:
    """Watch the pairs that a running daemon sees, incidents on top.

    Keys: r, e, l, o, n change the order, / filters, arrows scroll, q quits.
    """
    from tailrace.top.view import ORDERS, View  # noqa: PLC0415 - slow to import

    view = View(order=next(each for each in ORDERS if each == order), text=text)
    source = _Source(options.state_dir_of(state_dir))
    content = source.content()
    if content.problem and not content.rows:
        raise TailraceError(content.problem, remedy=_REMEDY)
    live = sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("TERM") != "dumb"
    if once or not live:
        _print(content, view)
    else:
        _live(source, view)


class _Source:
    """What there is to show, read when it is old enough to have changed."""

    def __init__(self, directory: Path) -> None:
        from tailrace import state  # noqa: PLC0415 - slow to import

        self._directory = directory
        self._file = directory / state.PAIRS
        self._incidents: list[Incident] = []
        self._incidents_due = 0.0
        self._store_problem = ""
        self._rows: Sequence[Row] = ()

    def content(self) -> Content:
        """Return what there is now; the last that there was, with a problem, once there is none."""
        from alerts import words  # noqa: PLC0415 - slow to import
        from tailrace import pairs  # noqa: PLC0415
        from tailrace.top.table import Content  # noqa: PLC0415

        now = time.time()
        incidents = self._open(now)
        problem, found = "no daemon is running", None
        try:
            found = pairs.published_by(self._file, now=now)
        except TailraceError as error:
            problem = error.what
        if found is not None:
            self._rows = found.rows
            lost = found.condition.lost_text()
            problem = f"lost: {lost}" if lost else ""
        return Content(
            rows=self._rows,
            incidents=incidents,
            problem="; ".join(filter(None, (problem, self._store_problem if self._rows else ""))),
            clock=words.moment(now)[11:],
        )

    def _open(self, now: float) -> list[Incident]:
        """Return the incidents that are not over, the worst first."""
        if now < self._incidents_due:
            return self._incidents
        from alerts.errors import StoreError  # noqa: PLC0415 - slow to import
        from alerts.severity import rank  # noqa: PLC0415
        from alerts.store import Store  # noqa: PLC0415

        self._incidents_due = now + _INCIDENTS_EVERY_S
        try:
            with Store.open(self._directory, read_only=True) as store:
                going_on = [i for state in _GOING_ON for i in store.incidents(state=state)]
            self._store_problem = ""
        except StoreError as error:
            # Not one of them is known then, which must not look like none
            going_on, self._store_problem = [], f"incidents cannot be read: {_first_line(error)}"
        self._incidents = sorted(going_on, key=lambda i: (rank(i.severity), -i.started, i.id))
        return self._incidents


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _print(content: Content, view: View) -> None:
    from tailrace.cli.output import console  # noqa: PLC0415 - slow to import
    from tailrace.top import table  # noqa: PLC0415

    out = console()
    chosen = view.chosen(content.rows)
    out.print(table.heading(content, len(chosen), view))
    for incident in content.incidents:
        out.print(table.incident_line(incident))
    out.print(table.pair_table(chosen, content.incidents, wide=False))


def _live(source: _Source, view: View) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.live import Live  # noqa: PLC0415

    from tailrace.top import table, terminal  # noqa: PLC0415

    console = Console(highlight=False)
    with (
        terminal.unbuffered(sys.stdin.fileno()) as keyboard,
        Live(console=console, screen=True, auto_refresh=False) as live,
        contextlib.suppress(EOFError),
    ):
        due = 0.0
        content = source.content()
        while not view.done:
            if time.monotonic() >= due:
                content = source.content()
                due = time.monotonic() + _EVERY_S
            live.update(table.screen(content, view, height=console.height), refresh=True)
            for key in keyboard.pressed(due - time.monotonic()):
                view = view.pressed(
                    key, page=table.page(console.height), rows=len(view.chosen(content.rows))
                )
