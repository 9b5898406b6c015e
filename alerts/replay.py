"""Incidents of a recording: what somebody who is told of everything would have heard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from alerts.grouping import Change, Incidents
from alerts.notify import Notifier
from alerts.policy import Policy, Route, Rules
from detector.finding import Finding
from probes.window import Window

_READER = "reader"
_EVERYTHING = Policy(
    rules=Rules(
        receivers={_READER: None},
        routes=(Route(name="everything", severity="info", receivers=(_READER,)),),
        observe_only=(),
    )
)


def replayed(
    steps: Iterable[tuple[Window, Sequence[Finding]]], incidents: Incidents
) -> Iterator[Change]:
    """Yield what would be told, what ended untold, and at last what is still open, as it is then.

    A message about a change comes no more often than a route's usual `update_every`, as to any
    receiver, and only with a step in which the incident changed.

    Args:
        steps: windows and what the detector found with each.
        incidents: empty, or as a replay before left it.
    """
    notifier = Notifier()
    for window, findings in steps:
        changes = incidents.update(window, findings)
        for incident in (change.incident for change in changes):
            due = notifier.due([incident], _EVERYTHING, incident.changed)
            notifier.record(due)
            yield from (Change(each.incident, each.event) for each in due)
            # What turned out to be part of another before anybody heard of it never was one
            if not due and incident.state == "resolved" and not incident.part_of:
                yield Change(incident, None)
    yield from (Change(incident, None) for incident in incidents.current())
