"""A layered layout of a directed graph (Sugiyama, Tagawa and Toda 1981), left to right.

Cycles are broken at the edges that lead back in a walk from the left; a node's layer is the longest
way to it; long edges get a waypoint in each layer between; the order within layers comes from
medians of neighbours, swept right and left (Gansner and others 1993), and of all sweeps the one
with the fewest crossings counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Edge = tuple[str, str]
_SWEEPS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Where nodes are.

    Attributes:
        order: of each layer, from the left: its nodes and waypoints, from the top.
        way: of each edge from one node to another, the nodes and waypoints that it goes through,
            both ends included, from the left; of one that leads back, its server comes first.
        back: the edges that lead back.
    """

    order: tuple[tuple[str, ...], ...]
    way: Mapping[Edge, tuple[str, ...]]
    back: frozenset[Edge]


def lay_out(nodes: Sequence[str], edges: Sequence[Edge]) -> Layers:
    """Return the layers of a graph; the same for the same names, whatever their order.

    Args:
        nodes: all names, those at the ends of edges included.
        edges: client and server; those from a node to itself are left out.
    """
    names = sorted(set(nodes))
    wanted = sorted({edge for edge in edges if edge[0] != edge[1]})
    back = _leading_back(names, wanted)
    forward = sorted({(b, a) if (a, b) in back else (a, b) for a, b in wanted})
    layer = _layers(names, forward)
    way = _ways(forward, layer)
    order = _ordered(names, layer, way)
    return Layers(
        order=tuple(tuple(each) for each in order),
        way={(a, b): way[(b, a) if (a, b) in back else (a, b)] for a, b in wanted},
        back=frozenset(back),
    )


def _leading_back(names: Sequence[str], edges: Sequence[Edge]) -> set[Edge]:
    """Return the edges that close a cycle, in a walk that begins with those that nobody calls."""
    callees: dict[str, list[str]] = {name: [] for name in names}
    called: dict[str, int] = dict.fromkeys(names, 0)
    for client, server in edges:
        callees[client].append(server)
        called[server] += 1
    starts = sorted(names, key=lambda n: (called[n] - len(callees[n]), n))
    back: set[Edge] = set()
    done: set[str] = set()
    for start in starts:
        _walk(start, callees, done, back)
    return back


def _walk(
    start: str, callees: Mapping[str, Sequence[str]], done: set[str], back: set[Edge]
) -> None:
    if start in done:
        return
    on_way = {start: 0}
    path = [start]
    while path:
        here = path[-1]
        at = on_way[here]
        if at == len(callees[here]):
            done.add(here)
            path.pop()
            del on_way[here]
            continue
        on_way[here] += 1
        following = callees[here][at]
        if following in on_way:
            back.add((here, following))
        elif following not in done:
            on_way[following] = 0
            path.append(following)


def _layers(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Return each node's layer: the longest way to it, then as near to its servers as that lets."""
    into: dict[str, list[str]] = {name: [] for name in names}
    out: dict[str, list[str]] = {name: [] for name in names}
    for a, b in edges:
        into[b].append(a)
        out[a].append(b)
    layer: dict[str, int] = {}
    waiting = {name: len(into[name]) for name in names}
    ready = [name for name in names if not waiting[name]]
    sequence: list[str] = []
    while ready:
        name = ready.pop()
        sequence.append(name)
        layer[name] = max((layer[a] + 1 for a in into[name]), default=0)
        for b in out[name]:
            waiting[b] -= 1
            if not waiting[b]:
                ready.append(b)
    for name in reversed(sequence):
        # Who is called by nobody stands beside what it calls, not at the far left
        if out[name] and not into[name]:
            layer[name] = min(layer[b] for b in out[name]) - 1
    return layer


def _ways(edges: Sequence[Edge], layer: Mapping[str, int]) -> dict[Edge, tuple[str, ...]]:
    ways = {}
    for number, (a, b) in enumerate(edges):
        between = range(layer[a] + 1, layer[b])
        # NUL is in no service's name
        ways[(a, b)] = (a, *(f"\0{number}\0{at}" for at in between), b)
    return ways


def is_waypoint(key: str) -> bool:
    """Return whether a key of a layer is a place on a long edge's way, and no node."""
    return key.startswith("\0")


def _ordered(
    names: Sequence[str], layer: Mapping[str, int], ways: Mapping[Edge, tuple[str, ...]]
) -> list[list[str]]:
    count = max(layer.values(), default=-1) + 1
    order: list[list[str]] = [[] for _ in range(count)]
    left: dict[str, list[str]] = {}
    right: dict[str, list[str]] = {}
    for name in names:
        order[layer[name]].append(name)
    for (a, _), way in ways.items():
        for step, key in enumerate(way[1:-1], start=1):
            order[layer[a] + step].append(key)
        for one, other in itertools.pairwise(way):
            right.setdefault(one, []).append(other)
            left.setdefault(other, []).append(one)
    best, fewest = [list(each) for each in order], _crossings(order, right)
    for sweep in range(_SWEEPS):
        rightwards = sweep % 2 == 0
        span = range(1, count) if rightwards else range(count - 2, -1, -1)
        for at in span:
            _by_median(order[at], left if rightwards else right,
                       order[at - 1] if rightwards else order[at + 1])  # fmt: skip
        crossings = _crossings(order, right)
        if crossings < fewest:
            best, fewest = [list(each) for each in order], crossings
    return best


def _by_median(
    layer: list[str], neighbours: Mapping[str, Sequence[str]], beside: Sequence[str]
) -> None:
    place = {key: at for at, key in enumerate(beside)}
    own = {key: at for at, key in enumerate(layer)}
    scale = len(beside) / max(len(layer), 1)

    def wanted(key: str) -> tuple[float, int]:
        places = sorted(place[n] for n in neighbours.get(key, ()) if n in place)
        if not places:
            return own[key] * scale, own[key]
        # The mean breaks the ties that medians leave
        middle = places[len(places) // 2] if len(places) % 2 else (
            (places[len(places) // 2 - 1] + places[len(places) // 2]) / 2
        )  # fmt: skip
        return middle + 0.01 * sum(places) / len(places), own[key]

    layer.sort(key=wanted)


def _crossings(order: Sequence[Sequence[str]], right: Mapping[str, Sequence[str]]) -> int:
    total = 0
    for one, other in itertools.pairwise(order):
        place = {key: at for at, key in enumerate(other)}
        ends: list[int] = []
        for key in one:
            ends += sorted(place[n] for n in right.get(key, ()) if n in place)
        total += _inversions(ends)
    return total


def _inversions(numbers: list[int]) -> int:
    """Return how many pairs are in the wrong order (merge sort)."""
    if len(numbers) < 2:
        return 0
    half = len(numbers) // 2
    one, other = numbers[:half], numbers[half:]
    total = _inversions(one) + _inversions(other)
    one.sort()
    other.sort()
    at = 0
    for number in other:
        while at < len(one) and one[at] <= number:
            at += 1
        total += len(one) - at
    return total
