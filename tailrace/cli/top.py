"""`tailrace top`."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tailrace.cli import options
from tailrace.errors import TailraceError

if TYPE_CHECKING:
    from alerts.incident import Incident
    from tailrace.top.table import Content
    from tailrace.top.view import View

_ORDERS = ("requests", "errors", "latency", "odd", "name")
_REMEDY = "start `tailrace run`, or look for yourself with `tailrace pairs --live`"
_EVERY_S: Final = 1.0
_INCIDENTS_EVERY_S: Final = 2.0
_BACK_S: Final = 7 * 86_400.0
"""An incident that is not over may have begun long ago."""


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
    if once or not (sys.stdout.isatty() and sys.stdin.isatty()):
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
        self._last: Content | None = None

    def content(self) -> Content:
        """Return what there is now; the last that there was, with a problem, once there is none."""
        from alerts import words  # noqa: PLC0415 - slow to import
        from tailrace import pairs  # noqa: PLC0415
        from tailrace.top.table import Content  # noqa: PLC0415

        now = time.time()
        problem, found = "no daemon is running", None
        try:
            found = pairs.published_by(self._file, now=now)
        except TailraceError as error:
            problem = error.what
        if found is None:
            before = self._last
            return Content(rows=() if before is None else before.rows, incidents=self._open(now),
                           problem=problem, clock=words.moment(now)[11:])  # fmt: skip
        lost = found.condition.lost_text()
        self._last = Content(
            rows=found.rows,
            incidents=self._open(now),
            problem=f"lost: {lost}" if lost else "",
            clock=words.moment(now)[11:],
        )
        return self._last

    def _open(self, now: float) -> list[Incident]:
        """Return the incidents that are not over, the worst first."""
        if now < self._incidents_due:
            return self._incidents
        from alerts.errors import StoreError  # noqa: PLC0415 - slow to import
        from alerts.severity import rank  # noqa: PLC0415
        from alerts.store import Store  # noqa: PLC0415

        self._incidents_due = now + _INCIDENTS_EVERY_S
        # A daemon that has just started has no store yet
        with contextlib.suppress(StoreError), Store.open(self._directory, read_only=True) as store:
            going_on = [i for i in store.incidents(since=now - _BACK_S) if i.state != "resolved"]
            self._incidents = sorted(going_on, key=lambda i: (rank(i.severity), -i.started, i.id))
        return self._incidents


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
