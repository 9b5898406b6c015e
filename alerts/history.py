"""The last windows of a pair's headline signals, from which pictures of incidents are drawn.

In: windows. Out: a line of bars. A value is one byte, as a picture has eight heights: its
logarithm, in steps of 17 %. Of `MOST_PAIRS` pairs, those that came first; one without a value in
the last `LENGTH` windows makes room. That is 240 bytes a pair, half a megabyte in all.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from probes.window import Pair, Window

LENGTH: Final = 60
MOST_PAIRS: Final = 2_000
SIGNALS: Final = ("request_latency", "requests", "connect_errors", "connections")
BARS: Final = "▁▂▃▄▅▆▇█"
_MAKE_ROOM_EVERY: Final = 60
_NONE, _ZERO, _LEAST = 0, 1, 2
_STEPS_PER_OCTAVE, _FIRST_OCTAVE = 4.4, -24.0
"""From 2**-24 (a tenth of a microsecond) to 2**33 (10^10)."""


class History:
    """What pairs did in the last `LENGTH` windows."""

    def __init__(self) -> None:
        self._number: dict[Pair, int] = {}
        self._values = np.zeros((0, len(SIGNALS), LENGTH), np.uint8)
        self._windows = 0
        self._last: tuple[tuple[Pair, ...], NDArray[np.int64]] | None = None

    def update(self, window: Window) -> None:
        """Take the next window."""
        numbers = self._numbers(window.pairs)
        at = self._windows % LENGTH
        self._values[:, :, at] = _NONE
        for column, signal in enumerate(SIGNALS):
            if signal not in window.signals:
                continue
            rows = np.flatnonzero(window.signal == window.signals.index(signal))
            number = numbers[window.pair[rows]]
            known = number >= 0
            self._values[number[known], column, at] = _level(window.value[rows[known]])
        self._windows += 1
        if self._windows % _MAKE_ROOM_EVERY == 0:
            self._make_room()

    def _numbers(self, pairs: tuple[Pair, ...]) -> NDArray[np.int64]:
        """Return the number of each pair of a window; -1 for one without a history."""
        if self._last is not None and self._last[0] is pairs:
            return self._last[1]
        fresh = [pair for pair in pairs if pair not in self._number]
        for pair in fresh[: MOST_PAIRS - len(self._number)]:
            self._number[pair] = len(self._number)
        more = len(self._number) - len(self._values)
        self._values = np.concatenate(
            [self._values, np.zeros((more, len(SIGNALS), LENGTH), np.uint8)]
        )
        numbers = np.array([self._number.get(pair, -1) for pair in pairs], np.int64)
        self._last = pairs, numbers
        return numbers

    def _make_room(self) -> None:
        keep = np.asarray(self._values.any(axis=(1, 2)), np.bool_)
        if keep.all() and len(keep) < MOST_PAIRS:
            return
        pairs = [pair for pair, number in self._number.items() if keep[number]]
        self._number = {pair: i for i, pair in enumerate(pairs)}
        self._values = self._values[keep]
        self._last = None

    def picture(self, pair: Pair, signal: str) -> str:
        """Return what a signal of a pair was in the last windows, oldest first, a bar each.

        A space is a window without a value; "" when there is none at all. A signal that has no
        history stands for the traffic that it is about.
        """
        number = self._number.get(pair)
        if number is None:
            return ""
        column = SIGNALS.index(signal) if signal in SIGNALS else SIGNALS.index("requests")
        order = (self._windows + np.arange(LENGTH)) % LENGTH
        levels = self._values[number, column, order]
        values = [_value(level) for level in levels.tolist()]
        there = [value for value in values if not math.isnan(value)]
        if not there:
            return ""
        top = max(there)
        bars = [
            " " if math.isnan(value) else BARS[round(7 * value / top) if top > 0.0 else 0]
            for value in values
        ]
        return "".join(bars).lstrip()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        packed = zlib.compress(self._values.tobytes(), 1)
        return {
            "pairs": [list(pair) for pair in self._number],
            "values": base64.b64encode(packed).decode(),
            "windows": self._windows,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_json` was made of."""
        self = cls()
        self._number = {Pair(*pair): i for i, pair in enumerate(data["pairs"])}
        raw = zlib.decompress(base64.b64decode(data["values"]))
        values = np.frombuffer(raw, np.uint8).reshape(-1, len(SIGNALS), LENGTH)
        self._values, self._windows = values.copy(), data["windows"]
        return self


def _level(value: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return values as bytes: 0 for none, 1 for zero, else the logarithm."""
    there = np.isfinite(value)
    positive = there & (value > 0.0)
    octaves = np.log2(np.where(positive, value, 1.0)) - _FIRST_OCTAVE
    level = np.clip(np.round(octaves * _STEPS_PER_OCTAVE) + _LEAST, _LEAST, 255)
    return np.where(positive, level, np.where(there, _ZERO, _NONE)).astype(np.uint8)


def _value(level: int) -> float:
    if level < _LEAST:
        return 0.0 if level == _ZERO else math.nan
    return float(2.0 ** ((level - _LEAST) / _STEPS_PER_OCTAVE + _FIRST_OCTAVE))
