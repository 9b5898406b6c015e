"""What a report says in a few words, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence

from alerts import words
from alerts.incident import Incident
from alerts.severity import SEVERITIES
from detector.finding import Finding
from tailrace.report.gather import Report


def verdict(report: Report) -> str:
    """Return in a sentence what an interval was like."""
    incidents = report.incidents
    if not incidents:
        return "Nothing changed" if not report.findings else "Changes, but no incident"
    over = [each for each in incidents if each.state == "resolved"]
    now = [each for each in incidents if each.state != "resolved"]
    said = [
        f"{name}: {_counted(group)}" for name, group in (("Going on", now), ("Over", over)) if group
    ]
    return ". ".join(said)


def _counted(incidents: Sequence[Incident]) -> str:
    numbers = [(s, sum(each.severity == s for each in incidents)) for s in SEVERITIES]
    return ", ".join(f"{number} {severity}" for severity, number in numbers if number)


def interval(report: Report) -> str:
    """Return what time a report is about."""
    since, until = words.moment(report.asked.since), words.moment(report.until)
    if since[:10] == until[:10]:
        since, until = since.removesuffix(" UTC"), until[11:]
    return f"{since} to {until}"


def moment(epoch_s: float) -> str:
    """Return a time of day with its date, without its zone: the page says UTC."""
    return words.moment(epoch_s).removesuffix(" UTC")


def still(incident: Incident, until: float) -> str:
    """Return whether an incident goes on, and for how long it has, or did."""
    lasted = words.duration((incident.resolved or until) - incident.started)
    if incident.ended_as == "adopted":
        return f"the new normal, after {lasted}"
    if incident.state == "resolved":
        return f"over, lasted {lasted}"
    return f"{incident.state} for {lasted}"


def change(finding: Finding) -> str:
    """Return a change from what to what, e.g. "2.1 ms → 10.3 ms (4.9x)"."""
    if finding.direction == "new":
        return "new"
    before, after = (words.value(finding, each) for each in (finding.before, finding.after))
    factor = words.factor(finding)
    return f"{before} → {after}" + (f" ({factor})" if factor else "")
