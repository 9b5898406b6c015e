"""A report as Markdown, for a ticket or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from alerts import telling, words
from alerts.incident import Incident
from detector.finding import Finding
from tailrace import calibration
from tailrace.report.gather import Report
from tailrace.report.say import change, interval, still, verdict

_MARKS: Final = re.compile(r"([\\`*_\[\]<|~&])")
_SYMPTOMS: Final = 5
_FINDINGS: Final = 100


def page(report: Report) -> str:
    """Return the report as GitHub's Markdown; whatever is in a name stays text."""
    return "\n".join(_lines(report)) + "\n"


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def _lines(report: Report) -> Iterator[str]:
    yield f"## Tailrace: {verdict(report)}"
    yield ""
    yield f"{escaped(words.clean(report.host))}, {interval(report)}"
    yield ""
    if report.incidents:
        yield from _table(
            ("severity", "since (UTC)", "what changed", "probable root", "trigger", "state"),
            (_row(incident, report) for incident in report.incidents),
        )
    for incident in report.incidents:
        yield from _incident(incident)
    listed = {id_ for incident in report.incidents for id_ in incident.findings}
    loose = [finding for finding in report.findings if finding.id not in listed]
    if loose:
        yield "### Changes that are part of no incident above"
        yield ""
        yield from _findings(loose[:_FINDINGS])
        if len(loose) > _FINDINGS:
            yield f"and {len(loose) - _FINDINGS} more: `tailrace report` lists all"
            yield ""
    yield from _trust(report)


def _row(incident: Incident, report: Report) -> Sequence[str]:
    root, trigger = incident.root, incident.trigger
    return (
        incident.severity,
        words.moment(incident.started).removesuffix(" UTC"),
        incident.title,
        f"{words.clean(root.service)} ({root.side}, {100 * root.score:.0f} %)",
        "" if trigger is None else telling.trigger(trigger, incident.started),
        still(incident, report.until),
    )


def _incident(incident: Incident) -> Iterator[str]:
    yield f"### {escaped(incident.title)}"
    yield ""
    said = [
        ("Root", f"{words.clean(incident.root.service)}: {incident.root.why}"),
        ("Impact", incident.impact),
        ("Felt by", ", ".join(map(words.clean, incident.affected[:20]))),
        ("Not told", incident.suppressed),
    ]
    for name, text in said:
        if text:
            yield f"- **{name}:** {escaped(text)}"
    for finding in incident.symptoms[:_SYMPTOMS]:
        yield f"- {escaped(words.what(finding))}"
    more = len(incident.findings) - min(len(incident.symptoms), _SYMPTOMS)
    if more > 0:
        yield f"- and {more} more changes"
    yield f"- `tailrace explain {incident.id[:8]}`"
    yield ""


def _findings(findings: Iterable[Finding]) -> Iterator[str]:
    yield from _table(
        ("since (UTC)", "pair", "signal", "from, to", "state"),
        (
            (
                words.moment(f.onset).removesuffix(" UTC"),
                words.pair(f.pair),
                words.subject(f.signal),
                change(f),
                f.state,
            )
            for f in findings
        ),
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(map(escaped, row))} |"
    yield ""


def _trust(report: Report) -> Iterator[str]:
    running = report.running
    if running is None:
        return
    said = []
    if running.condition.lost:
        said.append(f"lost since the start of the daemon: {running.condition.lost_text()}")
    said += [calibration.text(each) for each in running.calibration if each.streams]
    if said:
        yield "<details><summary>Can it be trusted?</summary>"
        yield ""
        yield from (f"- {escaped(text)}" for text in said)
        yield ""
        yield "</details>"
