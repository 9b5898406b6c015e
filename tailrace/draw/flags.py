"""What incidents flag on a service map: which edges, how severely, and in which words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from alerts import impact, relation, words
from alerts.impact import Symptom
from alerts.incident import Incident
from alerts.severity import Severity, rank
from detector.finding import Finding
from probes.window import EVERY, Pair, is_rollup
from tailrace.draw.service_map import Edge, Root

_SHORT: Final = {
    "request_latency": "latency",
    "connect_latency": "connect",
    "dns_latency": "DNS latency",
    "rtt": "RTT",
    "connect_errors": "failed",
    "resets": "resets",
    "retransmits": "retransmits",
    "stalls": "stalls",
    "drops": "drops",
    "dns_errors": "DNS errors",
    "requests": "requests",
    "connections": "conns",
    "bytes_sent": "bytes",
    "bytes_received": "bytes",
    "waits": "waits",
}


def label(finding: Finding) -> str:
    """Return what changed in two or three words, e.g. "latency 4.9x", "failed 62 %"."""
    if finding.direction in ("new", "gone"):
        return "new" if finding.direction == "new" else "silent"
    name = _SHORT.get(finding.signal, words.clean(finding.signal))
    if finding.unit == "ratio" and finding.after is not None:
        return f"{name} {words.value(finding, finding.after)}"
    return f"{name} {words.factor(finding) or finding.direction}"


def severity(finding: Finding, incident: Incident) -> Severity:
    """Return what one symptom means by itself; not more than its incident."""
    alone = impact.severity(Symptom(finding=finding, rate=0.0, share=1.0))
    return max(alone, incident.severity, key=rank)


def edges_of(
    traffic: Mapping[Pair, float],
    incidents: Iterable[Incident],
    *,
    links: Mapping[str, str] | None = None,
) -> list[Edge]:
    """Return the edges of a map: those of all pairs, flagged by incidents.

    What is found of every client of a server, or of a client and all its servers, flags each of
    those edges.

    Args:
        traffic: of each pair, per second; pairs of incidents that are not there are added.
        incidents: those to show.
        links: by incident, where a click on what it flags leads.
    """
    flags: dict[Pair, list[tuple[Finding, Incident]]] = {}
    for incident in incidents:
        for finding in incident.symptoms:
            for pair in _concerned(finding.pair, traffic):
                flags.setdefault(pair, []).append((finding, incident))
    every = sorted(traffic.keys() | flags.keys())
    return [_edge(pair, traffic.get(pair, 0.0), flags.get(pair, ()), links or {}) for pair in every]


def _concerned(pair: Pair, known: Iterable[Pair]) -> list[Pair]:
    if not is_rollup(pair):
        return [pair]
    by_server = pair.client == EVERY
    return [
        each
        for each in known
        if (each[1:] == pair[1:] if by_server else each.client == pair.client)
    ]


def _edge(
    pair: Pair,
    traffic: float,
    flags: Sequence[tuple[Finding, Incident]],
    links: Mapping[str, str],
) -> Edge:
    if not flags:
        return Edge(client=pair.client, server=pair.server, traffic=traffic)
    ordered = sorted(flags, key=lambda f: (rank(severity(*f)), relation.telling(f[0])))
    finding, incident = ordered[0]
    return Edge(
        client=pair.client,
        server=pair.server,
        traffic=traffic,
        severity=severity(finding, incident),
        label=label(finding),
        detail="\n".join(dict.fromkeys(words.what(each) for each, _ in ordered[:8])),
        href=links.get(incident.id, ""),
    )


def roots_of(
    incidents: Iterable[Incident], *, links: Mapping[str, str] | None = None
) -> dict[str, Root]:
    """Return the services that are the most probable root of an incident; the worst counts."""
    roots: dict[str, Root] = {}
    for incident in sorted(incidents, key=lambda i: (rank(i.severity), -i.root.score, i.id)):
        first = incident.root
        if first.service == EVERY or first.service in roots:
            continue
        side = "" if first.side != "network" else " network"
        roots[first.service] = Root(
            severity=incident.severity,
            label=f"root{side}, {100 * first.score:.0f} %",
            href=(links or {}).get(incident.id, ""),
        )
    return roots
