"""What a Slack message about an incident looks like, within Slack's limits.

Block Kit: a header, what changed with its picture, a few facts, what is probably behind it, and
how to see more and to silence it. `text` says the same for notifications and screen readers.
"""

from __future__ import annotations

from typing import Any, Final

from alerts import words
from alerts.digest import Digest
from alerts.incident import Incident
from alerts.receivers import telling
from alerts.receivers.base import AnyMessage, DigestMessage, Message
from detector.finding import rfc3339

HEADER_LIMIT: Final = 150
SECTION_LIMIT: Final = 3000
FIELD_LIMIT: Final = 2000
TOTAL_LIMIT: Final = 12_000
"""Slack states no limit on a whole message; about 13,200 characters are refused."""
DIGEST_LINE_LIMIT: Final = 200
"""So that the lines of a digest, with the ids behind them, fit into one section."""
LINE_LIMIT: Final = 220
CAUSE_LIMIT: Final = 450
"""The same for symptoms, and for facts that have a line of their own."""

_IN_COLUMNS: Final = ("Since", "Ended", "How sure", "Severity", "Affected")
"""Facts that are short; the others get lines of their own."""


def escape(text: str, *, limit: int = SECTION_LIMIT) -> str:
    """Return text that Slack shows as it is, at most `limit` characters after escaping."""
    parts: list[str] = []
    room = limit
    for character in text:
        part = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(character, character)
        room -= len(part)
        if room < 0:
            # What was cut shows as an ellipsis, which needs room itself
            while parts and sum(map(len, parts)) > limit - 1:
                parts.pop()
            return "".join(parts) + "…"
        parts.append(part)
    return "".join(parts)


def render(message: AnyMessage, *, in_place: bool = False) -> dict[str, Any]:
    """Return `text` and `blocks` of a message.

    Args:
        message: an incident, or a digest.
        in_place: it takes the place of the incident's earlier message, and has a thread.
    """
    if isinstance(message, DigestMessage):
        return _digest(message.digest)
    incident = message.incident
    sign, title = telling.sign(message), telling.title(message, in_place=in_place)
    facts = telling.facts(message)
    short = [_fact(label, text, incident) for label, text in facts if label in _IN_COLUMNS]
    long = [
        f"*{label}:* {escape(text, limit=CAUSE_LIMIT)}"
        for label, text in facts
        if label not in _IN_COLUMNS
    ]
    changed = telling.changes(incident, message.earlier) if message.event == "updated" else ""
    if changed and not in_place:
        long.insert(0, f"*Changed:* {escape(changed, limit=CAUSE_LIMIT)}")
    blocks = [
        {"type": "header", "text": _plain(f"{sign} {title}", limit=HEADER_LIMIT)},
        _section(_what(incident)),
        {"type": "section", "fields": [_markdown(fact) for fact in short]},
        _section("\n".join(long)),
    ]
    if not in_place and len(incident.findings) > 1:
        blocks.append(_section(_symptoms(incident)))
    blocks.append({"type": "context", "elements": [_markdown(_commands(message))]})
    sentence = ": ".join([title, telling.ending(incident) or telling.what(incident)])
    return {"text": escape(f"{sign} {sentence}"), "blocks": blocks}


def render_reply(message: Message, *, first: bool) -> dict[str, Any]:
    """Return `text` and `blocks` of the reply in the incident's thread.

    Args:
        message: what is told.
        first: nothing is in the thread so far; it starts with the symptoms.
    """
    incident = message.incident
    if first:
        blocks = [_section(_symptoms(incident)), _section(_what(incident))]
        return {"text": f"{len(incident.findings)} findings", "blocks": blocks}
    if message.event == "resolved":
        text = escape(f"{telling.sign(message)} {telling.ending(incident) or 'Over'}")
        return {"text": text, "blocks": [_section(text)]}
    changed = telling.changes(incident, message.earlier)
    text = escape(f"{telling.sign(message)} Updated: {changed or telling.what(incident)}")
    return {"text": text, "blocks": [_section(text), _section(_symptoms(incident))]}


def _what(incident: Incident) -> str:
    picture = telling.picture(incident)
    return escape(telling.what(incident)) + (f"\n`{picture}`" if picture.strip() else "")


def _fact(label: str, text: str, incident: Incident) -> str:
    if label == "Since":
        # Slack shows a time in the reader's own zone; the rest is for clients that cannot
        text = (
            f"<!date^{int(incident.started)}^{{date_short_pretty}} {{time_secs}}"
            f"|{rfc3339(incident.started)}>"
        )
        return f"*{label}*\n{text}"
    return f"*{label}*\n{escape(text, limit=CAUSE_LIMIT)}"


def _symptoms(incident: Incident) -> str:
    """Return the symptoms, each with how sure it is in words; the message has the numbers."""
    certain = [words.certainty(finding.significance) for finding in incident.symptoms]
    sure = [text.partition(" (")[0] for text in certain]
    number = len(incident.findings)
    lines = [f"*{number} finding{'s' if number > 1 else ''}*"]
    for at, line in enumerate(telling.symptoms(incident)):
        told = f"• {escape(line, limit=LINE_LIMIT)}"
        # The last line may say how many more there are
        is_symptom = at < min(len(sure), telling.SYMPTOMS_LISTED)
        lines.append(f"{told}, {sure[at]}" if is_symptom else escape(line))
    return "\n".join(lines)


def _commands(message: Message) -> str:
    return "\n".join(f"{label}: {_code(text)}" for label, text in telling.commands(message))


def _code(command: str) -> str:
    # A backtick would end the span
    return f"`{escape(command.replace('`', ''), limit=CAUSE_LIMIT)}`"


def _digest(digest: Digest) -> dict[str, Any]:
    headline = f"🗒️ {telling.title(DigestMessage(id='', digest=digest))}"
    listed = digest.incidents[: telling.SYMPTOMS_LISTED]
    lines = [
        f"• {telling.SIGNS[entry.severity]} {escape(entry.title, limit=DIGEST_LINE_LIMIT)}"
        f" ({entry.state}) `{escape(entry.id, limit=64)}`"
        for entry in listed
    ]
    more = digest.incident_count - len(listed)
    if more > 0:
        lines.append(f"… and {more} more")
    why = f"{digest.reason[:1].upper()}{digest.reason[1:]}."
    hint = "All of them: `tailrace report`. One that is real: `tailrace alert confirm ID`"
    return {
        "text": escape(f"{headline}: {digest.reason}"),
        "blocks": [
            {"type": "header", "text": _plain(headline, limit=HEADER_LIMIT)},
            _section(escape(why)),
            _section("\n".join(lines)),
            {"type": "context", "elements": [_markdown(hint)]},
        ],
    }


def _section(escaped: str) -> dict[str, Any]:
    return {"type": "section", "text": _markdown(escaped)}


def _plain(text: str, *, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": escape(text, limit=limit), "emoji": True}


def _markdown(escaped: str) -> dict[str, Any]:
    # verbatim: a service called api.example.com or @here must not become a link or a mention
    return {"type": "mrkdwn", "text": escaped, "verbatim": True}
