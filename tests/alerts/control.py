"""Incidents, silences and rules for the tests of what is told to whom."""

from __future__ import annotations

import dataclasses
from typing import Any

from alerts import silences
from alerts.incident import Incident, Root
from alerts.matchers import parse_all
from alerts.policy import Route, Rules
from alerts.silences import Silence
from tests.alerts.examples import T0, finding

WAIT_S, UPDATE_S, REPEAT_S, RESEND_S = 30.0, 60.0, 600.0, 45.0
RULES = Rules(
    receivers={"pager": None, "am": RESEND_S, "team": None},
    routes=(
        Route(
            name="1",
            matchers=parse_all(["severity=critical"]),
            receivers=("pager",),
            goes_on=True,
            wait_s=WAIT_S,
            update_every_s=UPDATE_S,
            repeat_every_s=REPEAT_S,
        ),
        Route(name="2", receivers=("am",), goes_on=True, update_every_s=UPDATE_S),
    ),
)


def incident(id_: str = "a1", **changes: Any) -> Incident:
    """Return an incident: redis fails, and shop and web feel it."""
    symptoms = changes.pop("symptoms", (finding(),))
    base: dict[str, Any] = {
        "id": id_,
        "state": "firing",
        "severity": "critical",
        "suppressed": "",
        "started": T0,
        "detected": T0 + 5,
        "changed": T0 + 5,
        "resolved": None,
        "ended_as": None,
        "roots": (Root(service="redis", side="server", score=0.9, why="it changed first"),),
        "findings": tuple(each.id for each in symptoms),
        "symptoms": symptoms,
        "affected": ("shop", "web"),
        "trigger": None,
        "impact": "",
        "picture": "",
        "title": "redis fails",
        "summary": "redis fails.",
    }
    return Incident(**base | changes)


def over(one: Incident, at_s: float = 100.0) -> Incident:
    """Return the incident when it is over."""
    return dataclasses.replace(
        one, state="resolved", resolved=T0 + at_s, changed=T0 + at_s, ended_as="resolved"
    )


def silence(*matchers: str, start: float = T0, length_s: float = 3600.0, **more: Any) -> Silence:
    """Return a silence of ann's."""
    return silences.make(
        parse_all(matchers),
        starts=start,
        ends=start + length_s,
        comment=more.get("comment", "deploy"),
        author=more.get("author", "ann"),
        now=more.get("now", T0),
    )
