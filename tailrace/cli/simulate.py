"""`tailrace simulate`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tailrace.cli import options
from tailrace.cli.output import print_table, say
from tailrace.errors import RecordingError, UsageError

if TYPE_CHECKING:
    from probes.window import Window
    from tailrace.simulation.fleet import Fleet


@click.command(
    epilog=options.examples(
        "tailrace simulate --list",
        "tailrace simulate faults -o faults.csv --seed 7",
        "tailrace simulate my-fleet.toml -o month.parquet --for 30d --window 10s",
        "tailrace simulate --from monday.csv -o month.parquet --for 30d",
        "tailrace simulate calm -o - | head",
    )
)
@click.argument("names", metavar="[SCENARIO]", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="List the scenarios that come with Tailrace.")
@click.option("--from", "recordings", type=options.EXISTING, multiple=True, metavar="RECORDING",
              help="Simulate what these recordings show; more may follow.")  # fmt: skip
@click.option("-o", "--output", "output", type=options.NEW_FILE, metavar="FILE",
              help="Write here: .csv, .csv.gz or .parquet; - for CSV on stdout.")  # fmt: skip
@click.option("--truth", type=options.NEW_FILE, metavar="FILE",
              help="Write here what was made to happen. [default: FILE.truth.jsonl]")  # fmt: skip
@click.option("--for", "lasts", type=options.DURATION, metavar="TIME",
              help="Simulate so much. [default: the scenario's; of a recording, 1d]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="The same seed gives the same file.")  # fmt: skip
@options.window_option
@click.option("--pairs", type=click.IntRange(1, 1_000_000), metavar="N",
              help="So many service pairs in all, in the scenario's proportions.")  # fmt: skip
@click.option("--daily", type=click.FloatRange(0, 1, max_open=True), default=0.0, metavar="SHARE",
              help="With --from: a daily wave, up and down by this share of the mean.")  # fmt: skip
@options.ignores_config
@options.ignores_state_dir
def simulate(
    *,
    names: tuple[str, ...],
    listed: bool,
    recordings: tuple[Path, ...],
    output: Path | None,
    truth: Path | None,
    lasts: float | None,
    seed: int,
    window_s: float | None,
    pairs: int | None,
    daily: float,
) -> None:
    """Write a recording of simulated traffic, and beside it what was made to happen, and when.

    SCENARIO is one of --list, or a TOML file (docs/simulation.md). `tailrace replay` reads what is
    written here.
    """
    if listed:
        _list()
        return
    if lasts is not None and lasts <= 0:
        raise UsageError("--for 0 is no time", remedy="say how long, such as --for 1h")
    if output is None:
        raise UsageError("where to?", remedy="add -o FILE, or -o - for stdout")
    if recordings:
        _from_recordings(
            (*recordings, *map(Path, names)), output, truth, lasts=lasts, seed=seed,
            window_s=window_s, pairs=pairs, daily=daily,
        )  # fmt: skip
        return
    if len(names) != 1:
        raise UsageError(
            "name one scenario" if names else "which scenario?",
            remedy="`tailrace simulate --list` names those that come with Tailrace",
        )
    if daily:
        raise UsageError("--daily is for --from", remedy="write daily = … into the scenario")
    fleet = _fleet(names[0], lasts=lasts, seed=seed, window_s=window_s, pairs=pairs)
    _write(fleet.windows(), fleet.about, output)
    sidecar = _truth_path(output) if truth is None else truth
    if sidecar is not None:
        _write_truth(sidecar, fleet)


def _list() -> None:
    from tailrace.durations import duration_text  # noqa: PLC0415 - not for --help
    from tailrace.simulation import scenario  # noqa: PLC0415

    rows = [
        (name, str(sum(p.number for p in one.pairs)), duration_text(one.lasts),
         duration_text(one.window), str(len(one.faults)), one.about)
        for name, one in scenario.built_in().items()
    ]  # fmt: skip
    print_table(("NAME", "PAIRS", "LASTS", "WINDOW", "FAULTS", "ABOUT"), rows,
                right=(1, 2, 3, 4), folded=(5,))  # fmt: skip


def _fleet(
    name: str, *, lasts: float | None, seed: int, window_s: float | None, pairs: int | None
) -> Fleet:
    from tailrace.simulation import fate, fleet, scenario  # noqa: PLC0415 - slow to import

    chosen = scenario.load(name)
    if pairs is not None:
        try:
            chosen = chosen.resized(pairs)
        except ValueError as error:
            raise UsageError(str(error), where="--pairs") from error
    for fault in fate.unmatched(chosen):
        what = (f"the fault {fault.kind} at {fault.at:g} s is about no pair: "
                f"client {fault.client}, server {fault.server}")  # fmt: skip
        if pairs is None:
            raise UsageError(what, where=name, remedy="correct its client, server or port")
        say(f"{what}; it is left out")
    return fleet.Fleet(chosen, seed=seed, window=window_s, lasts=lasts)


def _from_recordings(
    files: tuple[Path, ...],
    output: Path,
    truth: Path | None,
    *,
    lasts: float | None,
    seed: int,
    window_s: float | None,
    pairs: int | None,
    daily: float,
) -> None:
    from tailrace import recording  # noqa: PLC0415 - slow to import
    from tailrace.simulation import calibrate, resample  # noqa: PLC0415

    for value, option in ((truth, "--truth"), (window_s, "--window"), (pairs, "--pairs")):
        if value is not None:
            raise UsageError(
                f"{option} does not go with --from",
                remedy="its pairs and windows are the recording's, and no fault is made",
            )
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise UsageError("no such file", where=str(missing[0]),
                         remedy="with --from, name recordings only")  # fmt: skip
    known = calibrate.fit(recording.read(files, note=say))
    say(known.summary())
    made = resample.Resampled(known, seed=seed, lasts=lasts or 86_400.0, daily=daily)
    _write(made.windows(), made.about, output)


def _write(windows: Iterable[Window], about: int, output: Path) -> None:
    from tailrace import recording, recording_csv  # noqa: PLC0415 - slow to import

    to_stdout = str(output) == "-"
    number = rows = 0
    try:
        with (
            recording_csv.CsvRecorder(Path("/dev/stdout"))
            if to_stdout
            else recording.create(output) as recorder,
            _progress(windows, about) as seen,
        ):
            for window in seen:
                recorder.write(window)
                number += 1
                rows += len(window)
    except RecordingError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            # whoever reads has seen enough
            raise BrokenPipeError from error
        raise
    say(f"{number} windows, {rows} rows in {'stdout' if to_stdout else output}")


@contextmanager
def _progress(windows: Iterable[Window], about: int) -> Iterator[Iterable[Window]]:
    """Show a bar on a terminal."""
    if not sys.stderr.isatty():
        yield windows
        return
    bar: Any
    with click.progressbar(windows, length=about, file=sys.stderr, label="simulating",
                           update_min_steps=max(about // 500, 1)) as bar:  # fmt: skip
        yield bar


def _truth_path(output: Path) -> Path | None:
    """Return the sidecar's name; None when there is no file to be beside of."""
    if str(output) == "-":
        return None
    name = output.name
    for ending in (".gz", ".csv", ".parquet"):
        name = name.removesuffix(ending)
    return output.with_name(f"{name}.truth.jsonl")


def _write_truth(path: Path, fleet: Fleet) -> None:
    import json  # noqa: PLC0415 - not for --help

    from tailrace.recording_format import cannot  # noqa: PLC0415

    lines = [json.dumps(truth.to_dict(), ensure_ascii=False) for truth in fleet.truths()]
    try:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise cannot("write", path, error) from error
    say(f"{len(lines)} changes in {path}")
