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

    from alerts.grouping import Change
    from detector.engines import Engine
    from detector.finding import Finding
    from probes.window import Window
    from tailrace.recording import Recording


@click.command(
    epilog=options.examples(
        "tailrace replay morning.csv",
        "tailrace replay morning.csv -o jsonl",
        "tailrace replay morning.csv --incidents",
        "tailrace replay monday.csv tuesday.parquet --scores scores.csv",
    )
)
@click.argument("files", type=options.EXISTING, nargs=-1, required=True)
@click.option("--scores", type=options.NEW_FILE, metavar="FILE",
              help="Write a score in [0, 1] for every input row, as CSV.")  # fmt: skip
@click.option("--incidents", is_flag=True,
              help="Put the findings into incidents and show those, as receivers would be told "
                   "of them.")  # fmt: skip
@options.output_option
@options.config_option
@options.ignores_state_dir
def replay(
    files: tuple[Path, ...],
    scores: Path | None,
    incidents: bool,
    output: str,
    config_path: Path | None,
) -> None:
    """Run the detector over recordings; several are merged by time.

    Files with rows of the same time are taken for several hosts': a connection that two of them
    saw, each at its end, is one pair with both names and both ends' views.

    Findings appear in the order they were found, and again when they end; so do incidents, each
    time that something of them would be told. The same input gives the same output, byte for
    byte, and what `run` found while it made the recording.
    """
    from detector import engines  # noqa: PLC0415 - slow to import
    from tailrace import config, recording  # noqa: PLC0415
    from tailrace.cli.findings import COLUMNS, emit_findings  # noqa: PLC0415

    settings = config.load(config_path).detector_settings()
    if caution := engines.caution(settings.model):
        say(caution)
    recorded = recording.load(files, note=say)
    run = _Replay(recorded, engines.new(settings))
    if incidents:
        from tailrace.cli.incident_list import emit_changes  # noqa: PLC0415

        told = emit_changes(run.incidents(), output)
        said = f"{run.findings_begun} findings, {told}"
    else:
        said = f"{emit_findings(run.findings(), output, columns=COLUMNS)} findings"
    if scores is not None:
        recorded.write_scores(scores, run.scores)
    say(f"{len(recorded)} rows in {run.windows} windows, {said}")


class _Replay:
    """One pass of a detector over a recording."""

    def __init__(self, recorded: Recording, detector: Engine) -> None:
        import numpy as np  # noqa: PLC0415 - not for --help

        self._recorded, self._detector = recorded, detector
        self.windows = self.findings_begun = 0
        # A row without a value was not measured: nothing speaks against it
        self.scores: NDArray[np.float64] = np.zeros(len(recorded))

    def findings(self) -> Iterator[Finding]:
        """Yield findings as they begin and end."""
        for _, findings in self.steps():
            yield from findings

    def incidents(self) -> Iterator[Change]:
        """Yield what would be told of incidents, and at the end what is still open."""
        from alerts.grouping import Incidents  # noqa: PLC0415 - slow to import
        from alerts.replay import replayed  # noqa: PLC0415

        return replayed(self.steps(), Incidents())

    def steps(self) -> Iterator[tuple[Window, list[Finding]]]:
        """Yield each window and the findings that began or ended with it."""
        for window, rows, places in self._recorded.windows():
            findings = self._detector.update(window)
            self.findings_begun += sum(finding.state == "firing" for finding in findings)
            yield window, findings
            there = places >= 0
            self.scores[rows[there]] = self._detector.scores()[places[there]]
            self.windows += 1
