"""One screen of `tailrace top`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from alerts import words
from alerts.incident import Incident
from alerts.severity import Severity, rank
from probes.window import Pair, is_rollup
from tailrace.draw import flags
from tailrace.pairs import Row
from tailrace.top.view import ORDERS, View, failures, latency, requests

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

COLOURS: Final[Mapping[Severity, str]] = {
    "critical": "bold red",
    "warning": "yellow",
    "info": "blue",
}
_INCIDENTS: Final = 4
_NUMBERS: Final = ("rate", "p50", "p99", "failed", "retrans", "odd")
_NONE: Final = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What there is to show.

    Attributes:
        rows: the current pairs.
        incidents: those that are not over, the worst first.
        problem: what is wrong with it (old, lost, not known), in words; "" for nothing.
        clock: time of day of the data, in words.
    """

    rows: Sequence[Row]
    incidents: Sequence[Incident]
    problem: str
    clock: str


def screen(content: Content, view: View, *, height: int) -> Group:
    """Return what fills a terminal of so many lines."""
    from rich.console import Group  # noqa: PLC0415 - slow to import
    from rich.text import Text  # noqa: PLC0415

    chosen = view.chosen(content.rows)
    head = heading(content, len(chosen), view)
    lines = [incident_line(each) for each in content.incidents[:_INCIDENTS]]
    hidden = len(content.incidents) - len(lines)
    if hidden > 0:
        lines.append(Text(f"and {hidden} more: tailrace incidents", style="dim"))
    room = max(1, height - len(lines) - 4)
    first = min(view.first, max(0, len(chosen) - room))
    parts: list[RenderableType] = [
        head, *lines,
        pair_table(chosen[first : first + room], content.incidents),
        _footer(view),
    ]  # fmt: skip
    return Group(*parts)


def page(height: int) -> int:
    """Return about how many rows of pairs are on a terminal of so many lines."""
    return max(1, height - 6)


def heading(content: Content, shown: int, view: View) -> Text:
    """Return the first line: when, how many pairs, and what is wrong with the data."""
    from rich.text import Text  # noqa: PLC0415 - slow to import

    every = len(content.rows)
    number = f"{every} pairs" if shown == every else f"{shown} of {every} pairs"
    number += f" with {view.text!r}" if view.text and not view.typing else ""
    line = Text.assemble((f"{content.clock}  ", "dim"), (f"{number} by {view.order}", "bold"))
    if not content.incidents and not content.problem:
        line.append("  no incident", style="green")
    if content.problem:
        line.append(f"  {content.problem}", style="yellow")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def incident_line(incident: Incident) -> Text:
    """Return an incident as one line: how bad, what, where from, since when."""
    from rich.text import Text  # noqa: PLC0415 - slow to import

    root = incident.root
    line = Text.assemble(
        (f"{incident.severity:<9}", COLOURS[incident.severity]),
        (incident.title, "bold"),
        f"; root {words.clean(root.service)} ({root.side}, {100 * root.score:.0f} %)",
        "" if incident.state == "firing" else f"; {incident.state}",
        (f"; since {words.moment(incident.started)[11:19]}  {incident.id[:8]}", "dim"),
    )
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def pair_table(rows: Sequence[Row], incidents: Sequence[Incident], *, wide: bool = True) -> Table:
    """Return rows as a table, those that an incident is about in its colour.

    Args:
        rows: in their order.
        incidents: that are not over.
        wide: whether to fill the line, with as many letters of a name as that leaves.
    """
    from rich.table import Table  # noqa: PLC0415 - slow to import
    from rich.text import Text  # noqa: PLC0415

    flagged = _flagged(incidents)
    table = Table(box=None, pad_edge=False, header_style="dim", expand=wide, padding=(0, 2, 0, 0))
    for name in ("client", "server"):
        table.add_column(name, overflow="ellipsis", no_wrap=True,
                         ratio=3 if wide else None, min_width=8)  # fmt: skip
    for name in _NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("flagged", no_wrap=True, overflow="ellipsis", ratio=2 if wide else None)
    for row in rows:
        severity, why = flagged.get(_pair(row), (None, ""))
        style = COLOURS[severity] if severity else ""
        table.add_row(*map(Text, cells(row)), Text(why, style=style), style=style)
    return table


def cells(row: Row) -> list[str]:
    """Return a pair's cells, all but what is flagged."""
    transport = "" if row["transport"] == "tcp" else f"/{row['transport']}"
    failed, retransmits, oddity = failures(row), row.get("retransmits"), row.get("oddity")
    return [
        words.clean(row["client"]),
        f"{words.clean(row['server'])}:{row['port']}{transport}",
        words.quantity(requests(row), "1/s"),
        *(_known(latency(row, quantile), "s") for quantile in ("p50", "p99")),
        _known(failed, "ratio"),
        _known(retransmits, "ratio"),
        _NONE if oddity is None else f"{oddity:.1f}",
    ]


def _known(value: float | None, unit: str) -> str:
    if value is None:
        return _NONE
    # No digits for what is not there: the eye goes to what is
    return "0" if value == 0.0 else words.quantity(value, unit)


def _pair(row: Row) -> Pair:
    return Pair(row["client"], row["server"], row["port"], row["transport"])


def _flagged(incidents: Sequence[Incident]) -> dict[Pair, tuple[Severity, str]]:
    """Return the worst of what is found of each pair, and what that is in a few words."""
    found: dict[Pair, tuple[Severity, str]] = {}
    for incident in incidents:
        for finding in incident.symptoms:
            if finding.ended is not None or is_rollup(finding.pair):
                continue
            severity = flags.severity(finding, incident)
            known = found.get(finding.pair)
            if known is None or rank(severity) < rank(known[0]):
                found[finding.pair] = severity, flags.label(finding)
    return found


def _footer(view: View) -> Text:
    from rich.text import Text  # noqa: PLC0415 - slow to import

    if view.typing:
        return Text.assemble(("filter: ", "bold"), view.text, ("▏", "bold"),
                             ("   Enter keeps it, Esc clears it", "dim"))  # fmt: skip
    line = Text("order: ", style="dim")
    for order in ORDERS:
        line.append(order[0], style="bold underline" if order == view.order else "bold")
        line.append(f"{order[1:]} ", style="" if order == view.order else "dim")
    line.append("  ↑↓ scroll  / filter  q quit", style="dim")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line
