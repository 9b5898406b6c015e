"""`tailrace pairs`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tailrace.cli import options
from tailrace.cli.output import emit, print_table, say
from tailrace.durations import duration_text
from tailrace.errors import TailraceError

if TYPE_CHECKING:
    from tailrace.pairs import Row

_KEY = ("client", "server", "port", "transport")
_TABLE = (
    "requests", "request_latency", "rtt", "connections", "connect_errors", "retransmits",
    "bytes_sent", "bytes_received",
)  # fmt: skip
_HEADINGS = {
    "request_latency": "latency",
    "connect_errors": "failed",
    "retransmits": "retrans",
    "bytes_sent": "sent",
    "bytes_received": "received",
}


@click.command(
    epilog=options.examples(
        "tailrace pairs",
        "tailrace pairs --sort odd",
        "sudo tailrace pairs --live --duration 10s -o json",
    )
)
@click.option("--live", is_flag=True, help="Watch this host now, whether a daemon runs or not.")
@click.option("--duration", "duration_s", type=options.DURATION, default="5s", show_default=True,
              metavar="TIME", help="How long it watches itself.")  # fmt: skip
@click.option("--sort", "order", type=click.Choice(["name", "odd"]), default="name",
              show_default=True,
              help="`odd`: first what is least like its habits and unlike others.")  # fmt: skip
@click.option("--dot", is_flag=True, help="Write the service graph for Graphviz.")
@options.window_option
@options.output_option
@options.state_dir_option
@options.config_option
def pairs(
    *,
    live: bool,
    order: str,
    dot: bool,
    duration_s: float,
    window_s: float | None,
    output: str,
    state_dir: Path | None,
    config_path: Path | None,
) -> None:
    """List every current service pair with its signals.

    Rates are per second, ratios are shares, latencies are p50, p90 and p99 in seconds, over the
    daemon's last ten windows. Without a daemon, this command watches the host itself.
    """
    from tailrace import pairs as table  # noqa: PLC0415 - slow to import
    from tailrace import state  # noqa: PLC0415

    rows, folded = None, ""
    if not live:
        found = table.published_by(state.directory(state_dir) / state.PAIRS, now=time.time())
        if found is not None:
            rows, folded = found.rows, found.condition.folded_text()
    if rows is None:
        if not live:
            say(f"no daemon is running: watching this host for {duration_text(duration_s)}")
        rows, folded = _observed(duration_s, window_s, config_path)
    if order == "odd":
        rows = _by_oddity(rows)
    if dot:
        from tailrace.graph import dot_of  # noqa: PLC0415

        click.echo(dot_of(rows))
    elif not emit(
        rows,
        output,
        to_json=lambda row: row,
        table=_odd_table if order == "odd" else _table,
        columns=_KEY,
    ):
        say("no service pair at the moment")
    if folded:
        say(f"{folded}; [probes] max_pairs says how many have rows")


def _observed(
    duration_s: float, window_s: float | None, config_path: Path | None
) -> tuple[list[Row], str]:
    from tailrace import config, observe  # noqa: PLC0415
    from tailrace.condition import Condition  # noqa: PLC0415
    from tailrace.pairs import PairTable  # noqa: PLC0415

    settings = config.load(config_path)
    window_s = window_s or settings.probes.window
    limit = observe.windows_within(duration_s, window_s) or 1
    with observe.observer(
        window_s,
        hooks=settings.probes.hooks,
        overhead_budget=None,
        naming=settings.naming_settings(),
        netns=settings.probes.netns,
    ) as observer:
        for note in observer.notes:
            say(note)
        table = PairTable(windows=limit, services=lambda: observer.services, asked=observer.asked)
        with observe.stopped_by_signals(observer.stop) as interrupt:
            for number, window in enumerate(observer.windows(), start=1):
                table.add(window)
                if number >= limit:
                    break
        folded = Condition.of(observer).folded_text()
    if interrupt.exit_code:
        raise KeyboardInterrupt
    if interrupt.number is not None:
        raise TailraceError("stopped before the time was over")
    return table.rows(), folded


def _by_oddity(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, the oddest first, and last those of which nothing is known yet."""
    if rows and not any("oddity" in row for row in rows):
        say("what is odd is known once a daemon has seen 30 windows of a pair")
    return sorted(rows, key=lambda row: -row.get("oddity", -1.0))


def _odd_table(rows: Sequence[Row]) -> None:
    _table(rows, odd=True)
    if any("oddity" in row for row in rows):
        say(
            "odd: distance from what pairs do now, in deviations; and what the pair itself has most"
        )


def _odd_cell(row: Row) -> str:
    """Return how odd a pair is and its largest deviation, e.g. `8.3 latency +9.1`."""
    if "oddity" not in row:
        return "-"
    name, most = max(row["deviation"].items(), key=lambda item: abs(item[1]))
    return f"{row['oddity']:.1f}" + (f" {name} {most:+.1f}" if abs(most) >= 1.0 else "")


def _table(rows: Sequence[Row], *, odd: bool = False) -> None:
    if not rows:
        return
    used = [name for name in _TABLE if any(name in row for row in rows)]
    headings = ["client", "server", *(_HEADINGS.get(name, name) for name in used)]
    headings[2:2] = ["odd"] if odd else []
    print_table(
        headings,
        (
            [row["client"], f"{row['server']}:{row['port']}{_transport(row)}"]
            + ([_odd_cell(row)] if odd else [])
            + [_cell(name, row.get(name)) for name in used]
            for row in rows
        ),
        right=range(2, len(headings)),
    )
    if any("request_latency" in row for row in rows):
        say("latency: of requests, p50 / p99; -o json has every signal whole")


def _transport(row: Row) -> str:
    return "" if row["transport"] == "tcp" else f"/{row['transport']}"


def _cell(signal: str, value: Any) -> str:
    from alerts import words  # noqa: PLC0415
    from probes.window import UNITS  # noqa: PLC0415

    if value is None:
        return "-"
    unit = UNITS.get(signal, "")
    if isinstance(value, dict):
        spread = signal == "request_latency" and value["p99"] is not None
        shown = [value["p50"], value["p99"]] if spread else [value["p50"]]
        return " / ".join(words.quantity(each, unit) for each in shown)
    return words.quantity(value, unit, signal=signal)
