"""The life of an incident: pending, firing, recovering, resolved.

Pure functions of one `Case` and of the time, which is the end of a window. Who is told of what
becomes of it, and how often, is up to `alerts.notify`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from alerts import impact
from alerts.case import Case
from alerts.incident import EndedAs
from alerts.relation import witness

WAIT_S: Final = 3.0
"""The first message waits so long for further findings after each, as they may name the root ..."""
MOST_WAIT_S: Final = 10.0
"""... and never longer than this in all."""
CONFIRM_S: Final = 5.0
"""What is no hard failure and has no second witness is believed once it fires for so long, and in
the next window."""
RECOVER_S, RECOVER_WINDOWS = 10.0, 3.0
"""What was over for so long is resolved; twice as long for each time that it came back ..."""
MOST_RECOVER_S: Final = 600.0
"""... up to this."""
FLAPS_WITHIN: Final = 12.0
"""An incident like one before is the same that flaps if it begins within so many times as long as
that one had to be over; later, it is another."""
DID_NOT_LAST: Final = "did not last"


class Turn(NamedTuple):
    """What became of an incident in a step.

    Attributes:
        event: whether it fires from now on, or is over; None for anything else.
        resolved: when it was over; None while it is not.
        ended_as: how it ended; None while it did not.
        suppressed: why nobody is told; "" for no reason.
    """

    event: Literal["firing", "resolved"] | None
    resolved: float | None = None
    ended_as: EndedAs | None = None
    suppressed: str = ""


def recovery_s(flaps: int, *, window_s: float) -> float:
    """Return how long an incident that came back so often has to be over to be resolved."""
    least = max(RECOVER_S, RECOVER_WINDOWS * window_s)
    return float(min(least * 2.0 ** min(flaps, 30), max(MOST_RECOVER_S, least)))


def flaps_within_s(flaps: int, *, window_s: float) -> float:
    """Return for how long after its end another like an incident is the same that flaps."""
    return FLAPS_WITHIN * recovery_s(flaps, window_s=window_s)


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
        case.fired = True
        return [Turn("firing")]
    return []


def is_confirmed(case: Case, *, now: float, window_s: float) -> bool:
    """Return whether an incident is believed: hard, seen by two, or still there."""
    findings = case.findings
    if any(impact.is_hard(finding) for finding in findings):
        return True
    if len({witness(finding) for finding in findings} - {""}) > 1:
        return True
    patience_s = max(CONFIRM_S, window_s)
    return bool(case.firing) and now - case.detected >= patience_s


def _follow(case: Case, *, now: float) -> list[Turn]:
    if case.firing:
        return []
    if case.latest_adopted:
        return [_end(case, now=now)]
    case.state, case.changed = "recovering", now
    return [Turn(None)]


def _recover(case: Case, *, now: float, window_s: float) -> list[Turn]:
    if case.firing:
        case.state, case.changed = "firing", now
        case.flaps += 1
        return [Turn(None)]
    if case.latest_adopted or now - _over(case) >= recovery_s(case.flaps, window_s=window_s):
        return [_end(case, now=now)]
    return []


def _end(case: Case, *, now: float) -> Turn:
    case.state, case.changed = "resolved", now
    return Turn("resolved", _over(case), _ended_as(case))


def _over(case: Case) -> float:
    return case.changed if case.calm_since is None else case.calm_since


def _ended_as(case: Case) -> EndedAs:
    return "adopted" if case.adopted else "resolved"
