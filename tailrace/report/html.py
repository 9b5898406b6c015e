"""A report as one HTML file that opens from disk: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import jinja2
from markupsafe import Markup

from alerts import telling, words
from alerts.incident import Incident
from detector.finding import Finding
from tailrace import __version__, calibration
from tailrace.draw import flags, service_map, style
from tailrace.report.gather import Report
from tailrace.report.pictures import picture
from tailrace.report.say import change, interval, moment, still, verdict

CHARTS_PER_INCIDENT: Final = 6
CHARTS: Final = 40
"""A page that everything is on is a page on which nothing is found."""
FINDINGS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """An incident and what is drawn of it."""

    incident: Incident
    charts: Sequence[tuple[Finding, Markup, str]]
    others: Sequence[Finding]
    undrawn: int


def page(report: Report) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tailrace.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "words": words, "trigger": telling.trigger, "brief": flags.label,
        "moment": moment, "still": still, "change": change,
    }  # fmt: skip
    template = environment.get_template("report.html.j2")
    return template.render(_content(report))


def _content(report: Report) -> dict[str, Any]:
    shown = _shown(report)
    links = {each.id: f"#i-{each.id}" for each in report.incidents}
    traffic = report.traffic()
    drawn = service_map.svg(
        flags.edges_of(traffic, report.incidents, links=links),
        roots=flags.roots_of(report.incidents, links=links),
    )
    listed = {id_ for each in report.incidents for id_ in each.findings}
    loose = [each for each in report.findings if each.id not in listed]
    running = report.running
    return {
        "css": Markup(style.CSS),  # noqa: S704 - our own
        "host": words.clean(report.host),
        "report": report,
        "interval": interval(report),
        "verdict": verdict(report),
        "shown": shown,
        "map": Markup(drawn),  # noqa: S704 - escaped where it was made
        "pairs": len(traffic),
        "mapped": bool(traffic or report.incidents),
        "has_charts": any(each.charts for each in shown),
        "loose": loose[:FINDINGS],
        "left_out": max(0, len(loose) - FINDINGS),
        "held": [each for each in report.incidents if each.suppressed],
        "calibration": [] if running is None else [*map(calibration.text, running.calibration)],
        "condition": None if running is None else running.condition,
        "version": __version__,
    }


def _shown(report: Report) -> list[_Shown]:
    room, shown = CHARTS, []
    for incident in report.incidents:
        charts: list[tuple[Finding, Markup, str]] = []
        others: list[Finding] = []
        for symptom in incident.symptoms:
            drawn = None
            if room and len(charts) < CHARTS_PER_INCIDENT:
                finding = report.finding(symptom)
                drawn = picture(finding, report.past, until=report.until, incident=incident)
            if drawn is None:
                others.append(symptom)
                continue
            room -= 1
            charts.append((symptom, Markup(drawn.svg), drawn.caption))  # noqa: S704 - as above
        more = len(incident.findings) - len(incident.symptoms)
        shown.append(_Shown(incident=incident, charts=charts, others=others, undrawn=more))
    return shown
