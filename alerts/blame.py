"""Where the cause of an incident lies: every finding votes, and passes its vote on to its cause.

The model, in three sentences. Each finding has one vote. A finding that others of the incident
explain (`alerts.relation`) keeps a fifth of its vote, as the explanation may be wrong, and passes
the rest on to them, in equal parts; so the votes of slow callers end at the deepest slow callee,
and those of busy callees at the first client that asked for more. What reaches a finding that
nothing explains goes to the places that its own data suspect: the side that the two ends' views
or the causes of errors name; where they name none, to both ends, to each the less the more of its
other pairs are well. Of two places that explain the same, what began clearly earlier gets more.

A place's score is its share of all votes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from alerts import words
from alerts.graph import ServiceGraph
from alerts.incident import Root
from alerts.relation import Place, explains, nature, suspects, telling
from detector.finding import Finding
from probes.window import ANY, EVERY, Pair

KEPT: Final = 0.2
"""How much of its vote a finding keeps that others explain."""
_ROUNDS: Final = 8
"""So many calls deep is a vote passed on; services that call each other end it too."""
ROOTS_SHOWN: Final = 5
_LEAST: Final = 0.02
_EARLIER_S: Final = 10.0
"""An onset this much before another is clearly earlier."""


def explanations(
    findings: Sequence[Finding], graph: ServiceGraph, *, together_s: float
) -> dict[str, list[Finding]]:
    """Return for each finding, by id, the others that explain it."""
    return {
        effect.id: [f for f in findings if explains(f, effect, graph, together_s=together_s)]
        for effect in findings
    }


def rank(
    findings: Sequence[Finding], graph: ServiceGraph, *, together_s: float
) -> tuple[Root, ...]:
    """Return the probable roots of an incident, the most probable first.

    Args:
        findings: at least one, in any order.
        graph: who calls whom.
        together_s: onsets this close are simultaneous.
    """
    ordered = sorted(findings, key=lambda f: (f.onset, f.id))
    causes = explanations(ordered, graph, together_s=together_s)
    arrived = _pass_on(ordered, causes)
    changed = {f.pair for f in ordered}
    first = ordered[0].onset
    votes: dict[Place, float] = defaultdict(float)
    for finding in ordered:
        # A weak hint only: onsets are estimates
        early = 1.0 if finding.onset <= first + _EARLIER_S else 0.8
        for place, share in _places(finding, graph, changed).items():
            votes[place] += arrived[finding.id] * share * early
    return _roots(votes, ordered, causes, graph)


def _pass_on(
    findings: Sequence[Finding], causes: Mapping[str, Sequence[Finding]]
) -> Mapping[str, float]:
    """Return how much of all votes stays with each finding, by id."""
    stays: dict[str, float] = defaultdict(float)
    held = {finding.id: 1.0 for finding in findings}
    for _ in range(_ROUNDS):
        passed: dict[str, float] = defaultdict(float)
        for id_, vote in held.items():
            to = causes[id_]
            stays[id_] += KEPT * vote if to else vote
            for cause in to:
                passed[cause.id] += (1.0 - KEPT) * vote / len(to)
        held = passed
    for id_, vote in held.items():
        stays[id_] += vote
    return stays


def _places(
    finding: Finding, graph: ServiceGraph, changed: Collection[Pair]
) -> Mapping[Place, float]:
    """Return the places that a finding votes for, with its share for each."""
    places = suspects(finding)
    if len(places) == 1:
        return places
    doubted = {
        place: share / (1.0 + _healthy(place, finding.pair, graph, changed))
        for place, share in places.items()
    }
    total = sum(doubted.values())
    return {place: share / total for place, share in doubted.items()}


def _healthy(place: Place, pair: Pair, graph: ServiceGraph, changed: Collection[Pair]) -> int:
    """Return how many other pairs of a place are well."""
    others = _pairs_of(place, graph)
    return sum(other != pair and other not in changed for other in others)


def _pairs_of(place: Place, graph: ServiceGraph) -> list[Pair]:
    """Return the pairs that a fault at a place would show in.

    What a listener turns away is of any client, and says nothing of another one.
    """
    called = graph.called(place.service) if place.side != "client" else []
    called = [pair for pair in called if pair.client != ANY]
    return called + (graph.calls(place.service) if place.side != "server" else [])


def _roots(
    votes: Mapping[Place, float],
    findings: Sequence[Finding],
    causes: Mapping[str, Sequence[Finding]],
    graph: ServiceGraph,
) -> tuple[Root, ...]:
    services: dict[str, dict[Place, float]] = defaultdict(dict)
    for place, vote in votes.items():
        services[place.service][place] = vote
    if len(services) > 1:
        services.pop(EVERY, None)
    total = sum(sum(places.values()) for places in services.values())
    ranked = sorted(services, key=lambda name: (-round(sum(services[name].values()), 9), name))
    roots: list[Root] = []
    for service in ranked[:ROOTS_SHOWN]:
        score = sum(services[service].values()) / total
        if roots and score < _LEAST:
            break
        side = max(services[service], key=lambda p: (services[service][p], p.side)).side
        why = _why(Place(service, side), findings, causes, graph)
        roots.append(Root(service=service, side=side, score=score, why=why))
    return tuple(roots)


def direct(place: Place, findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings whose own data suspect a place, those that suspect it most first."""
    mine = [f for f in findings if place in suspects(f)]
    return sorted(mine, key=lambda f: (-suspects(f)[place], telling(f)))


def _why(
    place: Place,
    findings: Sequence[Finding],
    causes: Mapping[str, Sequence[Finding]],
    graph: ServiceGraph,
) -> str:
    """Return what speaks for a place, in one sentence."""
    mine = direct(place, findings)
    unexplained = [f for f in mine if not causes[f.id]] or mine
    if not unexplained:
        return "it is at one end of what changed"
    first = unexplained[0]
    parts = [words.what(first)]
    if first.cause:
        parts.append(words.cause(first))
    elif first.side:
        parts.append(f"which the two ends place {words.side(first)}")
    else:
        parts += _circumstances(place, first, findings, graph)
    if place.side == "server" and nature(first) == "harm":
        parts.append(_downstream(place.service, findings, graph))
    followers = {str(f.pair) for f in findings if f.pair != first.pair and causes[f.id]}
    if followers:
        parts.append(
            _number(len(followers), "other pair follows", "other pairs follow") + " from it"
        )
    return ", ".join(part for part in parts if part)


def _circumstances(
    place: Place, first: Finding, findings: Sequence[Finding], graph: ServiceGraph
) -> list[str]:
    """Return what speaks for one end where the finding itself names none."""
    changed = {f.pair for f in findings}
    others = [pair for pair in _pairs_of(place, graph) if pair != first.pair]
    hit = sum(pair in changed for pair in others)
    role = "client" if place.side == "server" else "server"
    if hit and hit == len(others):
        who = f"its only other {role} sees" if hit == 1 else f"all of its {hit} other {role}s see"
        return [f"and {who} a change too"]
    if hit:
        verb = "sees" if hit == 1 else "see"
        return [f"and {hit} of its {len(others)} other {role}s {verb} a change too"]
    end = first.pair.server if place.side == "client" else first.pair.client
    spared = [
        pair
        for pair in (graph.called(end) if place.side == "client" else graph.calls(end))
        if pair not in changed
    ]
    if spared and end != EVERY:
        what = "its other clients" if place.side == "client" else "its other calls"
        return [f"while {words.clean(end)} is well with {what}"]
    return []


def _downstream(service: str, findings: Sequence[Finding], graph: ServiceGraph) -> str:
    calls = graph.calls(service)
    if not calls:
        return "and it calls nobody else"
    harmed = {f.pair for f in findings if nature(f) == "harm"}
    return "" if harmed & set(calls) else "while what it calls itself is well"


def _number(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
