"""An incident as an alert of Prometheus: labels that identify it, annotations that tell the rest.

The incident's id is an annotation. As a label it would make every recurrence of the same trouble
another alert, so that silences, inhibition and "seen before" would not work; and two incidents
that are open at a time never have the same labels, since a signal of a pair is in one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from alerts import words
from alerts.digest import Digest
from alerts.receivers import telling
from alerts.receivers.base import AnyMessage, DigestMessage, Message
from detector.finding import rfc3339
from probes.window import EVERY

NAME: Final = "TailraceIncident"
TEST_NAME: Final = "TailraceTest"
DIGEST_NAME: Final = "TailraceDigest"
NEVER: Final = "0001-01-01T00:00:00Z"
"""What Alertmanager's webhook has for the end of what fires."""


def labels_of(message: AnyMessage) -> dict[str, str]:
    """Return what identifies the alert, in the order of the alphabet; an empty label is none."""
    if isinstance(message, DigestMessage):
        return {"alertname": DIGEST_NAME, "severity": "info"}
    incident = message.incident
    known = {
        "alertname": TEST_NAME if message.test else NAME,
        "service": incident.root.service,
        "severity": incident.severity,
        "side": incident.root.side,
    }
    if incident.symptoms:
        first = incident.symptoms[0]
        known |= {"client": first.pair.client, "server": first.pair.server, "signal": first.signal}
    return {
        key: words.clean(value) for key, value in sorted(known.items()) if value and value != EVERY
    }


def annotations_of(message: AnyMessage) -> dict[str, str]:
    """Return what tells of the alert; an empty annotation is none."""
    if isinstance(message, DigestMessage):
        return _of_digest(message.digest)
    incident = message.incident
    known = {
        "summary": telling.title(message, in_place=True),
        "description": telling.one_line(incident.summary) or telling.what(incident),
        "incident": incident.id,
        "picture": telling.picture(incident),
    }
    for label, text in [*telling.facts(message), *telling.commands(message)]:
        if label not in ("Since", "Severity"):
            known[label.lower().replace(" ", "_")] = text
    return {key: value for key, value in sorted(known.items()) if value}


def _of_digest(digest: Digest) -> dict[str, str]:
    title = telling.title(DigestMessage(id=digest.id, digest=digest))
    return {"description": "\n".join(telling.digest_lines(digest)), "summary": title}


def fingerprint(of: Mapping[str, str]) -> str:
    """Return the fingerprint of labels as Prometheus has it: FNV-1a, 64 bits, in hex."""
    value = 0xCBF29CE484222325
    for byte in b"".join(part.encode() + b"\xff" for pair in sorted(of.items()) for part in pair):
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def webhook_body(message: AnyMessage, *, receiver: str) -> dict[str, Any]:
    """Return the body of Alertmanager's webhook, version 4, for a group of this one alert."""
    over = isinstance(message, Message) and message.event == "resolved"
    of, told = labels_of(message), annotations_of(message)
    group = {key: of[key] for key in ("alertname", "service") if key in of}
    named = ", ".join(f'{key}="{_quoted(value)}"' for key, value in group.items())
    ends = NEVER
    if isinstance(message, DigestMessage):
        starts = message.digest.made
    else:
        starts = rfc3339(message.incident.started)
        if over:
            resolved = message.incident.resolved
            ends = rfc3339(message.incident.changed if resolved is None else resolved)
    status = "resolved" if over else "firing"
    return {
        "version": "4",
        "groupKey": f"{{}}:{{{named}}}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": receiver,
        "groupLabels": group,
        "commonLabels": of,
        "commonAnnotations": told,
        "externalURL": "",
        "alerts": [
            {
                "status": status,
                "labels": of,
                "annotations": told,
                "startsAt": starts,
                "endsAt": ends,
                "generatorURL": "",
                "fingerprint": fingerprint(of),
            }
        ],
    }


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
