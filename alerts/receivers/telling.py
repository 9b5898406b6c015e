"""What every receiver says of an incident, in plain words; each lays it out in its own way.

In: a message. Out: text for a person, escaped for no format.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Mapping
from typing import Final

from alerts import words
from alerts.digest import Digest
from alerts.incident import Incident, Root, Trigger
from alerts.receivers.base import AnyMessage, DigestMessage, Message

ROOTS_LISTED: Final = 3
AFFECTED_LISTED: Final = 20
SYMPTOMS_LISTED: Final = 10
LONGEST_FACT: Final = 600
"""Characters; no fact is longer, so that a few of them fit into any receiver's limits."""
LONGEST_LINE: Final = 400
LONGEST_PICTURE: Final = 120

SIGNS: Final = {"critical": "🔴", "warning": "🟠", "info": "🔵"}
OVER: Final = "✅"

_HAPPENED: Final = {
    "deploy": "deploy of",
    "restart": "restart of",
    "scale_out": "more instances of",
    "scale_in": "fewer instances of",
    "oom_kill": "out of memory, killed:",
    "reload": "reload of",
}


def shortened(text: str, limit: int) -> str:
    """Return text of at most `limit` characters; an ellipsis shows where it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def sign(message: AnyMessage) -> str:
    """Return the character that shows at a glance how bad it is."""
    if isinstance(message, DigestMessage):
        return "🗒️"
    return OVER if message.event == "resolved" else SIGNS[message.incident.severity]


def title(message: AnyMessage, *, in_place: bool = False) -> str:
    """Return the message in the fewest words; `in_place`: it takes the earlier one's place."""
    if isinstance(message, DigestMessage):
        number = message.digest.incident_count
        return f"{number} incident{'s were' if number > 1 else ' was'} held back"
    mark = "[test] " if message.test else ""
    if message.event == "resolved":
        mark += "New normal: " if message.incident.ended_as == "adopted" else "Resolved: "
    elif message.event == "updated" and not in_place:
        mark += "Updated: "
    return mark + (one_line(message.incident.title) or what(message.incident))


def one_line(text: str) -> str:
    """Return text without line breaks or any other control character."""
    return "".join(c for c in " ".join(text.split()) if unicodedata.category(c)[0] != "C")


def picture(incident: Incident) -> str:
    """Return the signal before and after the onset; "" when it is not known."""
    return "".join(c for c in incident.picture if c == " " or "▁" <= c <= "█")[:LONGEST_PICTURE]


def what(incident: Incident) -> str:
    """Return what changed, from what to what."""
    text = words.what(incident.symptoms[0]) if incident.symptoms else incident.title
    # Receivers refuse an empty text
    return shortened(one_line(text), LONGEST_LINE) or "something changed"


def facts(message: Message) -> list[tuple[str, str]]:
    """Return what else there is to know, as labels and texts, the most urgent first."""
    incident = message.incident
    known = [("Since", words.moment(incident.started))]
    if message.event == "resolved":
        known.append(("Ended", ending(incident)))
    if incident.symptoms:
        known.append(("How sure", words.certainty(incident.symptoms[0].significance)))
    known += [
        ("Severity", incident.severity),
        ("Probable cause", root(incident.root)),
        ("Or else", "; ".join(map(root, incident.roots[1:ROOTS_LISTED]))),
        ("Trigger", trigger(incident)),
        ("Impact", one_line(incident.impact)),
        ("Affected", affected(incident)),
    ]
    return [(label, shortened(text, LONGEST_FACT)) for label, text in known if text]


def root(of: Root) -> str:
    """Return where a cause lies, how much speaks for it, and why."""
    where = f"{words.clean(of.service)}{_at(of)}"
    why = f": {one_line(of.why)}" if of.why else ""
    return f"{where} ({of.score * 100:.0f} % of the evidence){why}"


def _at(of: Root) -> str:
    return {"network": ", the network in front of it", "": ""}.get(of.side, f", as the {of.side}")


def trigger(incident: Incident) -> str:
    """Return what probably set it off; "" when nothing is known."""
    if incident.trigger is None:
        return ""
    known: Trigger = incident.trigger
    lead_s = incident.started - known.at
    when = f"{words.duration(abs(lead_s))} {'before' if lead_s >= 0 else 'after'} the onset"
    detail = f": {one_line(known.detail)}" if known.detail else ""
    return f"{_HAPPENED[known.kind]} {words.clean(known.service)}, {when}{detail}"


def affected(incident: Incident) -> str:
    """Return who else feels it; "" for nobody."""
    others = _others(incident)
    more = len(others) - AFFECTED_LISTED
    return ", ".join(others[:AFFECTED_LISTED]) + (f" and {more} more" if more > 0 else "")


def _others(incident: Incident) -> list[str]:
    return [words.clean(name) for name in incident.affected if name != incident.root.service]


def ending(incident: Incident) -> str:
    """Return how and when it ended; "" while it goes on."""
    if incident.resolved is None:
        return ""
    lasted = words.duration(incident.resolved - incident.started)
    if incident.ended_as == "adopted":
        return f"new normal since {words.moment(incident.started)} (adopted after {lasted})"
    return f"back to normal since {words.moment(incident.resolved)} (lasted {lasted})"


def symptoms(incident: Incident, *, limit: int = SYMPTOMS_LISTED) -> list[str]:
    """Return a line for each of the first findings, and one that says how many more there are."""
    shown = incident.symptoms[:limit]
    lines = [shortened(one_line(words.what(finding)), LONGEST_LINE) for finding in shown]
    more = len(incident.findings) - len(shown)
    return [*lines, f"… and {more} more"] if more > 0 else lines


def commands(message: Message) -> list[tuple[str, str]]:
    """Return what to run, as labels and commands: to see more, and to silence what goes on."""
    more = ("See more", see_more(message.incident))
    if message.event == "resolved":
        return [more]
    return [more, ("Silence", _silence(message.incident))]


def see_more(incident: Incident) -> str:
    """Return the command that explains it."""
    return f"tailrace explain {shlex.quote(one_line(incident.id))}"


def _silence(incident: Incident) -> str:
    matcher = shlex.quote(f"service={words.clean(incident.root.service)}")
    return f'tailrace silence add {matcher} --for 2h --comment "…"'


def remembered(incident: Incident) -> dict[str, str]:
    """Return what a receipt has to hold so that `changes` can tell what became of it."""
    return {
        "severity": incident.severity,
        "root": incident.root.service,
        "findings": str(len(incident.findings)),
        "affected": str(len(_others(incident))),
    }


def changes(incident: Incident, earlier: Mapping[str, str]) -> str:
    """Return what is other than it was when `earlier` was told; "" when nothing is known to be."""
    now = remembered(incident)
    said = {
        "severity": "now {new} (was {old})",
        "root": "probable cause now {new} (was {old})",
        "findings": "findings: {new} (were {old})",
        "affected": "services that feel it: {new} (were {old})",
    }
    return "; ".join(
        text.format(new=words.clean(now[key]), old=words.clean(earlier[key]))
        for key, text in said.items()
        if key in earlier and earlier[key] != now[key]
    )


def digest_lines(digest: Digest) -> list[str]:
    """Return the lines of a digest: why, what, and how to see more."""
    lines = [
        f"{entry.severity}: {one_line(entry.title)} ({entry.state}) [{entry.id}]"
        for entry in digest.incidents[:SYMPTOMS_LISTED]
    ]
    more = digest.incident_count - len(lines)
    return [
        f"Held back: {one_line(digest.reason)}",
        *(shortened(line, LONGEST_LINE) for line in lines),
        *([f"… and {more} more"] if more > 0 else []),
        "All of them: tailrace report. One that is real: tailrace alert confirm ID",
    ]


def as_lines(message: AnyMessage) -> list[str]:
    """Return the whole message as lines of plain text, without its title."""
    if isinstance(message, DigestMessage):
        return digest_lines(message.digest)
    incident = message.incident
    changed = changes(incident, message.earlier) if message.event == "updated" else ""
    lines = [what(incident), *([f"Changed: {changed}"] if changed else [])]
    if picture(incident):
        lines.append(picture(incident))
    lines += [f"{label}: {text}" for label, text in facts(message)]
    if len(incident.findings) > 1:
        lines += [f"{len(incident.findings)} findings:", *(f"  {x}" for x in symptoms(incident))]
    return lines + [f"{label}: {command}" for label, command in commands(message)]
