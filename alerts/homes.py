"""Which incidents a new finding belongs to: all that it makes one of.

Pure functions of open incidents and of the rules in `alerts.relation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from alerts.case import Case
from alerts.relation import same_pair, same_place
from detector.finding import Finding

Explains = Callable[[Finding, Finding], bool]
"""Whether the first finding explains the second."""


class _Links(NamedTuple):
    """How a new finding hangs together with an incident.

    Attributes:
        root: it explains a root of it, or lies where a root does.
        effect: a finding of it explains the new one.
        near: it is of a pair of it, or lies where an effect does.
    """

    root: bool
    effect: bool
    near: bool


def homes_of(
    finding: Finding, cases: Iterable[Case], *, explains: Explains, together_s: float
) -> list[Case]:
    """Return the incidents that a finding makes one of, the one that stays first; [] for none.

    Args:
        finding: the new one.
        cases: the incidents that it can have to do with.
        explains: whether one finding explains another.
        together_s: onsets this close are simultaneous.
    """
    linked = [(case, _links(case, finding, explains, together_s)) for case in cases]
    effects = sorted((case for case, links in linked if links.effect), key=_age)
    near = sorted((case for case, links in linked if links.near), key=_age)
    homes = {case.id: case for case, links in linked if links.root}
    if effects and not any(case.id in homes for case in effects):
        homes[effects[0].id] = effects[0]
    if not homes and near:
        homes[near[0].id] = near[0]
    return sorted(homes.values(), key=_age)


def _links(case: Case, finding: Finding, explains: Explains, together_s: float) -> _Links:
    root = effect = near = False
    for id_, symptom in case.symptoms.items():
        member = symptom.finding
        here = same_pair(member, finding, together_s=together_s) or same_place(
            member, finding, together_s=together_s
        )
        if id_ in case.unexplained and (here or explains(finding, member)):
            root = True
        near = near or here
        effect = effect or explains(member, finding)
        if root and effect:
            break
    return _Links(root, effect, near)


def _age(case: Case) -> tuple[Any, ...]:
    """Return the order in which incidents stay when they turn out to be one."""
    return (not case.fired, case.detected, case.id)
