"""Where the boxes and lines of a service map are, in pixels."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from alerts import words
from tailrace.draw.layers import Edge, Layers, is_waypoint, lay_out

HEIGHT: Final = 28.0
_PITCH, _WAYPOINT_PITCH = 48.0, 18.0
_GAP, _WIDE_GAP, _GAP_PER_ROW = 64.0, 220.0, 7.0
_MARGIN, _TOP = 6.0, 22.0
_LETTER_PX, _LONGEST = 6.9, 26
_NARROWEST: Final = 56.0
_BACK_PX: Final = 8.0
"""An edge that leads back is so much lower than one between the same two that does not."""
_PASSES: Final = 12


class Point(NamedTuple):
    """A place in the picture, in pixels from its upper left corner."""

    x: float
    y: float


class Box(NamedTuple):
    """A part of the picture."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        """Return whether two boxes have a part in common."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


def shortened(name: str) -> str:
    """Return a service's name with its middle left out when it is long."""
    name = words.clean(name)
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST // 2]}…{name[-(_LONGEST // 2 - 1) :]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """A laid out map.

    Attributes:
        boxes: of each service.
        width: of the whole, in pixels.
        height: likewise.
        layers: what it was made of.
        columns: of each layer, where it begins and ends, x in pixels.
        middle: of each service and waypoint, y in pixels.
    """

    boxes: Mapping[str, Box]
    width: float
    height: float
    layers: Layers
    columns: Sequence[tuple[float, float]]
    middle: Mapping[str, float]

    def points(self, client: str, server: str) -> list[Point]:
        """Return the places through which an edge goes, from its client to its server."""
        if client == server:
            return self._loop(self.boxes[client])
        way = self.layers.way[client, server]
        first = next(i for i, layer in enumerate(self.layers.order) if way[0] in layer)
        lower = _BACK_PX if (client, server) in self.layers.back else 0.0
        points: list[Point] = []
        for number, key in enumerate(way):
            y = self.middle[key] + lower
            left, right = self.columns[first + number]
            if is_waypoint(key):
                points += [Point(left, y), Point(right, y)]
                continue
            box = self.boxes[key]
            points.append(Point(box.x + box.width if number == 0 else box.x, y))
        return points[::-1] if lower else points

    @staticmethod
    def _loop(box: Box) -> list[Point]:
        right, y = box.x + box.width, box.y + box.height / 2
        return [Point(right, y + 6), Point(right + 30, y + 6), Point(right + 30, y - 6),
                Point(right, y - 6)]  # fmt: skip


def along(points: Sequence[Point], share: float) -> Point:
    """Return the place at a share of the way, by the width that it has gone."""
    lengths = [abs(b.x - a.x) + 1e-9 for a, b in itertools.pairwise(points)]
    goal = share * sum(lengths)
    for one, other, length in zip(points, points[1:], lengths, strict=False):
        if goal <= length:
            t = goal / length
            # Both curves have their control points half way: x is nearly linear, y is eased
            return Point(one.x + (other.x - one.x) * t,
                         one.y + (other.y - one.y) * (3 * t * t - 2 * t**3))  # fmt: skip
        goal -= length
    return points[-1]


def place(edges: Sequence[Edge], *, wide: Mapping[Edge, float]) -> Places:
    """Return where everything is.

    Args:
        edges: client and server of each.
        wide: by edge, the room that its label needs, in pixels.
    """
    names = sorted({name for edge in edges for name in edge})
    layers = lay_out(names, edges)
    columns, width = _columns(layers, wide)
    middle = _middles(layers)
    at = {key: i for i, layer in enumerate(layers.order) for key in layer}
    boxes = {}
    for name in names:
        left, right = columns[at[name]]
        wide_px = _box_width(name)
        boxes[name] = Box((left + right - wide_px) / 2, middle[name] - HEIGHT / 2, wide_px, HEIGHT)
    height = max((box.y + box.height for box in boxes.values()), default=0.0) + _MARGIN
    height = max(height, max(middle.values(), default=0.0) + _BACK_PX + _MARGIN)
    loops = any(client == server for client, server in wide)
    return Places(boxes=boxes, width=width + (40.0 if loops else 0.0), height=height,
                  layers=layers, columns=columns, middle=middle)  # fmt: skip


def _box_width(name: str) -> float:
    shown = shortened(name)
    cells = sum(1.7 if unicodedata.east_asian_width(c) in "WF" else 1.0 for c in shown)
    return max(_NARROWEST, cells * _LETTER_PX + 20)


def _columns(layers: Layers, wide: Mapping[Edge, float]) -> tuple[list[tuple[float, float]], float]:
    """Return where each layer begins and ends, and the width of all."""
    at = {key: i for i, layer in enumerate(layers.order) for key in layer}
    # Lines to many that stand above each other need more room to tell them apart
    tallest = [max(map(len, each)) for each in itertools.pairwise([*layers.order, ()])]
    gaps = [min(max(_GAP, _GAP_PER_ROW * rows), _WIDE_GAP) for rows in tallest]
    for edge, room in wide.items():
        if edge[0] == edge[1]:
            continue
        # A label stands in the middle of its edge's way, or a little to either side
        ends = sorted((at[edge[0]], at[edge[1]]))
        between = (ends[0] + ends[1] - 1) // 2
        gaps[between] = min(max(gaps[between], room + 30), _WIDE_GAP)
    x = _MARGIN
    columns: list[tuple[float, float]] = []
    for layer, gap in zip(layers.order, gaps, strict=True):
        width = max((_box_width(key) for key in layer if not is_waypoint(key)), default=0.0)
        columns.append((x, x + width))
        x += width + gap
    last = gaps[-1] if gaps else 0.0
    return columns, x - last + _MARGIN


def _middles(layers: Layers) -> dict[str, float]:
    """Return the height of everything: near its neighbours, in order, and none on another."""
    beside: dict[str, list[str]] = {}
    for way in layers.way.values():
        for one, other in itertools.pairwise(way):
            beside.setdefault(one, []).append(other)
            beside.setdefault(other, []).append(one)
    middle: dict[str, float] = {}
    for layer in layers.order:
        offsets = _offsets(layer)
        middle |= {key: at - offsets[-1] / 2 for key, at in zip(layer, offsets, strict=True)}
    for sweep in range(_PASSES):
        order = layers.order if sweep % 2 else layers.order[::-1]
        for layer in order:
            wanted = [_mean([middle[n] for n in beside.get(key, ())], middle[key]) for key in layer]
            middle |= dict(zip(layer, _apart(wanted, _offsets(layer)), strict=True))
    top = min(middle.values(), default=0.0) - HEIGHT / 2 - _TOP
    return {key: y - top for key, y in middle.items()}


def _offsets(layer: Sequence[str]) -> list[float]:
    """Return how far each is below the first when they are as near as they may be."""
    offsets, y = [0.0], 0.0
    for one, other in itertools.pairwise(layer):
        pitches = [_WAYPOINT_PITCH if is_waypoint(key) else _PITCH for key in (one, other)]
        y += sum(pitches) / 2
        offsets.append(y)
    return offsets[: len(layer)] or [0.0]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _apart(wanted: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """Return the heights nearest to those wanted (least squares) with the least distances kept.

    Pool adjacent violators on what is wanted less the least distances.
    """
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        total, number = float(want - offset), 1
        while pools and pools[-1][0] / pools[-1][1] >= total / number:
            more, count = pools.pop()
            total, number = total + more, number + count
        pools.append((total, number))
    levels = [total / number for total, number in pools for _ in range(number)]
    return [level + offset for level, offset in zip(levels, offsets, strict=True)]
