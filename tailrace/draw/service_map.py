"""Services and who calls whom as SVG, callers at the left: what is flagged stands out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from xml.etree import ElementTree as Tree

from alerts import words
from alerts.severity import SEVERITIES, Severity, rank
from tailrace.draw import markup
from tailrace.draw.places import Box, Places, Point, along, place, shortened

MOST_SERVICES: Final = 60
"""Above this, only what is next to what is flagged is drawn, and the busiest."""
_LABEL_PX, _LABEL_HEIGHT = 6.3, 15.0
_NOTE_HEIGHT: Final = 24.0
_THINNEST, _THICKEST = 1.0, 4.0
_ALONG: Final = (0.5, 0.4, 0.6, 0.3, 0.7, 0.22, 0.78)
"""Where on its edge a label may stand, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """That one service calls another.

    Attributes:
        client: who calls.
        server: who is called.
        traffic: how much, per second, by whatever measure; decides how thick it is.
        severity: of what is flagged; "" for nothing.
        label: what is flagged, in two or three words ("latency 4.9x").
        detail: more of it, for a tooltip.
        href: where a click leads; "" for nowhere.
    """

    client: str
    server: str
    traffic: float = 0.0
    severity: Severity | str = ""
    label: str = ""
    detail: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """That a service is probably the cause of an incident.

    Attributes:
        severity: of that incident.
        label: how sure, e.g. "root, 81 %".
        href: where a click leads; "" for nowhere.
    """

    severity: Severity
    label: str
    href: str = ""


def svg(
    edges: Iterable[Edge],
    *,
    roots: Mapping[str, Root] | None = None,
    links: Mapping[str, str] | None = None,
    most: int = MOST_SERVICES,
) -> str:
    """Return the map of services; several edges between the same two are drawn as one.

    Services have `data-service`, edges `data-client` and `data-server`, for a page to act on.

    Args:
        edges: who calls whom, in any order.
        roots: by service, where incidents come from.
        links: by service, where a click on it leads.
        most: how many services to draw at most; what is left out is stated in the picture.

    Returns:
        The picture; of no edges, one that says so.
    """
    known = roots or {}
    every = _merged(edges)
    shown, note = chosen(every, known, most=most)
    places = place([(edge.client, edge.server) for edge in shown], wide=_labelled(shown))
    hrefs = [edge.href for edge in every] + [each.href for each in known.values()]
    linked = bool(links) or any(hrefs)
    root = markup.svg(
        max(places.width, 420.0), places.height + _NOTE_HEIGHT, css="map", title="Service map",
        desc=_described(every, known), role="group" if linked else "img",
    )  # fmt: skip
    drawing = _Drawing(root, places)
    busiest = max((edge.traffic for edge in shown), default=0.0)
    for edge in sorted(shown, key=_importance, reverse=True):  # what is flagged on top of the rest
        drawing.edge(edge, _thickness(edge.traffic, busiest))
    touched = {name for e in shown if e.severity for name in (e.client, e.server)}
    for name in sorted(places.boxes):
        drawing.node(name, known.get(name), (links or {}).get(name, ""), quiet=name not in touched)
    for edge in sorted(shown, key=_importance):
        drawing.label(edge)
    said = [note, "from caller to callee, thicker with more traffic"] if shown else [note]
    markup.add(root, "text", "; ".join(filter(None, said)), class_="note", x=4,
               y=places.height + 14)  # fmt: skip
    return markup.render(root)


def chosen(
    edges: Sequence[Edge], roots: Mapping[str, Root], *, most: int = MOST_SERVICES
) -> tuple[list[Edge], str]:
    """Return the edges to draw, and what to say of those that are not; "" for all.

    Args:
        edges: no two between the same services in the same direction.
        roots: as for `svg`.
        most: how many services at most.
    """
    services = {name for edge in edges for name in (edge.client, edge.server)}
    if not services:
        return [], "no service pairs"
    if len(services) <= most:
        return list(edges), ""
    flagged = {name for e in edges if e.severity for name in (e.client, e.server)}
    hearts = flagged | {name for name in roots if name in services}

    def order(edge: Edge) -> tuple[bool, int, bool, float, str, str]:
        beside = edge.client in hearts or edge.server in hearts
        return (edge.client not in roots and edge.server not in roots and not edge.severity,
                _rank(edge), not beside, -edge.traffic, edge.client, edge.server)  # fmt: skip

    kept: dict[str, None] = {}
    for edge in sorted(edges, key=order):
        more = {edge.client, edge.server} - kept.keys()
        if len(kept) + len(more) <= most:
            kept.update(dict.fromkeys(sorted(more)))
    shown = [edge for edge in edges if edge.client in kept and edge.server in kept]
    which = "those next to what is flagged, and the busiest" if hearts else "the busiest"
    return shown, f"{len(kept)} of {len(services)} services are drawn: {which}"


def _merged(edges: Iterable[Edge]) -> list[Edge]:
    """Return one edge for all from one service to another: the most severe, with all traffic."""
    found: dict[tuple[str, str], Edge] = {}
    for edge in sorted(edges, key=lambda e: (_rank(e), -e.traffic, e.label, e.detail)):
        first = found.get((edge.client, edge.server))
        if first is None:
            found[edge.client, edge.server] = edge
            continue
        found[edge.client, edge.server] = replace(
            first,
            traffic=first.traffic + edge.traffic,
            detail="\n".join(filter(None, (first.detail, edge.detail))),
        )
    return [found[key] for key in sorted(found)]


def _rank(edge: Edge) -> int:
    return rank(edge.severity) if edge.severity in SEVERITIES else len(SEVERITIES)


def _importance(edge: Edge) -> tuple[int, float, str, str]:
    return _rank(edge), -edge.traffic, edge.client, edge.server


def _labelled(edges: Sequence[Edge]) -> dict[tuple[str, str], float]:
    """Return how much room the labels need, by edge, in pixels."""
    return {(e.client, e.server): len(e.label) * _LABEL_PX + 16 for e in edges if e.label}


def _thickness(traffic: float, busiest: float) -> float:
    """Return how thick an edge is: by the logarithm, as traffic differs by powers of ten."""
    if busiest <= 0.0 or traffic <= 0.0:
        return _THINNEST
    share = math.log1p(traffic) / math.log1p(busiest)
    return _THINNEST + (_THICKEST - _THINNEST) * share


def _described(edges: Sequence[Edge], roots: Mapping[str, Root]) -> str:
    services = {name for edge in edges for name in (edge.client, edge.server)}
    flagged = sorted((edge for edge in edges if edge.severity), key=_importance)
    said = [f"{len(services)} services, {len(edges)} connections between them, "
            f"{len(flagged)} of them flagged"]  # fmt: skip
    said += [f"{words.clean(name)}: {root.label}" for name, root in sorted(roots.items())]
    said += [f"{_from_to(e)}: {e.severity}, {e.label}" for e in flagged[:20]]
    return ". ".join(said)


def _from_to(edge: Edge) -> str:
    return f"{words.clean(edge.client)} to {words.clean(edge.server)}"


class _Drawing:
    """One map being drawn; labels know where others already are."""

    def __init__(self, root: Tree.Element, places: Places) -> None:
        self._root, self._places = root, places
        self._taken = list(places.boxes.values())

    def edge(self, edge: Edge, thickness: float) -> None:
        """Draw an edge and its head; one from a service to itself only when it is flagged."""
        if edge.client == edge.server and not edge.severity:
            return
        points = self._places.points(edge.client, edge.server)
        group = markup.add(
            self._linked(edge.href), "g", class_=f"edge {edge.severity}".rstrip(),
            data_client=edge.client, data_server=edge.server,
        )  # fmt: skip
        said = [_from_to(edge), edge.label, edge.detail]
        markup.add(group, "title", "\n".join(filter(None, said)))
        width = thickness + 1.2 if edge.severity else thickness
        size = 5.0 + width
        d = _curve(points, stop_short=size)
        markup.add(group, "path", class_="hit", d=d)
        markup.add(group, "path", d=d, stroke_width=width)
        markup.add(group, "path", class_="head", d=_head(points, size))

    def node(self, name: str, root: Root | None, href: str, *, quiet: bool) -> None:
        """Draw a service as a box with its name."""
        box = self._places.boxes[name]
        css = f"node root flagged {root.severity}" if root else "node quiet" if quiet else "node"
        parent = self._linked(href or (root.href if root else ""))
        group = markup.add(parent, "g", class_=css, data_service=name)
        said = [words.clean(name), root.label if root else ""]
        markup.add(group, "title", ", ".join(filter(None, said)))
        markup.add(group, "rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=6)
        markup.add(group, "text", shortened(name), x=box.x + box.width / 2,
                   y=box.y + box.height / 2 + 4, text_anchor="middle")  # fmt: skip
        if root:
            markup.add(parent, "text", root.label, class_=f"rootmark {root.severity}",
                       x=box.x + box.width / 2, y=box.y - 4, text_anchor="middle")  # fmt: skip
            self._taken.append(Box(box.x, box.y - 16, box.width, 16.0))

    def label(self, edge: Edge) -> None:
        """Write what is flagged beside its edge, where there is room; it is in its title anyway."""
        if not edge.label or not edge.severity:
            return
        points = self._places.points(edge.client, edge.server)
        width = len(edge.label) * _LABEL_PX + 6
        for share in _ALONG:
            x, y = along(points, share)
            box = Box(x - width / 2, y - _LABEL_HEIGHT / 2, width, _LABEL_HEIGHT)
            if not any(box.overlaps(other) for other in self._taken):
                break
        else:
            return
        self._taken.append(box)
        group = markup.add(self._linked(edge.href), "g", class_=f"edge {edge.severity}")
        markup.add(group, "rect", class_="label-ground", x=box.x, y=box.y, width=box.width,
                   height=box.height, rx=3)  # fmt: skip
        markup.add(group, "text", edge.label, x=x, y=y + 4, text_anchor="middle")

    def _linked(self, href: str) -> Tree.Element:
        return markup.add(self._root, "a", href=href) if href else self._root


def _curve(points: Sequence[Point], *, stop_short: float) -> str:
    """Return a curve that leaves and arrives level, and ends where its head begins."""
    parts = [f"M{_xy(points[0])}"]
    for number, (one, other) in enumerate(itertools.pairwise(points), start=1):
        last = number == len(points) - 1
        towards = math.copysign(1.0, other.x - one.x)
        end = Point(other.x - towards * stop_short, other.y) if last else other
        if abs(one.y - other.y) < 0.05:
            parts.append(f"L{_xy(end)}")
            continue
        middle = (one.x + end.x) / 2
        parts.append(f"C{_xy(Point(middle, one.y))} {_xy(Point(middle, end.y))} {_xy(end)}")
    return "".join(parts)


def _head(points: Sequence[Point], size: float) -> str:
    tip, before = points[-1], points[-2]
    back = tip.x - math.copysign(size + 1.0, tip.x - before.x)
    half = size / 2 + 0.5
    return f"M{_xy(tip)}L{_xy(Point(back, tip.y - half))}L{_xy(Point(back, tip.y + half))}Z"


def _xy(point: Point) -> str:
    return f"{markup.number(point.x)} {markup.number(point.y)}"
