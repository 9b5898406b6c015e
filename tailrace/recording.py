"""Recordings: every row of some files as columns, and the windows they make.

The format is in `docs/formats.md`. What was read keeps its place: file by file, row by row, so
that a score can be written next to the row it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from probes.join import Joiner
from probes.window import Histograms, Pair, Window
from tailrace.errors import RecordingError, at_line
from tailrace.recording_format import Part, cannot, csv_writer

_T = TypeVar("_T", bound=np.generic)


class Recorder(Protocol):
    """Something that keeps windows: one file, written window by window."""

    def write(self, window: Window) -> None:
        """Append one window; it is in the file (CSV) or the next row group when this returns."""

    def close(self) -> None:
        """Finish the file."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class Recording:
    """The rows of all files, in input order, and the windows they make, by time.

    Iterating yields `Window`s; `windows()` also says which input rows each is made of.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        pairs: dict[Pair, int] = {}
        signals: dict[str, int] = {}
        pair, signal = [], []
        for part in parts:
            to_pair = np.array([pairs.setdefault(p, len(pairs)) for p in part.pairs], np.int64)
            to_signal = np.array(
                [signals.setdefault(s, len(signals)) for s in part.signals], np.int64
            )
            pair.append(to_pair[part.pair])
            signal.append(to_signal[part.signal])
        self.pairs, self.signals = tuple(pairs), tuple(signals)
        self._pair, self._signal = _join(pair, np.int64), _join(signal, np.int64)
        self._epoch = _join([part.epoch[part.time] for part in parts], np.float64)
        self._start = np.cumsum([0, *(len(part.lines) for part in parts)])
        self._value = _join([part.value for part in parts], np.float64)
        self._count = _join([part.count for part in parts], np.float64)
        self._width = _join([part.width for part in parts], np.float64)
        self._nominal = _join([part.nominal for part in parts], np.float64)
        self._lost = _join([part.lost for part in parts], np.int64)
        self._histograms, self._first_bucket = self._all_histograms()
        self._causes = {
            int(row + start): causes
            for start, part in zip(self._start, parts, strict=False)
            for row, causes in part.causes.items()
        }
        self._marks = {
            int(row + start): marks
            for start, part in zip(self._start, parts, strict=False)
            for row, marks in part.marks.items()
        }
        # Stable: rows of one time keep their input order
        self._order = np.argsort(self._epoch, kind="stable")
        self._check_unique()

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[Window]:
        return (window for window, _, _ in self.windows())

    def windows(self) -> Iterator[tuple[Window, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield each window, the input rows (counted over all files) in it, and where it has them.

        An empty value is "not measured": its row is in no window. Files that have rows of one time
        are several hosts' (`probes.join`); a row that is in no window has the place -1.
        """
        epoch = self._epoch[self._order]
        cuts = np.flatnonzero(np.diff(epoch)) + 1
        files = [_Compact(self.pairs, self.signals) for _ in self.parts]
        joiner = Joiner() if len(self.parts) > 1 else None
        start = 0
        for end in (*cuts.tolist(), len(epoch)):
            rows = self._order[start:end]
            start = end
            file = np.searchsorted(self._start, rows, side="right") - 1
            views, taken = [], []
            for number in np.unique(file).tolist():
                mine = rows[file == number]
                measured = mine[~np.isnan(self._value[mine])]
                if len(measured):
                    views.append((str(number), self._window(mine, measured, files[number])))
                    taken.append(measured)
            if joiner is None or not views:
                yield from (
                    (window, measured, np.arange(len(measured)))
                    for (_, window), measured in zip(views, taken, strict=True)
                )
            else:
                joined = joiner.join(views)
                yield joined.window, np.concatenate(taken), np.concatenate(joined.rows)

    def write_scores(self, path: Path, scores: NDArray[np.float64]) -> None:
        """Write one line per input row: what it is about and its score, in input order."""
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                names = (*self.signals, *(pair.client + pair.server for pair in self.pairs))
                write = csv_writer(file, names).writerows
                write([("time", "client", "server", "port", "signal", "score")])
                for start, part in zip(self._start, self.parts, strict=False):
                    ends = scores[start : start + len(part.lines)].tolist()
                    keys = zip(part.time.tolist(), part.pair.tolist(), part.signal.tolist(), ends,
                               strict=True)  # fmt: skip
                    write(
                        (part.times[t], *part.pairs[p][:3], part.signals[s], repr(score))
                        for t, p, s, score in keys
                    )
        except OSError as error:
            raise cannot("write", path, error) from error

    def _window(
        self, rows: NDArray[np.int64], measured: NDArray[np.int64], compact: _Compact
    ) -> Window:
        pairs, pair, signals, signal = compact(self._pair[measured], self._signal[measured])
        causes = {}
        if self._causes:
            causes = {
                i: c for i, row in enumerate(measured.tolist()) if (c := self._causes.get(row))
            }
        marks = {}
        if self._marks:
            marks = {i: m for i, row in enumerate(measured.tolist()) if (m := self._marks.get(row))}
        return Window(
            time=float(self._epoch[rows[0]]),
            width=_first_known(self._width[rows]),
            nominal=_first_known(self._nominal[rows]),
            lost=int(self._lost[rows].max()),
            pairs=pairs,
            signals=signals,
            pair=pair,
            signal=signal,
            value=self._value[measured],
            count=self._count[measured],
            histograms=self._histograms_of(measured),
            causes=causes,
            marks=marks,
        )

    def _histograms_of(self, rows: NDArray[np.int64]) -> Histograms:
        first = self._first_bucket[rows]
        number = self._first_bucket[rows + 1] - first
        total = int(number.sum())
        row = np.repeat(np.arange(len(rows)), number)
        before = np.repeat(np.cumsum(number) - number, number)
        at = np.repeat(first, number) + np.arange(total) - before
        every = self._histograms
        return Histograms(row.astype(np.int32), every.bucket[at], every.number[at])

    def _all_histograms(self) -> tuple[Histograms, NDArray[np.int64]]:
        row = _join(
            [part.histograms.row + s for part, s in zip(self.parts, self._start, strict=False)],
            np.int64,
        )
        bucket = _join([part.histograms.bucket for part in self.parts], np.int16)
        number = _join([part.histograms.number for part in self.parts], np.int64)
        entries = (
            np.bincount(row, minlength=len(self._value))
            if len(row)
            else np.zeros(len(self._value), np.int64)
        )
        return Histograms(row.astype(np.int32), bucket, number), np.concatenate(
            ([0], np.cumsum(entries))
        )

    def _check_unique(self) -> None:
        if not len(self):
            return
        # several files are several hosts', which may have pairs of the same name
        file = np.repeat(np.arange(len(self.parts)), np.diff(self._start))
        stream = (file * len(self.pairs) + self._pair) * max(len(self.signals), 1) + self._signal
        order = np.lexsort((stream, self._epoch))
        same = (np.diff(self._epoch[order]) == 0) & (np.diff(stream[order]) == 0)
        if same.any():
            at = int(np.flatnonzero(same)[0])
            first, second = sorted((int(order[at]), int(order[at + 1])))
            pair, signal = self.pairs[self._pair[second]], self.signals[self._signal[second]]
            raise RecordingError(
                f"a second row for {signal} of {pair} at this time; "
                f"the first is at {self.place(first)}",
                where=self.place(second),
                remedy="keep one row per window, pair and signal",
            )

    def place(self, row: int) -> str:
        """Return where an input row is, as errors show it."""
        index = int(np.searchsorted(self._start, row, side="right")) - 1
        part = self.parts[index]
        return at_line(part.path, int(part.lines[row - self._start[index]]), part.unit)


class _Compact:
    """Index only what a window refers to; equal windows share their tuples."""

    def __init__(self, pairs: Sequence[Pair], signals: Sequence[str]) -> None:
        self._pairs, self._signals = pairs, signals
        self._last: tuple[bytes, bytes] | None = None
        self._result: tuple[tuple[Pair, ...], NDArray[np.int32], tuple[str, ...], NDArray[np.int16]]

    def __call__(
        self, pair: NDArray[np.int64], signal: NDArray[np.int64]
    ) -> tuple[tuple[Pair, ...], NDArray[np.int32], tuple[str, ...], NDArray[np.int16]]:
        key = (pair.tobytes(), signal.tobytes())
        if key != self._last:
            used_pairs, pair_index = _in_order_of_appearance(pair)
            used_signals, signal_index = _in_order_of_appearance(signal)
            self._last = key
            self._result = (
                tuple(self._pairs[i] for i in used_pairs),
                pair_index.astype(np.int32),
                tuple(self._signals[i] for i in used_signals),
                signal_index.astype(np.int16),
            )
        return self._result


def load(paths: Iterable[Path], *, note: Callable[[str], None] = lambda _: None) -> Recording:
    """Return what some files hold.

    Args:
        paths: CSV (`.csv`, `.csv.gz`) and Parquet (`.parquet`) files.
        note: told about what was skipped, such as a line cut short by a crash.

    Raises:
        RecordingError: a file cannot be read or is wrong; it says where and what to do.
    """
    parts = []
    seen: set[Path] = set()
    for path in paths:
        if (real := path.resolve()) in seen:
            raise RecordingError(
                "it is given twice, and would count for two hosts",
                where=str(path),
                remedy="name every recording once",
            )
        seen.add(real)
        if _kind(path) == "parquet":
            from tailrace import recording_parquet  # noqa: PLC0415 - pyarrow is optional

            parts.append(recording_parquet.read(path))
        else:
            from tailrace import recording_csv  # noqa: PLC0415 - its twin is imported late too

            parts.append(recording_csv.read(path, note=note))
    return Recording(parts)


def pieces(path: Path) -> Iterator[Recording] | None:
    """Return a long file piece by piece, in order of time; None for one that `load` should have.

    Raises:
        RecordingError: as `load`; while iterating, too.
    """
    if _kind(path) != "parquet":
        return None
    from tailrace import recording_parquet  # noqa: PLC0415 - pyarrow is optional

    parts = recording_parquet.read_pieces(path)
    return None if parts is None else (Recording([part]) for part in parts)


def read(
    paths: Iterable[Path], *, note: Callable[[str], None] = lambda _: None
) -> Iterator[Window]:
    """Yield the windows of some files, by time; see `load`."""
    return iter(load(paths, note=note))


def create(path: Path) -> Recorder:
    """Return a recorder that writes a new file, CSV or Parquet by its name.

    Raises:
        RecordingError: the file cannot be written, or its name says neither.
    """
    if _kind(path) == "parquet":
        from tailrace import recording_parquet  # noqa: PLC0415 - pyarrow is optional

        return recording_parquet.ParquetRecorder(path)
    from tailrace import recording_csv  # noqa: PLC0415 - its twin is imported late too

    return recording_csv.CsvRecorder(path)


def _kind(path: Path) -> str:
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return "csv"
    if name.endswith(".parquet"):
        return "parquet"
    raise RecordingError(
        "a recording's name tells its format, this one does not",
        where=str(path),
        remedy="name it .csv, .csv.gz or .parquet",
    )


def _join(arrays: Sequence[NDArray[Any]], kind: type[_T]) -> NDArray[_T]:
    return np.concatenate(arrays).astype(kind) if arrays else np.empty(0, kind)


def _first_known(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known[0]) if len(known) else float("nan")


def _in_order_of_appearance(codes: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
    """Return the distinct codes by first appearance, and each code's index among them."""
    distinct, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return distinct[order].tolist(), rank[inverse]
