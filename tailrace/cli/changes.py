"""The feed of changes as a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alerts import words
from alerts.feed import Shown
from probes.window import UNITS
from tailrace.cli.output import emit, print_table

COLUMNS = (
    "schema", "id", "client", "server", "port", "transport", "signal", "direction", "onset",
    "seen", "ended", "before", "after", "unit", "nats",
)  # fmt: skip


def emit_changes(rows: Iterable[Shown], output: str) -> int:
    """Write the feed in the format that was asked for; return how many rows it had."""
    return emit(rows, output, to_json=Shown.to_json, table=_table, columns=COLUMNS)


def _table(rows: Sequence[Shown]) -> None:
    if not rows:
        return
    print_table(
        ("since (UTC)", "pair", "what changed", "nats", "lasted"),
        (
            (
                words.moment(row.onset).removesuffix(" UTC"),
                words.pair(row.pair),
                _change(row),
                f"{row.peak:.1f}",
                "still does" if row.ended is None else words.duration(row.ended - row.onset),
            )
            for row in rows
        ),
        right=[3],
        folded=[2],
    )


def _change(row: Shown) -> str:
    before, after = (_value(row, amount) for amount in (row.before, row.after))
    return f"{words.subject(row.signal)} {row.direction}: {before} -> {after}"


def _value(row: Shown, amount: float | None) -> str:
    if amount is None:
        return "unknown"
    return words.quantity(amount, UNITS.get(row.signal, ""), signal=row.signal)
