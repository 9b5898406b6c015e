"""An incident in words: its title, its summary, and the immutable `Incident` that has both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from alerts import blame, impact, words
from alerts.case import Case
from alerts.incident import SYMPTOMS_SHOWN, EndedAs, Incident, Root, Trigger
from alerts.relation import Place, nature
from detector.finding import Finding
from probes.window import EVERY

OTHERS_NAMED: Final = 3

TRIGGERS: Final = {
    "deploy": "was deployed",
    "restart": "was restarted",
    "scale_out": "got more instances",
    "scale_in": "has fewer instances",
    "oom_kill": "was killed for want of memory",
    "reload": "reloaded its configuration",
}


def affected(findings: Sequence[Finding], roots: Sequence[Root]) -> tuple[str, ...]:
    """Return the services that feel what happens, but not its root, in order."""
    feel: set[str] = set()
    for finding in findings:
        kind, pair = nature(finding), finding.pair
        if kind in ("harm", "fall", "other"):
            feel.add(pair.client)
        if kind in ("rise", "new", "fall"):
            feel.add(pair.server)
    return tuple(sorted(feel - {EVERY, *(root.service for root in roots[:1])}))


def in_order(case: Case) -> list[Finding]:
    """Return an incident's findings, those of its root first, then by onset."""
    findings = sorted(case.findings, key=lambda f: (f.onset, f.id))
    if not case.roots:
        return findings
    root = Place(case.roots[0].service, case.roots[0].side)
    mine = blame.direct(root, findings)
    first = [f for f in mine if f.id in case.unexplained]
    rest = [f for f in mine if f.id not in case.unexplained]
    ours = {f.id for f in mine}
    return [*first, *rest, *(f for f in findings if f.id not in ours)]


def describe(
    case: Case,
    *,
    resolved: float | None = None,
    ended_as: EndedAs | None = None,
    suppressed: str = "",
    part_of: str = "",
) -> Incident:
    """Return the incident as it is now.

    Args:
        case: it, judged: with its roots and severity.
        resolved: when it was over, epoch seconds; None while it is not.
        ended_as: how it ended.
        suppressed: why nobody is told of it.
        part_of: the incident that it turned out to be a part of.
    """
    findings = in_order(case)
    feel = affected(findings, case.roots)
    harm = impact.text(list(case.symptoms.values()))
    return Incident(
        id=case.id,
        state=case.state,
        severity=case.severity,
        suppressed=suppressed,
        started=case.started,
        detected=case.detected,
        changed=case.changed,
        resolved=resolved,
        ended_as=ended_as,
        part_of=part_of,
        roots=case.roots,
        findings=tuple(sorted(case.ids, key=lambda id_: (case.ids[id_], id_))),
        symptoms=tuple(findings[:SYMPTOMS_SHOWN]),
        affected=feel,
        trigger=case.trigger,
        impact=harm,
        picture=case.picture,
        title=title(findings, len(case.ids)),
        summary=_summary(case, findings, feel, harm, resolved=resolved, ended_as=ended_as,
                         part_of=part_of),
    )  # fmt: skip


def title(findings: Sequence[Finding], number: int) -> str:
    """Return an incident in the fewest words: its root's first finding, and how many more."""
    more = f" (+{number - 1} more)" if number > 1 else ""
    return words.headline(findings[0]) + more


def _summary(
    case: Case,
    findings: Sequence[Finding],
    feel: Sequence[str],
    harm: str,
    *,
    resolved: float | None,
    ended_as: EndedAs | None,
    part_of: str,
) -> str:
    first = findings[0]
    sentences = [
        f"{words.what(first)}, since {words.moment(case.started)}",
        f"How sure: {words.certainty(first.significance)}",
    ]
    if first.cause:
        sentences.append(f"Cause: {words.cause(first)}")
    sentences.append(f"Where: {_where(case.roots)}")
    if harm:
        sentences.append(f"Impact: {harm}")
    if case.trigger is not None:
        sentences.append(f"Probable trigger: {trigger(case.trigger, case.started)}")
    if others := list(dict.fromkeys(words.what(f) for f in findings[1:])):
        more = len(case.ids) - 1 - OTHERS_NAMED
        said = "; ".join(others[:OTHERS_NAMED])
        sentences.append(f"Also: {said}" + (f"; and {more} more" if more > 0 else ""))
    if feel:
        sentences.append(f"Felt by: {', '.join(map(words.clean, feel[:10]))}")
    ending = _ending(case, resolved, ended_as, part_of)
    if ending:
        sentences.append(ending)
    return ". ".join(text[0].upper() + text[1:] if i else text for i, text in enumerate(sentences))


def _where(roots: Sequence[Root]) -> str:
    first = roots[0]
    share = f"{100 * first.score:.0f} %"
    sure = next(text for least, text in _SURE if first.score >= least)
    where = words.SIDES.get(first.side, "")
    return f"{sure} {words.clean(first.service)}, {where} ({share} of what speaks for any)"


_SURE: Final = ((0.8, "almost certainly"), (0.6, "probably"), (0.4, "perhaps"), (0.0, "unclear,"))


def trigger(what: Trigger, onset: float) -> str:
    """Return what happened to whom, and how long before the onset."""
    before_s = onset - what.at
    when = f"{words.duration(abs(before_s))} {'before' if before_s >= 0 else 'after'} the onset"
    detail = f" ({words.clean(what.detail)})" if what.detail else ""
    return f"{words.clean(what.service)} {TRIGGERS[what.kind]}{detail}, {when}"


def _ending(case: Case, resolved: float | None, ended_as: EndedAs | None, part_of: str) -> str:
    if part_of:
        return f"part of the incident {part_of}, which goes on"
    if resolved is None:
        if case.adopted:
            return f"{len(case.adopted)} of its changes are the new normal, the rest goes on"
        return ""
    lasted = words.duration(resolved - case.started)
    if ended_as == "adopted":
        return f"new normal since {words.moment(case.started)} (adopted after {lasted})"
    return f"back to normal since {words.moment(resolved)} (lasted {lasted})"
