"""What a Slack message about an incident looks like, within Slack's limits.

Block Kit: a header, what changed, a few facts, and how to see more. `text` says the same for
notifications and screen readers.
"""

from __future__ import annotations

from typing import Any

from alerts import words
from alerts.digest import Digest
from alerts.incident import Incident
from alerts.receivers.base import AnyMessage, DigestMessage, Message
from detector.finding import Finding, rfc3339

HEADER_LIMIT = 150
SECTION_LIMIT = 3000
FIELD_LIMIT = 2000
TOTAL_LIMIT = 12_000
"""Slack states no limit on a whole message; about 13,200 characters are refused."""
FINDINGS_LISTED = 10
LINE_LIMIT = 400
DIGEST_LINE_LIMIT = 200
"""So that the lines of a digest, with the ids behind them, fit into one section."""

_SIGNS = {"critical": "🔴", "warning": "🟠", "info": "🔵"}


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


def render(message: AnyMessage) -> dict[str, Any]:
    """Return `text` and `blocks` of a message: an incident, its change or end, or a digest."""
    if isinstance(message, DigestMessage):
        return _digest(message.digest)
    incident = message.incident
    headline = f"{_sign(message)} {_title(message)}"
    blocks = [
        {"type": "header", "text": _plain(headline, limit=HEADER_LIMIT)},
        {"type": "section", "text": _markdown(escape(_body(message)))},
        {"type": "section", "fields": _facts(incident, incident.symptoms[0])},
    ]
    if len(incident.symptoms) > 1:
        blocks.append({"type": "section", "text": _markdown(_others(incident))})
    hint = f"See more: `tailrace explain {escape(incident.id, limit=64)}`"
    blocks.append({"type": "context", "elements": [_markdown(hint)]})
    return {"text": escape(f"{_sign(message)} {_sentence(message)}"), "blocks": blocks}


def render_ending(message: Message) -> dict[str, Any]:
    """Return `text` and `blocks` of the reply in an incident's thread: it changed, or ended."""
    text = escape(_sentence(message))
    return {"text": text, "blocks": [{"type": "section", "text": _markdown(text)}]}


def _digest(digest: Digest) -> dict[str, Any]:
    number = digest.incident_count
    headline = f"🗒️ {number} incident{'s were' if number > 1 else ' was'} held back"
    listed = digest.incidents[:FINDINGS_LISTED]
    lines = [
        f"• {_SIGNS[entry.severity]} {escape(entry.title, limit=DIGEST_LINE_LIMIT)}"
        f" ({entry.state}) `{escape(entry.id, limit=64)}`"
        for entry in listed
    ]
    if number > len(listed):
        lines.append(f"… and {number - len(listed)} more")
    why = f"{digest.reason[:1].upper()}{digest.reason[1:]}."
    hint = "All of them: `tailrace incidents`. One that is real: `tailrace alert confirm ID`"
    return {
        "text": escape(f"{headline}: {digest.reason}"),
        "blocks": [
            {"type": "header", "text": _plain(headline, limit=HEADER_LIMIT)},
            {"type": "section", "text": _markdown(escape(why))},
            {"type": "section", "text": _markdown("\n".join(lines))},
            {"type": "context", "elements": [_markdown(hint)]},
        ],
    }


def _sign(message: Message) -> str:
    return "✅" if message.event == "resolved" else _SIGNS[message.incident.severity]


def _title(message: Message) -> str:
    return f"{_mark(message)}{message.incident.title}"


def _sentence(message: Message) -> str:
    return f"{_mark(message)}{_body(message)}"


def _mark(message: Message) -> str:
    mark = "[test] " if message.test else ""
    if message.event == "firing":
        return mark
    if message.event == "updated":
        return f"{mark}Update: "
    return f"{mark}New normal: " if message.incident.ended_as == "adopted" else f"{mark}Resolved: "


def _body(message: Message) -> str:
    incident = message.incident
    text = words.what(incident.symptoms[0])
    if message.event != "resolved":
        return text
    if incident.part_of:
        return f"{text}; part of the incident {incident.part_of}"
    ended_as = [finding for finding in incident.symptoms if finding.state == incident.ended_as]
    endings = [words.ending(finding) for finding in ended_as]
    return f"{text}; {endings[-1]}" if endings and endings[-1] else text


def _facts(incident: Incident, finding: Finding) -> list[dict[str, Any]]:
    # Slack shows a time in the reader's own zone; the rest is for clients that cannot
    since = (
        f"<!date^{int(finding.onset)}^{{date_short_pretty}} {{time_secs}}|{rfc3339(finding.onset)}>"
    )
    facts = [
        f"*Since*\n{since}",
        f"*How sure*\n{escape(words.certainty(finding.significance))}",
        f"*Severity*\n{incident.severity}",
    ]
    if finding.cause:
        facts.append(f"*Cause*\n{escape(words.cause(finding), limit=FIELD_LIMIT - 8)}")
    root = incident.root
    where = f"{words.clean(root.service)}, {words.SIDES.get(root.side, '')}: {root.why}"
    facts.append(f"*Where*\n{escape(where, limit=FIELD_LIMIT - 8)}")
    return [_markdown(fact) for fact in facts]


def _others(incident: Incident) -> str:
    listed = incident.symptoms[1:][:FINDINGS_LISTED]
    lines = [f"• {escape(words.what(finding), limit=LINE_LIMIT)}" for finding in listed]
    more = len(incident.findings) - 1 - len(listed)
    if more > 0:
        lines.append(f"… and {more} more")
    while sum(len(line) + 1 for line in lines) > SECTION_LIMIT:
        lines.pop()
    return "\n".join(lines)


def _plain(text: str, *, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": escape(text, limit=limit), "emoji": True}


def _markdown(escaped: str) -> dict[str, Any]:
    # verbatim: a service called api.example.com or @here must not become a link or a mention
    return {"type": "mrkdwn", "text": escaped, "verbatim": True}
