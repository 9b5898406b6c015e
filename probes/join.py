"""The windows of several hosts as one: every pair once, with both of its ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probes.histogram import BUCKETS, quantile_by_group_s
from probes.meetings import End, Meetings
from probes.window import Histograms, Kind, Mark, Pair, Window, kind_of

_PAUSED: Final = 1.5
"""A host whose window is so many times longer than asked for has slept: its rows are left out."""

_OTHER_END: Final = {
    "request_latency": "server_latency",
    "requests": "server_requests",
    "bytes_sent": "server_bytes_received",
    "bytes_received": "server_bytes_sent",
    "accept_latency": "accept_latency",
    "server_read_latency": "server_read_latency",
    "retransmits": "retransmits",
    "stalls": "stalls",
    "drops": "drops",
}
"""What a signal, measured at the server's end, is of a pair that is counted at its client's. What
is not here is the same event at both ends."""
_SHARED: Final = frozenset({"request_latency", "accept_latency", "server_read_latency"})
"""Those that hold for each of several clients who have an address in common."""


class Joined(NamedTuple):
    """One window of several hosts.

    Attributes:
        window: all of them.
        rows: for each host's window, int64[its rows]: the row of `window` in which it is; -1 for
            none.
    """

    window: Window
    rows: list[NDArray[np.int64]]


class _Copies(NamedTuple):
    """Rows of one host's window on their way into the common one.

    Attributes:
        view: which host's.
        row: int64[k], in that window.
        pair: int64[k], number of the pair in the common window.
        signal: int64[k], number of the signal in the common window.
        first: whether these are what the rows themselves became, and not the other end's view.
    """

    view: int
    row: NDArray[np.int64]
    pair: NDArray[np.int64]
    signal: NDArray[np.int64]
    first: bool


class Joiner:
    """Joins windows of the same time; remembers which pairs of two hosts are one."""

    def __init__(self) -> None:
        self._meetings = Meetings()
        self._windows = 0

    def join(self, views: Sequence[tuple[str, Window]]) -> Joined:
        """Return one window made of several hosts', which must be of the same time.

        A pair whose two ends were seen by two hosts is named by both: the client by its host, the
        server by its own. It is counted at its client's end; what the server's end measured stands
        beside it, as with both ends on one host. Pairs of the same names add up.

        Args:
            views: (host, its window), at least one.
        """
        awake = [i for i, (_, w) in enumerate(views) if not w.width > _PAUSED * w.nominal]
        used = awake or list(range(len(views)))
        time = views[0][1].time
        for i in used:
            host, window = views[i]
            for row, marks in window.marks.items():
                self._meetings.note(host, window.pairs[window.pair[row]], marks, time)
        if len(views) == 1 and not self._meetings:
            return Joined(views[0][1], [np.arange(len(views[0][1]))])
        self._windows += 1
        if self._windows % 64 == 0:
            self._meetings.forget(time)
        book = _Book()
        copies = [copy for i in used for copy in self._copies(book, i, views, used)]
        return _combined(copies, book, [window for _, window in views], used)

    def _copies(
        self, book: _Book, view: int, views: Sequence[tuple[str, Window]], used: Sequence[int]
    ) -> list[_Copies]:
        host, window = views[view]
        if book.counted is None:
            book.counted = self._counted_at_clients(views, used)
        main = np.full(len(window.pairs), -1)
        other = main.copy()
        shared: list[tuple[int, int]] = []
        for number, pair in enumerate(window.pairs):
            end = End(host, pair)
            targets = self._meetings.of_server(end)
            if not targets:
                main[number] = book.pair(self._meetings.of_client(end))
                continue
            there = [target for target in targets if target in book.counted]
            if len(targets) == 1 and not there:  # its client's host is silent
                main[number] = book.pair(targets[0])
                continue
            if not there or not self._meetings.is_whole(end, window.time):
                main[number] = book.pair(pair)
            if len(targets) == 1:
                other[number] = book.pair(targets[0])
            else:
                shared += [(number, book.pair(target)) for target in there]
        return _rows(book, view, window, _Targets(main, other, shared))

    def _counted_at_clients(
        self, views: Sequence[tuple[str, Window]], used: Sequence[int]
    ) -> set[Pair]:
        """Return the pairs that are counted at their client's end, as they are called."""
        return {
            self._meetings.of_client(End(host, pair))
            for host, window in (views[i] for i in used)
            for pair in window.pairs
            if not self._meetings.of_server(End(host, pair))
        }


class _Targets(NamedTuple):
    """Which pair of the common window each pair of one host's is.

    Attributes:
        main: int64[pairs], where it counts; -1 for nowhere.
        other: int64[pairs], where it is the other end's view; -1 for nowhere.
        shared: (pair, where it is the view of one of several clients).
    """

    main: NDArray[np.int64]
    other: NDArray[np.int64]
    shared: Sequence[tuple[int, int]]


class _Book:
    """Numbers pairs and signals as they appear."""

    def __init__(self) -> None:
        self.pairs: dict[Pair, int] = {}
        self.signals: dict[str, int] = {}
        self.counted: set[Pair] | None = None

    def pair(self, pair: Pair) -> int:
        return self.pairs.setdefault(pair, len(self.pairs))

    def signal(self, name: str) -> int:
        return self.signals.setdefault(name, len(self.signals))


def _rows(book: _Book, view: int, window: Window, targets: _Targets) -> list[_Copies]:
    main, other, shared = targets
    own = np.array([book.signal(name) for name in window.signals], np.int64)
    at_other = np.array(
        [book.signal(_OTHER_END[n]) if n in _OTHER_END else -1 for n in window.signals], np.int64
    )
    both = np.array([name in _SHARED for name in window.signals], np.bool_)
    pair, signal = window.pair.astype(np.int64), window.signal.astype(np.int64)
    row = np.flatnonzero(main[pair] >= 0)
    found = [_Copies(view, row, main[pair[row]], own[signal[row]], first=True)]
    row = np.flatnonzero((other[pair] >= 0) & (at_other[signal] >= 0))
    found.append(_Copies(view, row, other[pair[row]], at_other[signal[row]], first=False))
    for number, target in shared:
        row = np.flatnonzero((pair == number) & both[signal])
        found.append(
            _Copies(view, row, np.full(len(row), target), at_other[signal[row]], first=False)
        )
    return found


def _combined(
    copies: Sequence[_Copies], book: _Book, windows: Sequence[Window], used: Sequence[int]
) -> Joined:
    """Add up the copies that are about the same pair and signal."""
    signals = tuple(book.signals)
    width = max(len(signals), 1)
    key, of = np.unique(
        np.concatenate([copy.pair * width + copy.signal for copy in copies]), return_inverse=True
    )
    start = np.cumsum([0, *(len(copy.row) for copy in copies)])
    parts = [(copy, of[start[i] : start[i + 1]]) for i, copy in enumerate(copies)]
    value = np.concatenate([windows[copy.view].value[copy.row] for copy, _ in parts])
    count = np.concatenate([windows[copy.view].count[copy.row] for copy, _ in parts])
    kinds = [kind_of(signal) for signal in signals]
    summed = np.array([kind in (Kind.COUNT, Kind.SUM) for kind in kinds], np.bool_)[key % width]
    # a rate is so much in its own host's window, which another's is a little shorter or longer than
    longest = max(windows[i].width for i in used)
    own = np.concatenate([np.full(len(copy.row), windows[copy.view].width) for copy, _ in parts])
    value = np.where(summed[of] & (own < longest), value * own / longest, value)
    counted = np.where(np.isnan(count), 0.0, count)
    total = np.bincount(of, counted, len(key))
    weight = np.where(total[of] > 0, counted, 1.0)
    mean = np.bincount(of, weight * value, len(key)) / np.bincount(of, weight, len(key))
    result = np.where(summed, np.bincount(of, value, len(key)), mean)
    several = np.bincount(of, minlength=len(key)) > 1
    # of one alone, to the last bit
    single = ~several[of]
    result[of[single]] = value[single]
    histograms = _histograms(parts, windows)
    group, median, _ = quantile_by_group_s(
        histograms.row.astype(np.int64), histograms.bucket.astype(np.int64), histograms.number, 0.5
    )
    result[group[several[group]]] = median[several[group]]
    unknown = np.bincount(of, ~np.isnan(count), len(key)) == 0
    pairs = tuple(book.pairs)
    window = Window(
        time=windows[0].time,
        width=longest,
        nominal=windows[used[0]].nominal,
        lost=sum(windows[i].lost for i in used),
        pairs=pairs,
        signals=signals,
        pair=(key // width).astype(np.int32),
        signal=(key % width).astype(np.int16),
        value=result,
        count=np.where(unknown, np.nan, total),
        histograms=histograms,
        causes=_causes(parts, windows),
        marks=_marks(parts, windows),
    )
    rows = [np.full(len(each), -1) for each in windows]
    for copy, to in sorted(parts, key=lambda part: part[0].first):
        rows[copy.view][copy.row] = to
    return Joined(window, rows)


_Parts = Sequence[tuple[_Copies, NDArray[np.int64]]]


def _histograms(parts: _Parts, windows: Sequence[Window]) -> Histograms:
    row, bucket, number = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for copy, to in parts:
        window = windows[copy.view]
        place = np.full(len(window), -1)
        place[copy.row] = to
        entries = window.histograms
        there = place[entries.row] >= 0
        row.append(place[entries.row[there]])
        bucket.append(entries.bucket[there].astype(np.int64))
        number.append(entries.number[there])
    key, of = np.unique(np.concatenate(row) * BUCKETS + np.concatenate(bucket), return_inverse=True)
    amount = np.bincount(of, np.concatenate(number), len(key)).astype(np.int64)
    return Histograms((key // BUCKETS).astype(np.int32), (key % BUCKETS).astype(np.int16), amount)


def _causes(parts: _Parts, windows: Sequence[Window]) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = {}
    for copy, to in parts:
        causes = windows[copy.view].causes
        if not causes:
            continue
        for row, target in zip(copy.row.tolist(), to.tolist(), strict=True):
            for cause, number in causes.get(row, {}).items():
                at = found.setdefault(target, {})
                at[cause] = at.get(cause, 0) + number
    return found


def _marks(parts: _Parts, windows: Sequence[Window]) -> dict[int, tuple[Mark, ...]]:
    """Return the marks of what was joined with nobody, or not yet."""
    found: dict[int, tuple[Mark, ...]] = {}
    for copy, to in parts:
        marks = windows[copy.view].marks
        if marks and copy.first:
            for row, target in zip(copy.row.tolist(), to.tolist(), strict=True):
                if row in marks:
                    found[target] = (*found.get(target, ()), *marks[row])
    return found
