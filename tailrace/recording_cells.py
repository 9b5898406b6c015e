"""The cells of a recording: text to numbers and back, the same for CSV and Parquet."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from probes.histogram import BUCKETS
from probes.window import Histograms, Mark, Pair, Window
from tailrace.durations import epoch_s

_MARKS = re.compile("[cs]:[0-9a-f]{16}( [cs]:[0-9a-f]{16})*")


class BadRow(Exception):  # noqa: N818 - it never leaves the readers
    """A row that cannot be read.

    Attributes:
        index: which row of the block at hand.
        what: what is wrong with it.
        remedy: what to do about it.
    """

    def __init__(self, index: int, what: str, remedy: str) -> None:
        super().__init__(what)
        self.index, self.what, self.remedy = index, what, remedy


class Codes(dict[object, int]):
    """Numbers things by first appearance; `codes[thing]` is its number."""

    def __missing__(self, thing: object) -> int:
        self[thing] = number = len(self)
        return number

    def of(self, things: Sequence[object]) -> NDArray[np.int64]:
        """Return every thing's number."""
        return np.fromiter(map(self.__getitem__, things), np.int64, len(things))


def numbers(column: str, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return a column's numbers, NaN for an empty cell.

    Raises:
        BadRow: a cell is not a finite number.
    """
    if not any(texts):
        return np.full(len(texts), np.nan)
    try:
        result = np.fromiter((float(t) if t else math.nan for t in texts), np.float64, len(texts))
    except ValueError:
        at = next(i for i, text in enumerate(texts) if text and not _is_number(text))
        raise BadRow(
            at, f"{column} {texts[at]!r} is not a number", "write a number, or nothing when unknown"
        ) from None
    check_finite(column, result)
    return result


def check_finite(column: str, values: NDArray[np.float64]) -> None:
    """Raise BadRow when a number is infinite, or negative where that cannot be."""
    if (bad := np.isinf(values)).any():
        raise BadRow(
            int(bad.argmax()), f"{column} is infinite", "leave it empty when it is unknown"
        )
    if column in ("count", "width", "nominal", "lost") and (bad := values < 0).any():
        raise BadRow(int(bad.argmax()), f"{column} is negative", "write 0 or more, or nothing")


def lost_samples(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the column `lost`, 0 where it is empty."""
    filled = np.nan_to_num(values, nan=0.0)
    if (bad := filled != np.floor(filled)).any():
        raise BadRow(int(bad.argmax()), "lost is not a whole number", "write how many were lost")
    return filled.astype(np.int64)


def epochs(times: Sequence[object], codes: NDArray[np.int64]) -> list[float]:
    """Return the times that `codes` may refer to as epoch seconds; NaN never comes out."""
    result = []
    for number, text in enumerate(times):
        try:
            result.append(epoch_s(str(text)))
        except (ValueError, OverflowError) as error:
            raise BadRow(
                _first(codes, number),
                f"time {error}",
                "write epoch seconds or a time like 2026-01-02T03:04:05.678Z",
            ) from None
    return result


def pair_of(key: Sequence[str], index: Callable[[], int]) -> Pair:
    """Return the pair of one (client, server, port, transport); `index` finds its first row."""
    client, server, port, transport = key
    for name, text in (("client", client), ("server", server)):
        if not text:
            raise BadRow(index(), f"{name} is empty", "every row names the client and the server")
    try:
        number = float(port)
        if not (number.is_integer() and 0 <= number <= 65535):
            raise ValueError  # noqa: TRY301 - one message for both
    except ValueError:
        raise BadRow(
            index(), f"port {port!r} is not a port", "write the server's port, 0 to 65535"
        ) from None
    return Pair(client, server, int(number), transport or "tcp")


def histogram_texts(window: Window) -> list[str]:
    """Return each row's histogram as text, "" for none."""
    texts = [""] * len(window)
    row, bucket, number = window.histograms
    if not len(row):
        return texts
    cuts = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
    cells = [f"{b}:{n}" for b, n in zip(bucket.tolist(), number.tolist(), strict=True)]
    for start, end in pairwise(cuts):
        texts[int(row[start])] = " ".join(cells[start:end])
    return texts


def causes_texts(window: Window) -> list[str]:
    """Return each row's causes as text, "" for none."""
    texts = [""] * len(window)
    for row, causes in window.causes.items():
        texts[row] = " ".join(f"{name}:{number}" for name, number in causes.items())
    return texts


def marks_texts(window: Window) -> list[str]:
    """Return each row's marks as text, "" for none."""
    texts = [""] * len(window)
    for row, marks in window.marks.items():
        texts[row] = " ".join(f"{'c' if mark.client else 's'}:{mark.value:016x}" for mark in marks)
    return texts


def marks(texts: Sequence[str]) -> dict[int, tuple[Mark, ...]]:
    """Return the marks of a block of rows, by row.

    Raises:
        BadRow: a cell is not `c:hex s:hex …`, of 16 digits each.
    """
    result = {}
    for index, text in enumerate(texts):
        if not text:
            continue
        if not _MARKS.fullmatch(text):
            raise BadRow(
                index, f"marks {_short(text)} cannot be read", "write c:hex s:hex …, 16 digits each"
            )
        result[index] = tuple(Mark(each[0] == "c", int(each[2:], 16)) for each in text.split())
    return result


def histograms(texts: Sequence[str]) -> Histograms:
    """Return the histograms of a block of rows.

    Raises:
        BadRow: a cell is not `bucket:number …` with ascending buckets and numbers above 0.
    """
    rows = [i for i, text in enumerate(texts) if text]
    cells = [texts[i] for i in rows]
    joined = " ".join(cells)
    shape = set(re.sub("[0-9]+", "n", joined).split())
    try:
        flat = np.array(list(map(int, joined.replace(":", " ").split())), np.int64)
        sizes = [text.count(":") for text in cells]
        row = np.repeat(np.array(rows, np.int64), sizes)
        bucket, number = flat[0::2], flat[1::2]
        whole = shape <= {"n:n"} and all(s > 0 for s in sizes)
        good = whole and bool(
            ((bucket >= 0) & (bucket < BUCKETS) & (number > 0)).all()
            and ((np.diff(bucket) > 0) | (np.diff(row) > 0)).all()
        )
    except (ValueError, OverflowError):
        good = False
    if not good:
        at = next((i for i in rows if not _is_histogram(texts[i])), rows[0])
        raise BadRow(
            at,
            f"histogram {_short(texts[at])} cannot be read",
            f"write bucket:number, buckets ascending within 0 to {BUCKETS - 1}, numbers above 0",
        )
    return Histograms(row.astype(np.int32), bucket.astype(np.int16), number)


def causes(texts: Sequence[str]) -> dict[int, Mapping[str, int]]:
    """Return the causes of a block of rows, by row.

    Raises:
        BadRow: a cell is not `cause:number …`.
    """
    result: dict[int, Mapping[str, int]] = {}
    for index, text in enumerate(texts):
        if not text:
            continue
        try:
            parts = (part.rpartition(":") for part in text.split())
            result[index] = {name: int(number) for name, _, number in parts}
            bad = "" in result[index] or min(result[index].values()) < 0
        except ValueError:
            bad = True
        if bad:
            raise BadRow(index, f"causes {_short(text)} cannot be read", "write cause:number …")
    return result


def _is_histogram(text: str) -> bool:
    try:
        cells = [tuple(map(int, cell.split(":"))) for cell in text.split()]
    except ValueError:
        return False
    buckets = [cell[0] for cell in cells if len(cell) == 2 and cell[1] > 0]
    inside = all(0 <= bucket < BUCKETS for bucket in buckets)
    return bool(cells) and inside and len(buckets) == len(cells) and buckets == sorted(set(buckets))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _first(codes: NDArray[np.int64], number: int) -> int:
    return int((codes == number).argmax())
