"""Incidents: all of the last day, and one in full."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from markupsafe import Markup

from alerts import words
from alerts.incident import Incident
from alerts.matchers import Matcher, Subject, match
from alerts.silences import Silence
from detector.finding import Finding
from probes.window import is_rollup
from tailrace.errors import TailraceError
from tailrace.history.reader import HistoryReader
from tailrace.page import charts, overview, pair_detail
from tailrace.page.render import render, short
from tailrace.page.source import Snapshot, Source, is_open
from tailrace.page.views import Part, Seldom

CHARTS = 4
AROUND_S = 600.0
_POINTS = 240
SHOW = {"": "all", "open": "going on", "held": "not told"}


class IncidentList:
    """Incidents of the last day, the latest first."""

    title = "Incidents"
    template = "incidents.html"

    def __init__(self, *, show: str = "") -> None:
        self.show = show if show in SHOW else ""

    def parts(self, snapshot: Snapshot, now: float) -> Mapping[str, Part]:
        """Return the parts, as `View` says."""
        shown = [each for each in snapshot.incidents if not each.part_of and self._shown(each)]
        return {"incidents": render("parts/incident_list.html", incidents=shown, now=now)}

    def _shown(self, incident: Incident) -> bool:
        if self.show == "open":
            return is_open(incident)
        return bool(incident.suppressed) if self.show == "held" else True


class IncidentDetail:
    """One incident in full."""

    template = "incident.html"

    def __init__(self, source: Source, incident: Incident) -> None:
        self.incident = incident
        self.title = incident.title
        self._source = source
        self._seldom = Seldom(pair_detail.CHARTS_EVERY_S)

    @property
    def matchers(self) -> str:
        """What a silence of it would match, as it is written."""
        return silenced_by("service", self.incident.root.service)

    def parts(self, snapshot: Snapshot, now: float) -> Mapping[str, Part]:
        """Return the parts, as `View` says."""
        self.incident = self._source.incident(self.incident.id) or self.incident
        quiet = silences_of(self.incident, snapshot, now)
        return {
            "incident": render("parts/incident.html", incident=self.incident, now=now,
                               silences=quiet),
            "incident-changes": render("parts/incident_changes.html", incident=self.incident,
                                       now=now, short=short),
            "incident-charts": self._seldom(now, lambda: self._drawn(now)),
            "incident-map": overview.around(snapshot, self.incident),
        }  # fmt: skip

    def _drawn(self, now: float) -> Markup:
        """Return the past of what changed, the root's first, from some time before to after."""
        changed = [f for f in self.incident.symptoms if f.direction in ("up", "down")]
        own = [finding for finding in changed if not is_rollup(finding.pair)]
        shown = []
        try:
            with HistoryReader(self._source.state_dir) as reader:
                for finding in own[:CHARTS]:
                    since, until = _around(finding, now)
                    series = reader.series(
                        finding.pair, finding.signal, since=since, until=until, points=_POINTS
                    )
                    svg = charts.drawn(
                        series, title=words.what(finding), since=since, until=until,
                        finding=finding, trigger=self.incident.trigger,
                    )  # fmt: skip
                    shown.append((finding, svg))
        except TailraceError as error:
            return render("parts/problem.html", problem=str(error))
        return render("parts/incident_charts.html", charts=shown, short=short)


def _around(finding: Finding, now: float) -> tuple[float, float]:
    """Return from when to when a change is shown: as long before it as after, within bounds."""
    until = now if finding.ended is None else min(now, finding.ended + AROUND_S)
    before = min(max(AROUND_S, until - finding.onset), 6.0 * AROUND_S)
    return finding.onset - before, until


def silenced_by(label: str, value: str) -> str:
    """Return a matcher as a person writes it in a line of several."""
    return shlex.quote(str(Matcher(label=label, operator="=", value=value)))


def silences_of(incident: Incident, snapshot: Snapshot, now: float) -> list[Silence]:
    """Return the silences that an incident meets now."""
    subject = Subject.of(incident)
    return [
        each
        for each in snapshot.silences
        if each.state(now) == "active" and match(each.matchers, subject)
    ]
