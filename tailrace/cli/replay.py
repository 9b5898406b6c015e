"""`tailrace replay`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace.cli import options
from tailrace.cli.output import say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from detector.engines import Engine
    from detector.finding import Finding
    from tailrace.recording import Recording


@click.command(
    epilog=options.examples(
        "tailrace replay morning.csv",
        "tailrace replay morning.csv -o jsonl",
        "tailrace replay monday.csv tuesday.parquet --scores scores.csv",
    )
)
@click.argument("files", type=options.EXISTING, nargs=-1, required=True)
@click.option("--scores", type=options.NEW_FILE, metavar="FILE",
              help="Write a score in [0, 1] for every input row, as CSV.")  # fmt: skip
@options.output_option
@options.config_option
@options.ignores_state_dir
def replay(
    files: tuple[Path, ...], scores: Path | None, output: str, config_path: Path | None
) -> None:
    """Run the detector over recordings; several are merged by time.

    Files with rows of the same time are taken for several hosts': a connection that two of them
    saw, each at its end, is one pair with both names and both ends' views.

    Findings appear in the order they were found, and again when they end. The same input gives
    the same output, byte for byte, and what `run` found while it made the recording.
    """
    from detector import engines  # noqa: PLC0415 - slow to import
    from tailrace import config, recording  # noqa: PLC0415
    from tailrace.cli.findings import COLUMNS, emit_findings  # noqa: PLC0415

    settings = config.load(config_path).detector_settings()
    if caution := engines.caution(settings.model):
        say(caution)
    recorded = recording.load(files, note=say)
    run = _Replay(recorded, engines.new(settings))
    found = emit_findings(run.findings(), output, columns=COLUMNS)
    if scores is not None:
        recorded.write_scores(scores, run.scores)
    say(f"{len(recorded)} rows in {run.windows} windows, {found} findings")


class _Replay:
    """One pass of a detector over a recording."""

    def __init__(self, recorded: Recording, detector: Engine) -> None:
        import numpy as np  # noqa: PLC0415 - not for --help

        self._recorded, self._detector = recorded, detector
        self.windows = 0
        # A row without a value was not measured: nothing speaks against it
        self.scores: NDArray[np.float64] = np.zeros(len(recorded))

    def findings(self) -> Iterator[Finding]:
        """Yield findings as they begin and end."""
        for window, rows, places in self._recorded.windows():
            yield from self._detector.update(window)
            there = places >= 0
            self.scores[rows[there]] = self._detector.scores()[places[there]]
            self.windows += 1
