"""Servers shaped like those of PagerDuty and Teams, which check what their documentation says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from tests.servers.base import Answer, LocalServer, Request

ROUTING_KEY = "0123456789abcdef0123456789abcdef"
WORKFLOW_PATH = "/workflows/0f1e2d3c/triggers/manual/paths/invoke?sig=averysecretsignature"

_TEXT = {"type": "string"}
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)$"}
_KEY = {"type": "string", "pattern": "^[0-9a-zA-Z]{32}$"}
_LINKS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["href"],
        "properties": {"href": {"type": "string", "pattern": "^https?://"}, "text": _TEXT},
    },
}

# Events API v2, "Send an Alert Event"
EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["routing_key", "event_action"],
    "additionalProperties": False,
    "properties": {
        "routing_key": _KEY,
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255},
        "client": _TEXT,
        "client_url": _TEXT,
        "links": _LINKS,
        "images": {"type": "array"},
        "payload": {
            "type": "object",
            "required": ["summary", "source", "severity"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "source": {"type": "string", "minLength": 1},
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": _TIME,
                "component": _TEXT,
                "group": _TEXT,
                "class": _TEXT,
                "custom_details": {"type": "object"},
            },
        },
    },
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
    "else": {"required": ["dedup_key"]},
}

# Events API v2, "Send a Change Event"
CHANGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["routing_key", "payload"],
    "additionalProperties": False,
    "properties": {
        "routing_key": _KEY,
        "links": _LINKS,
        "images": {"type": "array"},
        "payload": {
            "type": "object",
            "required": ["summary"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "source": _TEXT,
                "timestamp": _TIME,
                "custom_details": {"type": "object"},
            },
        },
    },
}

_RUN = {
    "type": "object",
    "required": ["type", "text"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "TextRun"},
        "text": _TEXT,
        "weight": {"enum": ["default", "lighter", "bolder"]},
        "size": {"enum": ["default", "small", "medium", "large", "extraLarge"]},
        "fontType": {"enum": ["default", "monospace"]},
        "color": {"enum": ["default", "dark", "light", "accent", "good", "warning", "attention"]},
    },
}

# Adaptive Cards 1.4, the elements that are used, in the envelope that Teams documents
CARD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "attachments"],
    "properties": {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "maxItems": 10,
            "items": {
                "type": "object",
                "required": ["contentType", "content"],
                "properties": {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "contentUrl": {"type": "null"},
                    "content": {
                        "type": "object",
                        "required": ["type", "version", "body"],
                        "additionalProperties": False,
                        "properties": {
                            "$schema": _TEXT,
                            "type": {"const": "AdaptiveCard"},
                            "version": {"enum": ["1.2", "1.3", "1.4", "1.5"]},
                            "fallbackText": _TEXT,
                            "msteams": {"type": "object"},
                            "body": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "object",
                                    "required": ["type", "inlines"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "type": {"const": "RichTextBlock"},
                                        "inlines": {"type": "array", "items": _RUN},
                                        "spacing": {"enum": ["default", "none", "small"]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


class PagerDutyServer(LocalServer):
    """Answers 202 to events and change events that its documentation allows, 400 to others."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.open: set[str] = set()

    def answer(self, request: Request) -> Answer:
        known = {
            "/v2/enqueue": (EVENT_SCHEMA, self.events),
            "/v2/change/enqueue": (CHANGE_SCHEMA, self.changes),
        }
        if request.path not in known:
            return Answer(status=404)
        schema, kept = known[request.path]
        if len(request.body) > 512_000:
            return Answer(status=413)
        body = json.loads(request.body)
        try:
            jsonschema.validate(body, schema)
        except jsonschema.ValidationError as error:
            return Answer(status=400, body=error.message.encode())
        if body["routing_key"] != ROUTING_KEY:
            return Answer(status=400, body=b"invalid routing key")
        kept.append(body)
        if body.get("event_action") == "trigger":
            self.open.add(body["dedup_key"])
        elif body.get("event_action") == "resolve":
            self.open.discard(body["dedup_key"])
        return Answer(status=202, body=b'{"status": "success", "message": "Event processed"}')


class TeamsServer(LocalServer):
    """Answers 202 to cards that are right and small enough, and has them in `cards`."""

    def __init__(self) -> None:
        super().__init__()
        self.cards: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return self.base_url + WORKFLOW_PATH

    def answer(self, request: Request) -> Answer:
        if request.path != WORKFLOW_PATH:
            return Answer(status=401)
        if len(request.body) > 28_000:
            return Answer(status=413)
        body = json.loads(request.body)
        try:
            jsonschema.validate(body, CARD_SCHEMA)
        except jsonschema.ValidationError as error:
            return Answer(status=400, body=error.message.encode())
        self.cards.append(body["attachments"][0]["content"])
        return Answer(status=202)
