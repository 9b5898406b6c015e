"""Recordings as CSV, plain or compressed: no dependency, and a crash costs one line at most."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn, Self, cast

import numpy as np
from numpy.typing import NDArray

from probes.window import Histograms, Mark, Pair, Window
from tailrace import recording_cells as cells
from tailrace.errors import RecordingError, at_line
from tailrace.recording_cells import BadRow, Codes
from tailrace.recording_format import COLUMNS, REQUIRED, Part, cannot, csv_writer

_BLOCK = 50_000
"""Rows at once: enough for numpy, few enough that their text fits the cache and the memory."""

_LINE_END = re.compile("\r\n|\r|\n")


class CsvRecorder:
    """Writes windows; each is in the file when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            if path.name.lower().endswith(".gz"):
                self._file = cast("BinaryIO", gzip.open(path, "wb", compresslevel=6))  # noqa: SIM115
            else:
                self._file = cast("BinaryIO", path.open("wb", buffering=0))
        except OSError as error:
            raise cannot("write", path, error) from error
        try:
            self._append([COLUMNS], ())
        except OSError as error:
            self._file.close()
            raise cannot("write", path, error) from error

    def write(self, window: Window) -> None:
        """Append one window."""
        try:
            names = (*window.signals, *(pair.client + pair.server for pair in window.pairs))
            self._append(_rows(window), names)
        except OSError as error:
            raise cannot("write", self._path, error) from error

    def close(self) -> None:
        """Finish the file."""
        try:
            self._file.close()
        except OSError as error:
            raise cannot("write", self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, rows: Iterable[Sequence[object]], names: Iterable[str]) -> None:
        text = io.StringIO()
        csv_writer(text, names).writerows(rows)
        # One call for the whole window: a kill leaves all of it, or a line that shows as cut
        left = memoryview(text.getvalue().encode())
        while left:
            left = left[self._file.write(left) :]
        self._file.flush()


def _rows(window: Window) -> Iterator[tuple[object, ...]]:
    known = (_cell(window.width), _cell(window.nominal), window.lost)
    return (
        (
            window.time,
            *pair[:3],
            window.signals[signal],
            _cell(value),
            _cell(count),
            *texts,
            *known,
            marks,
            pair.transport,
        )
        for pair, signal, value, count, marks, *texts in zip(
            (window.pairs[i] for i in window.pair.tolist()),
            window.signal.tolist(),
            window.value.tolist(),
            window.count.tolist(),
            cells.marks_texts(window),
            cells.histogram_texts(window),
            cells.causes_texts(window),
            strict=True,
        )
    )


def _cell(value: float) -> object:
    return "" if math.isnan(value) else value


def read(path: Path, *, note: Callable[[str], None]) -> Part:
    """Return a file's rows; see `tailrace.recording.load`."""
    opened: IO[str]
    try:
        if path.name.lower().endswith(".gz"):
            opened = gzip.open(path, "rt", encoding="utf-8-sig", newline="")  # noqa: SIM115
        else:
            opened = path.open(encoding="utf-8-sig", newline="")
        with opened as file:
            return _Reader(path, file, note).read()
    except UnicodeDecodeError as error:
        raise RecordingError(
            "not UTF-8 text", where=str(path), remedy="is it CSV? Parquet is named .parquet"
        ) from error
    except (gzip.BadGzipFile, OSError) as error:
        if isinstance(error, gzip.BadGzipFile):
            raise RecordingError(
                "not a gzip file", where=str(path), remedy="name it .csv if it is plain"
            ) from error
        raise cannot("read", path, error) from error


class _Reader:
    """Reads one file block by block, so that only numbers stay in memory."""

    def __init__(self, path: Path, file: IO[str], note: Callable[[str], None]) -> None:
        self._path, self._file, self._note = path, file, note
        self._last_line = "\n"
        self._cut = False
        self._times, self._signals, self._keys = Codes(), Codes(), Codes()
        self._epoch: list[float] = []
        self._pairs: list[Pair] = []
        self._blocks: list[tuple[NDArray[Any], ...]] = []
        self._histograms: list[Histograms] = []
        self._causes: dict[int, Mapping[str, int]] = {}
        self._marks: dict[int, tuple[Mark, ...]] = {}
        self._rows = 0

    def read(self) -> Part:
        self._csv = csv.reader(self._lines())
        self._header = self._read_header()
        while True:
            before = self._csv.line_num
            rows = self._next_rows()
            if not rows:
                break
            lines = self._line_numbers(rows, before)
            at_end = len(rows) < _BLOCK
            if not all(rows):  # blank lines
                lines = lines[[i for i, row in enumerate(rows) if row]]
                rows = [row for row in rows if row]
            self._add_or_drop_the_cut_line(rows, lines, at_end=at_end)
        if self._cut:
            self._note(f"{self._path}: the file ends early, it was read as far as it goes")
        return self._part()

    def _lines(self) -> Iterator[str]:
        try:
            for line in self._file:
                self._last_line = line
                yield line
        except EOFError:  # a gzip stream without its end: the writer was killed
            self._cut = True

    def _next_rows(self) -> list[list[str]]:
        try:
            return list(islice(self._csv, _BLOCK))
        except csv.Error as error:
            self._fail(self._csv.line_num, f"not CSV: {error}", "correct or remove that line")

    def _line_numbers(self, rows: Sequence[Sequence[str]], before: int) -> NDArray[np.int64]:
        if self._csv.line_num - before == len(rows):
            return np.arange(before + 1, before + 1 + len(rows))
        heights = [1 + sum(len(_LINE_END.findall(cell)) for cell in row) for row in rows]
        return before + 1 + np.cumsum([0, *heights[:-1]])

    def _read_header(self) -> list[str]:
        try:
            header = next(self._csv, [])
        except csv.Error as error:
            self._fail(1, f"not CSV: {error}", "is it a recording?")
        names = [name.strip() for name in header]
        remedy = f"the first line names the columns: {','.join(REQUIRED)},count"
        if missing := [name for name in REQUIRED if name not in names]:
            self._fail(1, f"the column {missing[0]} is missing" if names else "it is empty", remedy)
        for name in names:
            if name in COLUMNS and names.count(name) > 1:
                self._fail(1, f"the column {name} is there twice", remedy)
        if unknown := [name for name in names if name not in COLUMNS]:
            self._note(f"{self._path}: columns that mean nothing here: {', '.join(unknown)}")
        return names

    def _add_or_drop_the_cut_line(
        self, rows: list[list[str]], lines: NDArray[np.int64], *, at_end: bool
    ) -> None:
        unended = at_end and not self._last_line.endswith(("\n", "\r"))
        own = tuple(self._header) == COLUMNS
        try:
            if unended and own and rows and rows[-1][-1] not in ("tcp", "udp"):
                raise BadRow(len(rows) - 1, "cut short", "")  # noqa: TRY301
            self._add(rows, lines)
        except BadRow as bad:
            if not (unended and bad.index == len(rows) - 1):
                self._fail(int(lines[bad.index]), bad.what, bad.remedy, bad)
            where = at_line(self._path, int(lines[-1]))
            self._note(f"{where}: the last line is cut short, it is skipped")
            self._add_or_drop_the_cut_line(rows[:-1], lines[:-1], at_end=False)

    def _add(self, rows: list[list[str]], lines: NDArray[np.int64]) -> None:
        if not rows:
            return
        width = len(self._header)
        if set(map(len, rows)) != {width}:
            at = next(i for i, row in enumerate(rows) if len(row) != width)
            raise BadRow(
                at,
                f"{len(rows[at])} values where the first line names {width} columns",
                "write every column, empty when unknown, and quote a comma in a name",
            )
        columns = dict(zip(self._header, zip(*rows, strict=True), strict=True))
        empty = ("",) * len(rows)
        optional = {name: columns.get(name, empty) for name in COLUMNS[6:]}
        # All checks come before the first change, so that a dropped line leaves nothing
        value = cells.numbers("value", columns["value"])
        number = {n: cells.numbers(n, optional[n]) for n in ("count", "width", "nominal", "lost")}
        lost = cells.lost_samples(number["lost"])
        histograms = cells.histograms(optional["histogram"])
        causes = cells.causes(optional["causes"])
        marks = cells.marks(optional["marks"])
        if not all(columns["signal"]):
            raise BadRow(columns["signal"].index(""), "signal is empty", "name what was measured")
        time = self._times.of(columns["time"])
        self._epoch += self._new(self._times, len(self._epoch), time, cells.epochs)
        keys = zip(columns["client"], columns["server"], columns["port"], optional["transport"],
                   strict=True)  # fmt: skip
        pair = self._keys.of(list(keys))
        self._pairs += self._new(self._keys, len(self._pairs), pair, _pairs)
        signal = self._signals.of(columns["signal"])
        self._blocks.append(
            (
                lines,
                time,
                pair,
                signal,
                value,
                number["count"],
                number["width"],
                number["nominal"],
                lost,
            )
        )
        self._histograms.append(
            histograms._replace(row=(histograms.row + self._rows).astype(np.int32))
        )
        self._causes |= {row + self._rows: named for row, named in causes.items()}
        self._marks |= {row + self._rows: seen for row, seen in marks.items()}
        self._rows += len(rows)

    @staticmethod
    def _new(
        codes: Codes,
        known: int,
        used: NDArray[np.int64],
        parse: Callable[[Sequence[Any], NDArray[np.int64]], list[Any]],
    ) -> list[Any]:
        """Return what this block's new things mean; forget them all when one means nothing."""
        new = list(islice(codes, known, None))
        try:
            return parse(new, used - known)
        except BadRow:
            for thing in new:
                del codes[thing]
            raise

    def _part(self) -> Part:
        if self._blocks:
            joined = [np.concatenate(column) for column in zip(*self._blocks, strict=True)]
            buckets = [np.concatenate(column) for column in zip(*self._histograms, strict=True)]
        else:
            joined = [np.empty(0, t) for t in "qqqqddddq"]
            buckets = [np.empty(0, t) for t in "ihq"]
        lines, time, pair, signal, value, count, width, nominal, lost = joined
        return Part(
            path=self._path,
            lines=lines,
            unit="line",
            pairs=self._pairs,
            signals=cast("list[str]", list(self._signals)),
            times=cast("list[str]", list(self._times)),
            epoch=np.array(self._epoch, np.float64),
            pair=pair,
            signal=signal,
            time=time,
            value=value,
            count=count,
            width=width,
            nominal=nominal,
            lost=lost,
            histograms=Histograms(*buckets),
            causes=self._causes,
            marks=self._marks,
        )

    def _fail(self, line: int, what: str, remedy: str, cause: Exception | None = None) -> NoReturn:
        raise RecordingError(what, where=at_line(self._path, line), remedy=remedy) from cause


def _pairs(keys: Sequence[Any], codes: NDArray[np.int64]) -> list[Pair]:
    return [
        cells.pair_of(key, lambda number=number: int((codes == number).argmax()))  # type: ignore[misc]
        for number, key in enumerate(keys)
    ]
