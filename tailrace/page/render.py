"""Templates, and how things are said in them; everything that goes in is escaped."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup

from alerts import telling, words
from alerts.incident import Incident
from detector.finding import Finding, rfc3339
from probes.window import UNITS, Pair

HERE: Final = Path(__file__).parent
NOTHING: Final = "–"  # noqa: RUF001 - a dash, not a minus


@functools.cache
def environment() -> jinja2.Environment:
    """Return the templates, each parsed once."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "name": words.clean,
        "pair": words.pair,
        "what": words.what,
        "moment": moment,
        "exactly": words.moment,
        "state": state_of,
        "because": because,
    }
    made.globals |= {"pair_href": pair_href, "incident_href": incident_href}
    return made


def render(template: str, **values: Any) -> Markup:
    """Return a template with its values, as HTML."""
    return Markup(environment().get_template(template).render(values))  # noqa: S704 - autoescaped


def moment(epoch_s: float, now: float) -> Markup:
    """Return a time as HTML: how long ago, and exactly."""
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        rfc3339(epoch_s), words.moment(epoch_s), ago(now - epoch_s)
    )


def ago(seconds: float) -> str:
    """Return how long ago something was, no more exactly than it stays true for a minute."""
    if seconds < 60.0:
        return "less than a minute ago"
    return f"{words.duration(60.0 * math.floor(seconds / 60.0)).replace('60 s', '1 min')} ago"


def quantity(value: object, signal: str) -> str:
    """Return a value of a signal with its unit; a dash for none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NOTHING
    return words.quantity(float(value), UNITS.get(signal, ""), signal=signal)


def state_of(incident: Incident) -> str:
    """Return an incident's state in words."""
    if incident.ended_as == "adopted":
        return "the new normal"
    if incident.ended_as == "merged":
        return "part of another"
    return {"firing": "going on", "pending": "not confirmed yet", "recovering": "recovering",
            "resolved": "over"}[incident.state]  # fmt: skip


def because(incident: Incident) -> str:
    """Return what probably set an incident off, in words; "" when nothing is known."""
    if incident.trigger is None:
        return ""
    return telling.trigger(incident.trigger, incident.started)


def pair_href(pair: Pair, **more: str) -> str:
    """Return the address of a pair's page."""
    asked = {"client": pair.client, "server": pair.server, "port": str(pair.port)}
    if pair.transport != "tcp":
        asked["transport"] = pair.transport
    return f"/pair?{urlencode(asked | more)}"


def incident_href(incident: Incident) -> str:
    """Return the address of an incident's page."""
    return f"/incidents/{incident.id}"


def key_of(pair: Pair) -> str:
    """Return what tells a pair from others within a page."""
    text = "\0".join(map(str, pair))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=6).hexdigest()


def latency(row: Mapping[str, Any], signal: str, quantile: str) -> object:
    """Return a quantile of a latency of a pair's row; None when it is not known."""
    value = row.get(signal)
    return value.get(quantile) if isinstance(value, Mapping) else value


def short(finding: Finding) -> str:
    """Return a change without its pair, e.g. "request latency up: 2.0 ms → 20 ms"."""
    if finding.direction == "new":
        return "new service pair"
    before, after = words.value(finding, finding.before), words.value(finding, finding.after)
    if finding.direction == "gone":
        return f"silent, was {before}" if finding.before else "silent"
    return f"{words.subject(finding.signal)} {finding.direction}: {before} → {after}"
