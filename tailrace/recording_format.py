"""What the formats of recordings share: the columns, and one file's rows as arrays.

The format is in `docs/formats.md`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probes.window import Histograms, Mark, Pair
from tailrace.errors import RecordingError

if TYPE_CHECKING:
    from _csv import Writer as CsvWriter

    from _typeshed import SupportsWrite

COLUMNS = (
    "time", "client", "server", "port", "signal", "value", "count",
    "histogram", "causes", "width", "nominal", "lost", "marks", "transport",
)  # fmt: skip
"""Every column, in the order they are written. The last one is never empty: a line that a crash
cut short shows."""
REQUIRED = COLUMNS[:6]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file's rows, in the file's order.

    Attributes:
        path: the file.
        lines: where each row is in the file (CSV: line number; Parquet: row number).
        unit: "line" or "row".
        pairs, signals, times: what `pair`, `signal` and `time` index; `times` as they were
            written, `epoch` as seconds.
        value, count, width, nominal: NaN when empty.
        lost: 0 when empty.
        histograms, causes, marks: of the rows that have one, by row.
    """

    path: Path
    lines: NDArray[np.int64]
    unit: str
    pairs: Sequence[Pair]
    signals: Sequence[str]
    times: Sequence[str]
    epoch: NDArray[np.float64]
    pair: NDArray[np.int64]
    signal: NDArray[np.int64]
    time: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.float64]
    width: NDArray[np.float64]
    nominal: NDArray[np.float64]
    lost: NDArray[np.int64]
    histograms: Histograms
    causes: Mapping[int, Mapping[str, int]]
    marks: Mapping[int, tuple[Mark, ...]]


def csv_writer(file: SupportsWrite[str], names: Iterable[str]) -> CsvWriter:
    """Return a CSV writer for rows in which these names occur."""
    # Python's writer leaves a carriage return unquoted when lines end without one, and its
    # reader then ends the line there; only a hostile process is named like that
    hostile = any("\r" in name for name in names)
    return csv.writer(
        file,
        lineterminator="\n",
        quoting=csv.QUOTE_NONNUMERIC if hostile else csv.QUOTE_MINIMAL,
    )


def cannot(do: str, path: Path, error: OSError) -> RecordingError:
    """Return the error for a file that the system refuses."""
    remedy = {
        "FileNotFoundError": "check the path",
        "PermissionError": "check the file's owner and mode",
        "IsADirectoryError": "name a file in it",
    }.get(type(error).__name__, "check the disk: `df -h`")
    return RecordingError(
        f"cannot {do} it: {os.strerror(error.errno) if error.errno else error}",
        where=str(path),
        remedy=remedy,
    )
