"""OpenTelemetry's attributes: of this daemon, of a service pair, of findings and incidents.

Where the semantic conventions have a name it is theirs (`service.name`, `service.peer.name`,
`server.port`, `network.transport`, `error.type`, `host.name`); the rest begins with `tailrace.`, or
is Flowmill's if its vocabulary is asked for.
"""

from __future__ import annotations

import platform
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

import tailrace
from alerts import words
from alerts.incident import Incident
from detector.finding import Finding
from probes.window import Pair
from tailrace.export.pair_families import Names
from tailrace.export.totals import Whose, fit

Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]

_CALLED: Final = {"cause": "error.type"}


def resource(given: Mapping[str, str]) -> dict[str, Value]:
    """Return what is sent with everything: who sends it; what the user gives comes first."""
    own: dict[str, Value] = {
        "service.name": "tailrace",
        "service.version": tailrace.__version__,
        "service.instance.id": str(uuid.uuid4()),
        "host.name": platform.node(),
        "host.arch": platform.machine(),
        "os.type": "linux",
    }
    return own | dict(given)


def own(labels: Sequence[str], values: Sequence[str]) -> dict[str, Value]:
    """Return a family's own labels, as attributes."""
    named = zip(labels, values, strict=True)
    return {_CALLED.get(label, f"tailrace.{label}"): value for label, value in named}


def pair(of: Pair) -> dict[str, Value]:
    """Return who talks to whom."""
    fitted = fit(of)
    return {
        "service.name": fitted.client,
        "service.peer.name": fitted.server,
        "server.port": of.port,
        "network.transport": fitted.transport,
    }


def row(whose: Whose, names: Names, *, turned: bool = False) -> dict[str, Value]:
    """Return the attributes of a row of the totals; `turned`: the server is the source."""
    found = pair(whose.pair)
    if names == "tailrace":
        return found
    ends = (
        (whose.pair.client, whose.client_namespace, whose.client_resolution),
        (whose.pair.server, whose.server_namespace, whose.server_resolution),
    )
    for end, (name, namespace, resolution) in (
        ("source", ends[turned]),
        ("dest", ends[not turned]),
    ):
        found[f"{end}.workload.name"] = name
        found |= {f"{end}.namespace.name": namespace} if namespace else {}
        found |= {f"{end}.resolution_type": resolution} if resolution else {}
    return found


def finding(of: Finding) -> dict[str, Value]:
    """Return what a finding says, beside the sentence."""
    known: dict[str, Value | None] = {
        "tailrace.finding.id": of.id,
        "tailrace.finding.state": of.state,
        "tailrace.signal": of.signal,
        "tailrace.direction": of.direction,
        "tailrace.before": of.before,
        "tailrace.after": of.after,
        "tailrace.ratio": of.ratio,
        "tailrace.unit": of.unit or None,
        "tailrace.significance": of.significance,
        "tailrace.side": of.side or None,
        "error.type": of.cause or None,
    }
    return pair(of.pair) | {key: value for key, value in known.items() if value is not None}


def incident(of: Incident, event: str) -> dict[str, Value]:
    """Return what an incident says, beside its summary; `event`: what became of it."""
    known: dict[str, Value | None] = {
        "tailrace.incident.id": of.id,
        "tailrace.incident.event": event,
        "tailrace.incident.state": of.state,
        "tailrace.incident.severity": of.severity,
        "tailrace.incident.title": words.clean(of.title),
        "tailrace.incident.ended_as": of.ended_as,
        "tailrace.incident.impact": of.impact or None,
        "tailrace.incident.root": words.clean(of.root.service),
        "tailrace.incident.root.side": of.root.side,
        "tailrace.incident.root.why": of.root.why or None,
        "tailrace.incident.affected": [words.clean(each) for each in of.affected],
        "tailrace.incident.findings": list(of.findings),
        "tailrace.incident.trigger": of.trigger.kind if of.trigger else None,
        "tailrace.incident.trigger.service": words.clean(of.trigger.service)
        if of.trigger
        else None,
    }
    return {key: value for key, value in known.items() if value is not None}
