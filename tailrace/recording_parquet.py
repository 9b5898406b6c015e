"""Recordings as Parquet: smaller and faster than CSV, readable once the recorder has closed it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from probes.window import Histograms, Window
from tailrace import recording_cells as cells
from tailrace.errors import RecordingError, at_line
from tailrace.recording_cells import BadRow, Codes
from tailrace.recording_format import COLUMNS, REQUIRED, Part, cannot

_GROUP = 65_536
"""Rows in a row group: what a kill may cost at most is in memory until the group is full."""

LONG, PIECE = 2_000_000, 500_000
"""Rows above which a file is read in pieces, and rows of a piece: 300 bytes of memory each."""


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional dependency, and slow to import
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise RecordingError(
            "Parquet needs pyarrow, which is not installed",
            remedy="pip install 'tailrace[parquet]', or use a .csv file",
        ) from error
    return pa, parquet


def _schema(pa: Any) -> Any:
    text = pa.dictionary(pa.int32(), pa.string())
    types = {
        "time": pa.float64(), "client": text, "server": text, "port": pa.int32(), "signal": text,
        "histogram": pa.string(), "causes": pa.string(), "marks": pa.string(), "lost": pa.int64(),
        "transport": text,
    }  # fmt: skip
    return pa.schema([(name, types.get(name, pa.float64())) for name in COLUMNS])


class ParquetRecorder:
    """Writes windows by row groups; the file can be read once it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pa, parquet = _arrow()
        self._columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
        try:
            self._writer = parquet.ParquetWriter(path, _schema(self._pa), compression="zstd")
        except OSError as error:
            raise cannot("write", path, error) from error

    def write(self, window: Window) -> None:
        """Append one window."""
        pairs = [window.pairs[i] for i in window.pair.tolist()]
        rows = len(window)
        add: dict[str, Sequence[object]] = {
            "time": [window.time] * rows,
            "client": [pair.client for pair in pairs],
            "server": [pair.server for pair in pairs],
            "port": [pair.port for pair in pairs],
            "signal": [window.signals[i] for i in window.signal.tolist()],
            "value": list(map(_cell, window.value.tolist())),
            "count": list(map(_cell, window.count.tolist())),
            "histogram": [text or None for text in cells.histogram_texts(window)],
            "causes": [text or None for text in cells.causes_texts(window)],
            "marks": [text or None for text in cells.marks_texts(window)],
            "width": [_cell(window.width)] * rows,
            "nominal": [_cell(window.nominal)] * rows,
            "lost": [window.lost] * rows,
            "transport": [pair.transport for pair in pairs],
        }
        for name, values in add.items():
            self._columns[name] += values
        if len(self._columns["time"]) >= _GROUP:
            self._write_group()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is None:
            return
        try:
            self._write_group()
            self._writer.close()
        except OSError as error:
            raise cannot("write", self._path, error) from error
        self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_group(self) -> None:
        if self._columns["time"]:
            table = self._pa.table(self._columns, schema=_schema(self._pa))
            try:
                self._writer.write_table(table)
            except OSError as error:
                raise cannot("write", self._path, error) from error
            self._columns = {name: [] for name in COLUMNS}


def _cell(value: float) -> float | None:
    return None if math.isnan(value) else value


def read(path: Path) -> Part:
    """Return a file's rows; see `tailrace.recording.load`."""
    pa, parquet = _arrow()
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            missing = [name for name in REQUIRED if name not in names]
            if missing:
                _fail(path, None, f"the column {missing[0]} is missing",
                      f"it needs the columns {', '.join(REQUIRED)}")  # fmt: skip
            table = file.read(columns=[name for name in COLUMNS if name in names])
    except pa.ArrowInvalid as error:
        raise RecordingError(
            "not a complete Parquet file",
            where=str(path),
            remedy="a Parquet recording is readable once its recorder has stopped; "
            "record to .csv to survive a crash",
        ) from error
    except OSError as error:
        raise cannot("read", path, error) from error
    try:
        return _Table(path, table, pa).part()
    except BadRow as bad:
        _fail(path, bad.index + 1, bad.what, bad.remedy)


def read_pieces(path: Path) -> Iterator[Part] | None:
    """Return a long file's rows piece by piece, each with all rows of its times, in order of time.

    None for a file that is short, or whose row groups are not in order of time: `read` has it.

    Raises:
        RecordingError: as `read`; while iterating, too.
    """
    pa, parquet = _arrow()
    try:
        with parquet.ParquetFile(path) as file:
            names, known = file.schema_arrow.names, file.metadata
            if known.num_rows <= LONG or any(name not in names for name in REQUIRED):
                return None
            if not _in_order(known):
                return None
    except (OSError, pa.ArrowInvalid):
        return None  # `read` says what is wrong
    return _pieces(path, pa, parquet)


def _in_order(known: Any) -> bool:
    """Return whether no row group begins before the one before it has ended."""
    columns = [known.schema.column(i).path for i in range(known.num_columns)]
    groups = (known.row_group(i) for i in range(known.num_row_groups))
    stated = [group.column(columns.index("time")).statistics for group in groups if group.num_rows]
    if any(each is None or not each.has_min_max or isinstance(each.min, str) for each in stated):
        return False
    return all(one.max <= other.min for one, other in itertools.pairwise(stated))


def _pieces(path: Path, pa: Any, parquet: Any) -> Iterator[Part]:
    from pyarrow import compute  # noqa: PLC0415 - as in _arrow

    left, lines, before = None, np.zeros(0, np.int64), 0
    with parquet.ParquetFile(path) as file:
        columns = [name for name in COLUMNS if name in file.schema_arrow.names]
        wanted: list[int] = []
        for group in range(file.num_row_groups):
            wanted.append(group)
            rows = sum(file.metadata.row_group(i).num_rows for i in wanted)
            last = group == file.num_row_groups - 1
            if rows < PIECE and not last:
                continue
            table = file.read_row_groups(wanted, columns=columns)
            lines = np.concatenate([lines, np.arange(before + 1, before + rows + 1)])
            before, wanted = before + rows, []
            if left is not None:
                table = pa.concat_tables([left, table], promote_options="permissive")
            # The newest window may go on in the next piece
            newest = compute.equal(table["time"], compute.max(table["time"])).to_numpy()
            whole = np.ones(len(lines), np.bool_) if last else ~newest.astype(np.bool_)
            if whole.any():
                yield _part(path, table.filter(pa.array(whole)), lines[whole], pa)
            left, lines = table.filter(pa.array(~whole)), lines[~whole]


def _part(path: Path, table: Any, lines: NDArray[np.int64], pa: Any) -> Part:
    try:
        return dataclasses.replace(_Table(path, table, pa).part(), lines=lines)
    except BadRow as bad:
        _fail(path, int(lines[bad.index]), bad.what, bad.remedy)


def _fail(path: Path, row: int | None, what: str, remedy: str) -> NoReturn:
    raise RecordingError(what, where=at_line(path, row, "row"), remedy=remedy)


class _Table:
    """Turns Arrow columns into ours."""

    def __init__(self, path: Path, table: Any, pa: Any) -> None:
        self._path, self._table, self._pa = path, table, pa

    def part(self) -> Part:
        rows = self._table.num_rows
        times, time = self._distinct("time", self._time_text)
        epoch = np.array(cells.epochs(times, time), np.float64)
        pairs, pair = self._pairs()
        signals, signal = self._distinct("signal", str)
        if "" in signals:
            raise BadRow(int((signal == signals.index("")).argmax()), "signal is empty",
                         "name what was measured")  # fmt: skip
        return Part(
            path=self._path,
            lines=np.arange(1, rows + 1),
            unit="row",
            pairs=pairs,
            signals=signals,
            times=times,
            epoch=epoch,
            pair=pair,
            signal=signal,
            time=time,
            value=self._numbers("value"),
            count=self._numbers("count"),
            width=self._numbers("width"),
            nominal=self._numbers("nominal"),
            lost=cells.lost_samples(self._numbers("lost")),
            histograms=self._histograms(),
            causes=cells.causes(self._texts("causes")),
            marks=cells.marks(self._texts("marks")),
        )

    def _has(self, name: str) -> bool:
        return name in self._table.column_names

    def _numbers(self, name: str) -> NDArray[np.float64]:
        if not self._has(name):
            return np.full(self._table.num_rows, np.nan)
        try:
            column = self._table.column(name).cast(self._pa.float64(), safe=False)
        except (self._pa.ArrowInvalid, self._pa.ArrowNotImplementedError):
            kind = self._table.schema.field(name).type
            _fail(self._path, None, f"the column {name} is {kind}", "write it as numbers")
        values: NDArray[np.float64] = column.to_numpy().astype(np.float64)
        cells.check_finite(name, values)
        return values

    def _distinct(self, name: str, text: Any) -> tuple[list[str], NDArray[np.int64]]:
        """Return a column's distinct values as text, and which of them each row has."""
        if not self._has(name):
            return [""], np.zeros(self._table.num_rows, np.int64)
        column = self._table.column(name).combine_chunks()
        if self._pa.types.is_timestamp(column.type):
            # Arrow keeps UTC, with or without a zone's name on it
            column = column.cast(self._pa.timestamp("us"), safe=False)
        if not self._pa.types.is_dictionary(column.type):
            column = column.dictionary_encode(null_encoding="encode")
        if isinstance(column, self._pa.ChunkedArray):
            column = column.unify_dictionaries().combine_chunks()
        values = ["" if value is None else text(value) for value in column.dictionary.to_pylist()]
        if column.indices.null_count:
            values.append("")
        index = column.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
        return values, index.astype(np.int64)

    def _time_text(self, value: Any) -> str:
        if isinstance(value, float):
            return repr(value)
        if hasattr(value, "isoformat"):
            return f"{value.isoformat()}Z"
        return str(value)

    def _pairs(self) -> tuple[list[Any], NDArray[np.int64]]:
        parts = [self._distinct(name, str) for name in ("client", "server", "port", "transport")]
        distinct = Codes()
        code = np.zeros(self._table.num_rows, np.int64)
        for values, index in parts:
            code = code * (len(values) + 1) + index
        _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
        pairs = []
        for row in first.tolist():
            key = [values[index[row]] for values, index in parts]
            pairs.append(cells.pair_of(key, lambda row=row: row))  # type: ignore[misc]
        # Two spellings of one pair ("tcp" and no transport) are one pair
        same = distinct.of(pairs)
        return list(distinct), same[inverse]

    def _histograms(self) -> Histograms:
        return cells.histograms(self._texts("histogram"))

    def _texts(self, name: str) -> list[str]:
        if not self._has(name):
            return []
        return [text or "" for text in self._table.column(name).to_pylist()]
