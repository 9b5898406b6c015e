"""The first view: what is wrong and why, the map, and the pairs that matter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from alerts.incident import Incident
from probes.window import Pair
from tailrace.draw import flags as flagged
from tailrace.draw import service_map
from tailrace.page import pair_list
from tailrace.page.render import incident_href, render
from tailrace.page.source import Snapshot, is_open
from tailrace.page.views import Part

PAIRS_SHOWN = 12
RECENT_SHOWN = 8
HELD_SHOWN = 5


class Overview:
    """What to look at first."""

    title = "Overview"
    template = "overview.html"

    def parts(self, snapshot: Snapshot, now: float) -> Mapping[str, Part]:
        """Return the parts, as `View` says."""
        going = snapshot.open_incidents()
        told = [each for each in snapshot.incidents if not each.suppressed]
        held = [each for each in snapshot.incidents if each.suppressed and not each.part_of]
        over = [each for each in told if not is_open(each)]
        quiet, past = (
            [each for each in held if is_open(each) is going_on] for going_on in (True, False)
        )
        listed = pair_list.listed(snapshot)
        return {
            "announcement": render("parts/announcement.html", incidents=going),
            "verdict": render("parts/verdict.html", incidents=going, quiet=quiet,
                              snapshot=snapshot, now=now, last=over[0] if over else None),
            "map": drawn(snapshot, [*going, *quiet]),
            "recent": render("parts/incident_list.html", incidents=over[:RECENT_SHOWN], now=now),
            "held": render("parts/incident_list.html", incidents=past[:HELD_SHOWN], now=now),
            "pairs": pair_list.rows(listed[:PAIRS_SHOWN]),
        }  # fmt: skip


def drawn(snapshot: Snapshot, incidents: Sequence[Incident], *, most: int = 40) -> Markup:
    """Return the map of services with what incidents flag."""
    links = {each.id: incident_href(each) for each in incidents}
    traffic = {pair: _steady(row.get("requests", 0.0)) for pair, row in snapshot.rows.items()}
    picture = service_map.svg(
        flagged.edges_of(traffic, incidents, links=links),
        roots=flagged.roots_of(incidents, links=links),
        most=most,
    )
    return Markup(picture)  # noqa: S704 - built as a tree, so it is escaped


def around(snapshot: Snapshot, incident: Incident, *, most: int = 16) -> Markup:
    """Return the map of what an incident touches, and of its neighbours."""
    near = {pair: row for pair, row in snapshot.rows.items() if _touches(incident, pair)}
    return drawn(Snapshot(version=0, rows=near), [incident], most=most)


def _touches(incident: Incident, pair: Pair) -> bool:
    services = {root.service for root in incident.roots} | set(incident.affected)
    return pair.client in services or pair.server in services


def _steady(per_s: float) -> float:
    """Return a rate that does not follow every window: a map is not drawn anew for noise."""
    return 4.0 ** round(math.log(per_s, 4.0)) if per_s > 0 else 0.0
