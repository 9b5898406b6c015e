"""The life of an incident: pending, firing, recovering, resolved; and what is told of it.

Pure functions of one `Case` and of the time, which is the end of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from alerts import impact, telling
from alerts.case import Case, Told
from alerts.incident import EndedAs, Event
from alerts.relation import witness
from alerts.severity import rank

WAIT_S: Final = 3.0
"""The first message waits so long for further findings after each, as they may name the root ..."""
MOST_WAIT_S: Final = 10.0
"""... and never longer than this in all."""
CONFIRM_S, CONFIRM_WINDOWS = 5.0, 3.0
"""What is no hard failure and has no second witness is believed once it fires for so long."""
RECOVER_S, RECOVER_WINDOWS = 10.0, 3.0
"""What was over for so long is resolved; twice as long for each time that it came back ..."""
MOST_RECOVER_S: Final = 600.0
"""... up to this."""
UPDATE_EVERY_S: Final = 60.0
"""Another root or further services that feel it are told so often at most; severity at once."""
CLEARLY: Final = 0.1
"""A root that is another is told when it is more probable by this much."""
DID_NOT_LAST: Final = "did not last"


class Turn(NamedTuple):
    """What became of an incident in a step.

    Attributes:
        event: what receivers are to be told; None for nothing.
        resolved: when it was over; None while it is not.
        ended_as: how it ended; None while it did not.
        suppressed: why nobody is told; "" for no reason.
    """

    event: Event | None
    resolved: float | None = None
    ended_as: EndedAs | None = None
    suppressed: str = ""


def recovery_s(case: Case, window_s: float) -> float:
    """Return how long an incident has to be over before it is resolved."""
    least = max(RECOVER_S, RECOVER_WINDOWS * window_s)
    return float(min(least * 2.0 ** min(case.flaps, 30), max(MOST_RECOVER_S, least)))


def advance(case: Case, *, now: float, window_s: float) -> Iterator[Turn]:
    """Move an incident on to `now`; yield what becomes of it, in order.

    With each turn the case is as it is then. One whose state is "resolved" afterwards is over.
    """
    if case.state == "pending":
        yield from _confirm(case, now=now, window_s=window_s)
    if case.state == "firing":
        yield from _follow(case, now=now)
    if case.state == "recovering":
        yield from _recover(case, now=now, window_s=window_s)


def _confirm(case: Case, *, now: float, window_s: float) -> list[Turn]:
    confirmed = is_confirmed(case, now=now, window_s=window_s)
    if not case.firing and not confirmed:
        case.state, case.changed = "resolved", now
        return [Turn(None, _over(case), _ended_as(case), DID_NOT_LAST)]
    waited = now - case.grown >= WAIT_S or now - case.detected >= MOST_WAIT_S
    # A longer window has the findings of several seconds together
    waited = waited or window_s > WAIT_S
    if confirmed and (waited or not case.firing):
        case.state, case.changed = "firing", now
        remember(case, now=now)
        return [Turn("firing")]
    return []


def is_confirmed(case: Case, *, now: float, window_s: float) -> bool:
    """Return whether an incident is believed: hard, seen by two, or still there."""
    findings = case.findings
    if any(impact.is_hard(finding) for finding in findings):
        return True
    if len({witness(finding) for finding in findings} - {""}) > 1:
        return True
    patience_s = max(CONFIRM_S, CONFIRM_WINDOWS * window_s)
    return bool(case.firing) and now - case.detected >= patience_s


def _follow(case: Case, *, now: float) -> list[Turn]:
    if case.firing:
        if not _matters(case, now=now):
            return []
        case.changed = now
        remember(case, now=now)
        return [Turn("updated")]
    if case.latest_adopted:
        return [_end(case, now=now)]
    case.state, case.changed = "recovering", now
    return [Turn(None)]


def _recover(case: Case, *, now: float, window_s: float) -> list[Turn]:
    if case.firing:
        case.state, case.changed = "firing", now
        case.flaps += 1
        return [Turn(None)]
    if case.latest_adopted or now - _over(case) >= recovery_s(case, window_s):
        return [_end(case, now=now)]
    return []


def _end(case: Case, *, now: float) -> Turn:
    case.state, case.changed = "resolved", now
    return Turn("resolved", _over(case), _ended_as(case))


def _over(case: Case) -> float:
    return case.changed if case.calm_since is None else case.calm_since


def _ended_as(case: Case) -> EndedAs:
    return "adopted" if case.adopted else "resolved"


def _matters(case: Case, *, now: float) -> bool:
    """Return whether what changed since receivers were told is worth another message."""
    told = case.told
    if told is None:
        return False
    if rank(case.severity) < rank(told.severity):
        return True
    if now - told.at < UPDATE_EVERY_S:
        return False
    wider = set(telling.affected(case.findings, case.roots)) - {*told.affected, told.root}
    return _another_root(case, told.root) or bool(wider) or len(case.adopted) > told.adopted


def _another_root(case: Case, told: str) -> bool:
    """Return whether another service is clearly more probable than the one that was told."""
    before = sum(root.score for root in case.roots if root.service == told)
    return case.roots[0].score - before >= CLEARLY


def remember(case: Case, *, now: float) -> None:
    """Take note of what receivers are told of an incident now."""
    before = () if case.told is None else case.told.affected
    feel = {*before, *telling.affected(case.findings, case.roots)}
    case.told = Told(
        at=now,
        severity=case.severity,
        root=case.roots[0].service,
        affected=tuple(sorted(feel)),
        adopted=len(case.adopted),
    )
