"""How two findings hang together: at one place, or one as the effect of the other.

In: findings and the service graph. Out: whom the data of a finding suspect, and whether one
explains another. Everything that puts findings into incidents (`alerts.grouping`) and ranks their
roots (`alerts.blame`) rests on these rules, which are about the ways in which trouble travels:

* slowness, failures and answers that do not come travel from the callee to its callers;
* more or fewer requests travel from the caller to its callees;
* a rise of load makes its server slow, also for others;
* who is in trouble calls less, and who fails to connect tries more often.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from alerts.graph import ServiceGraph
from detector.finding import Finding
from detector.sides import Side, of_cause
from probes.window import EVERY, Kind, kind_of

TOGETHER_S: Final = 15.0
"""Onsets this close belong together: they are estimates, a few seconds wide."""
LATER_S: Final = 180.0
"""An effect may begin so much later than its cause, and so may what else fails at one place; of
long windows, twice the time within which onsets are together."""
SAME_PAIR_S: Final = 600.0
"""What a pair does within this time of its other changes is one story: by then the detector has
taken for normal what did not end."""
_LOADED: Final = 1.5
"""A rise of this much, and more, may be what made a server slow."""
_EARLIER_S: Final = 3.0
"""What an onset is uncertain by."""
_SUSPECTED: Final = 0.25
"""A place with less of the suspicion does not count for putting findings together."""

_BAD: Final = re.compile(
    "laten|durat|delay|elapsed|response_?time|error|fail|fault|timeout|drop|loss|lost|retr|5xx|slow",
    re.IGNORECASE,
)
_GOOD: Final = re.compile("availab|success|apdex", re.IGNORECASE)
"""What a gauge of a foreign recording is about, by its name: nothing else says it."""

Nature = Literal["harm", "fall", "rise", "new", "other"]
_TRAFFIC: Final = frozenset({"connections", "requests", "bytes_sent"})
_ALL_TRAFFIC: Final = _TRAFFIC | {"bytes_received", "waits"}


class Place(NamedTuple):
    """Where a cause may lie: a service, as the client or server of a pair, or its network."""

    service: str
    side: Side


_OF_CAUSE: Final[Mapping[str, dict[tuple[str, Side], float]]] = {
    "timed_out": {
        ("server", "server"): 0.7,
        ("server", "network"): 0.15,
        ("client", "network"): 0.15,
    },
    # Who gives up has waited in vain, or is impatient
    "aborted": {
        ("server", "server"): 0.55,
        ("server", "network"): 0.15,
        ("client", "network"): 0.1,
        ("client", "client"): 0.2,
    },
    "accept_queue": {("server", "server"): 1.0},
}
_OF_NATURE: Final[Mapping[Nature, dict[tuple[str, Side], float]]] = {
    "harm": {("server", "server"): 0.7, ("client", "client"): 0.3},
    "fall": {("server", "server"): 0.5, ("client", "client"): 0.5},
    "rise": {("client", "client"): 1.0},
    "new": {("client", "client"): 1.0},
    "other": {("server", "server"): 0.5, ("client", "client"): 0.5},
}
"""By which end of the pair, and which side, a cause lies at where the data name none."""


def nature(finding: Finding) -> Nature:
    """Return what a change is to whom it happens.

    harm: slower, or failing. fall: less traffic, or none. rise: more. new: a new pair. other:
    anything else, such as better latency.
    """
    if finding.direction in ("new", "gone"):
        return "new" if finding.direction == "new" else "fall"
    if finding.signal in _ALL_TRAFFIC:
        return "rise" if finding.direction == "up" else "fall"
    return "harm" if finding.direction == _worse(finding.signal) else "other"


def _worse(signal: str) -> str:
    """Return the direction in which a signal other than traffic is worse; "" when unknown."""
    kind = kind_of(signal)
    if kind in (Kind.RATIO, Kind.LATENCY) or (kind is Kind.GAUGE and _BAD.search(signal)):
        return "up"
    return "down" if kind is Kind.GAUGE and _GOOD.search(signal) else ""


_TELLING: Final = ("connect_errors", "resets", "silent_pair", "request_latency", "requests")
"""What says most to people, the best first; anything else comes after."""


def telling(finding: Finding) -> tuple[int, float, str]:
    """Return the order in which findings are named: what says most, then what began first."""
    known = finding.signal in _TELLING
    place = _TELLING.index(finding.signal) if known else len(_TELLING)
    return place + (10 if nature(finding) == "other" else 0), finding.onset, finding.id


def suspects(finding: Finding) -> Mapping[Place, float]:
    """Return the places where a finding's cause may lie, each with its share of suspicion.

    What the two ends' views or the causes of errors say (`finding.side`) counts alone; else it is
    what is usual for such a change.
    """
    client, server = finding.pair.client, finding.pair.server
    at: dict[tuple[str, Side], float]
    side = finding.side or of_cause(finding.signal, finding.cause)
    if side == "network":
        # Of a client that is badly connected, the other servers would tell as well
        at = {("client", "network"): 0.35, ("server", "network"): 0.65}
    elif side:
        at = {(side, side): 1.0}
    elif finding.cause in _OF_CAUSE:
        at = _OF_CAUSE[finding.cause]
    else:
        at = _OF_NATURE[nature(finding)]
    names = {"client": client, "server": server}
    shares = {Place(names[end], side): share for (end, side), share in at.items()}
    # Of a roll-up one end is many
    known = {place: share for place, share in shares.items() if place.service != EVERY}
    if not known:
        return {Place(client, "client") if server == EVERY else Place(server, "server"): 1.0}
    total = sum(known.values())
    return {place: share / total for place, share in known.items()}


def suspected(finding: Finding) -> frozenset[str]:
    """Return the services at which a finding's cause may well lie."""
    shares: dict[str, float] = {}
    for place, share in suspects(finding).items():
        shares[place.service] = shares.get(place.service, 0.0) + share
    return frozenset(service for service, share in shares.items() if share > _SUSPECTED)


def pause_s(one: Finding, other: Finding) -> float:
    """Return for how long nothing was wrong between two findings, seconds; 0 if they overlap."""
    first, second = sorted((one, other), key=lambda f: (f.onset, f.id))
    return 0.0 if first.ended is None else max(second.onset - first.ended, 0.0)


def _later_s(together_s: float) -> float:
    return max(LATER_S, 2.0 * together_s)


def same_place(one: Finding, other: Finding, *, together_s: float) -> bool:
    """Return whether two findings began together at a service that both may lie at.

    Where the data of both name one service, the second may come later, as long as the first goes
    on. To share a service that neither or only one of them suspects, such as a server that
    everybody calls, is not enough.
    """
    mine, theirs = suspected(one), suspected(other)
    if not mine & theirs or pause_s(one, other) > together_s:
        return False
    named = mine == theirs and len(mine) == 1
    return abs(one.onset - other.onset) <= (_later_s(together_s) if named else together_s)


def same_pair(one: Finding, other: Finding, *, together_s: float) -> bool:
    """Return whether two findings are of one pair, and of one story.

    Either goes on while the other begins, or the same comes back not long after.
    """
    if one.pair != other.pair:
        return False
    if "other" in (nature(one), nature(other)) and abs(one.onset - other.onset) > together_s:
        return False  # what is better, or merely different, is no part of what goes wrong later
    pause = pause_s(one, other)
    if pause > together_s:
        same = (one.signal, one.direction) == (other.signal, other.direction)
        return same and pause <= max(SAME_PAIR_S, together_s)
    return pause > 0.0 or abs(one.onset - other.onset) <= max(SAME_PAIR_S, together_s)


def explains(cause: Finding, effect: Finding, graph: ServiceGraph, *, together_s: float) -> bool:
    """Return whether `effect` is what one expects to see of `cause`.

    Callers feel their callee directly, or with one call between them.
    """
    later_s = effect.onset - cause.onset
    what, why = nature(effect), nature(cause)
    # The onsets of a pair that does little are as far apart as its requests
    most_s = _later_s(together_s)
    sooner_s = most_s if cause.pair == effect.pair and why == "harm" else together_s
    if cause.id == effect.id or not -sooner_s <= later_s <= most_s:
        return False
    if pause_s(cause, effect) > together_s:
        return False  # it was over before
    if cause.pair == effect.pair:
        return _within_a_pair(cause, effect, what, why)
    match why, what:
        case ("harm", "harm" | "fall" | "other"):
            explained = _harm_explains(cause, effect, what, graph)
        case ("fall", "fall"):
            explained = _fall_explains(cause, effect, later_s, graph)
        case ("rise", "rise" | "new"):
            explained = graph.reaches(cause.pair.server, effect.pair.client)
        case ("rise", "harm"):
            explained = _load_explains(cause, effect)
        case _:
            explained = False
    return explained


def witness(finding: Finding) -> str:
    """Return what a finding is evidence of: one text for signals that rise and fall as one.

    Requests bring bytes and connections with them, so those say the same thing. That a pair is
    new is no evidence of anything else: "".
    """
    if finding.direction == "new":
        return ""
    flow = finding.signal in _ALL_TRAFFIC or finding.direction == "gone"
    return "\0".join([*map(str, finding.pair), "flow" if flow else finding.signal])


def _within_a_pair(cause: Finding, effect: Finding, what: Nature, why: Nature) -> bool:
    if why == "harm":
        # Who fails tries again; what is slow or fails does less
        failing = cause.signal in ("connect_errors", "resets")
        # What is lost or late on the way makes requests slow, unless the ends know better
        on_the_way = cause.side == "network" and effect.side == ""
        slowed = on_the_way and effect.signal == "request_latency"
        return what == "fall" or (what == "rise" and failing) or (what == "harm" and slowed)
    return why == "rise" and what == "harm" and _load_explains(cause, effect)


def _harm_explains(cause: Finding, effect: Finding, what: Nature, graph: ServiceGraph) -> bool:
    client, server = effect.pair.client, effect.pair.server
    felt_by_caller = server in suspected(effect) and any(
        graph.reaches(server, caller) for caller in graph.clients(cause.pair)
    )
    if what == "harm":
        return felt_by_caller
    if what == "other":
        # Who fails at once answers sooner
        return felt_by_caller and kind_of(cause.signal) is Kind.RATIO
    # Who is in trouble, or waits for who is, calls less
    calls_less = client == cause.pair.client or client in suspected(cause)
    return felt_by_caller or (calls_less and client != EVERY)


def _fall_explains(cause: Finding, effect: Finding, later_s: float, graph: ServiceGraph) -> bool:
    """Return whether less traffic made less traffic: at a caller, or at a callee that was first."""
    depth = [0.0 if f.ratio is None else f.ratio for f in (cause, effect)]
    if depth[0] > depth[1] + 0.2:
        return False
    from_caller = graph.reaches(cause.pair.server, effect.pair.client)
    from_callee = graph.reaches(effect.pair.server, cause.pair.client)
    return (from_caller and later_s >= -_EARLIER_S) or (from_callee and later_s > _EARLIER_S)


def _load_explains(cause: Finding, effect: Finding) -> bool:
    """Return whether a rise of load made its server slow, or drop what came."""
    loaded = cause.signal in _TRAFFIC and (cause.ratio is None or cause.ratio >= _LOADED)
    overloaded = effect.side in ("", "server") and effect.cause in ("", "accept_queue", "timed_out")
    same_server = cause.pair.server == effect.pair.server != EVERY
    return loaded and overloaded and same_server and effect.signal != "resets"
