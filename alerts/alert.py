"""An alert: one service pair's signal is off, from its first finding to the end of its last.

In: findings of one fingerprint. Out: an `Alert`, derived from them alone, so that the same
findings always make the same alert.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alerts import words
from alerts.severity import SEVERITIES, Severity
from detector.finding import Finding, rfc3339
from probes.window import Pair

SCHEMA = "tailrace.alert/1"
FINDINGS_SHOWN = 50
"""An alert that fires for weeks lists its first finding and the latest ones, this many in all."""

AlertState = Literal["firing", "resolved"]

FAILING_SHARE = 0.05
"""Failed or reset connections are critical from here: one in twenty is felt by users."""
NEAR_ZERO = 0.1
"""Requests or connections are nearly gone when a tenth or less is left."""
HALVED = 0.5
SLOWER = 2.0
"""Latency is worth a warning when it doubled."""

_LATENCIES = frozenset({"connect_latency", "request_latency", "rtt"})
_FAILURES = frozenset({"connect_errors", "resets"})
_TRAFFIC = frozenset({"connections", "requests"})


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def fingerprint(finding: Finding) -> str:
    """Return what makes two findings one alert: the same pair, signal and direction."""
    return _digest(*map(str, finding.pair), finding.signal, finding.direction)


def alert_id(first: Finding) -> str:
    """Return the stable id of the alert that `first` opens."""
    return _digest("alert", first.id)


def message_id(about: str, event: str, receiver: str) -> str:
    """Return the stable id of the message that tells `receiver` of an alert's change of state.

    Or of a digest: `about` is the id of either.
    """
    return f"msg_{_digest(about, event, receiver)}"


def severity(finding: Finding) -> Severity:
    """Return what the change means to users of the service.

    critical: connections fail or are reset (5 % of them or more), a pair went silent, requests or
    connections fell to a tenth or less. warning: fewer failures than that, latency doubled,
    retransmissions rose, traffic halved. info: anything else, such as a new pair or better latency.
    """
    if finding.direction == "gone":
        return "critical"
    if finding.direction == "up":
        return _severity_up(finding)
    if finding.direction == "down" and finding.signal in _TRAFFIC and finding.ratio is not None:
        if finding.ratio <= NEAR_ZERO:
            return "critical"
        return "warning" if finding.ratio <= HALVED else "info"
    return "info"


def _severity_up(finding: Finding) -> Severity:
    if finding.signal in _FAILURES:
        return "critical" if (finding.after or 0.0) >= FAILING_SHARE else "warning"
    if finding.signal == "retransmits":
        return "warning"
    slower = finding.ratio is not None and finding.ratio >= SLOWER
    return "warning" if finding.signal in _LATENCIES and slower else "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert.

    Attributes:
        id: stable over its life and over restarts.
        fingerprint: of pair, signal and direction; at most one alert of it fires at a time.
        state: "firing" until every finding of it ended, then "resolved" for good.
        ended_as: None while firing; "adopted" when a finding of it became the new normal, else
            "resolved".
        started: onset of its first finding, epoch seconds.
        changed: when it got its state: end of the window that showed it, epoch seconds.
        resolved: when its last finding ended, epoch seconds; None while firing.
        severity: of its most severe finding.
        title: the change in the fewest words.
        summary: the change, since when, how sure and why, in sentences.
        finding_count: how many findings it has.
        findings: the first and the latest of them, at most `FINDINGS_SHOWN`.
    """

    id: str
    fingerprint: str
    state: AlertState
    ended_as: Literal["resolved", "adopted"] | None
    started: float
    changed: float
    resolved: float | None
    severity: Severity
    title: str
    summary: str
    finding_count: int
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the public form, as `docs/formats.md` specifies it."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "fingerprint": self.fingerprint,
            "state": self.state,
            "ended_as": self.ended_as,
            "started": rfc3339(self.started),
            "changed": rfc3339(self.changed),
            "resolved": None if self.resolved is None else rfc3339(self.resolved),
            "severity": self.severity,
            "title": self.title,
            "summary": self.summary,
            "finding_count": self.finding_count,
            "findings": [finding_to_json(finding) for finding in self.findings],
        }


def make_alert(id_: str, findings: Sequence[Finding]) -> Alert:
    """Return the alert that `findings` (at least one, in order of detection) make up."""
    first = findings[0]
    over = all(finding.state != "firing" for finding in findings)
    adopted = any(finding.state == "adopted" for finding in findings)
    ended = max(_ended(finding) for finding in findings) if over else None
    shown = tuple(findings)
    if len(shown) > FINDINGS_SHOWN:
        shown = (first, *shown[1 - FINDINGS_SHOWN :])
    return Alert(
        id=id_,
        fingerprint=fingerprint(first),
        state="resolved" if over else "firing",
        ended_as=None if not over else "adopted" if adopted else "resolved",
        started=min(finding.onset for finding in findings),
        changed=first.detected if ended is None else ended,
        resolved=ended,
        severity=min((severity(finding) for finding in findings), key=SEVERITIES.index),
        title=words.headline(first),
        summary=_summary(findings, over=over),
        finding_count=len(findings),
        findings=shown,
    )


def _ended(finding: Finding) -> float:
    return finding.detected if finding.ended is None else finding.ended


def _summary(findings: Sequence[Finding], *, over: bool) -> str:
    first = findings[0]
    sentences = [
        f"{words.what(first)}, since {words.moment(first.onset)}",
        f"How sure: {words.certainty(first.significance)}",
    ]
    if first.cause:
        sentences.append(f"Cause: {words.cause(first)}")
    if first.side:
        sentences.append(f"Where: {words.side(first)}")
    if len(findings) > 1:
        sentences.append(f"{len(findings)} findings in all; the latest: {words.what(findings[-1])}")
    if over:
        adopted = [finding for finding in findings if finding.state == "adopted"]
        last = max(adopted or findings, key=_ended)
        sentences.append(words.ending(last) or f"over since {words.moment(_ended(last))}")
    return ". ".join(text[0].upper() + text[1:] if i else text for i, text in enumerate(sentences))


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """Return a finding's public form with null where JSON has no number (NaN, infinity)."""
    public = finding.to_json()
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in public.items()
    }


def finding_from_json(public: Mapping[str, Any]) -> Finding:
    """Return the finding behind a public form; evidence is not part of it.

    Raises:
        KeyError, ValueError: `public` is not a finding.
    """
    ended = public["ended"]
    significance = public["significance"]
    return Finding(
        id=public["id"],
        pair=Pair(public["client"], public["server"], public["port"], public["transport"]),
        signal=public["signal"],
        direction=public["direction"],
        onset=_epoch_s(public["onset"]),
        detected=_epoch_s(public["detected"]),
        before=public["before"],
        after=public["after"],
        ratio=public["ratio"],
        unit=public["unit"],
        significance=math.inf if significance is None else significance,
        cause=public["cause"],
        side=public.get("side", ""),
        state=public["state"],
        ended=None if ended is None else _epoch_s(ended),
    )


def alert_from_json(public: Mapping[str, Any]) -> Alert:
    """Return the alert behind a public form.

    Raises:
        KeyError, ValueError: `public` is not an alert.
    """
    resolved = public["resolved"]
    return Alert(
        id=public["id"],
        fingerprint=public["fingerprint"],
        state=public["state"],
        ended_as=public["ended_as"],
        started=_epoch_s(public["started"]),
        changed=_epoch_s(public["changed"]),
        resolved=None if resolved is None else _epoch_s(resolved),
        severity=public["severity"],
        title=public["title"],
        summary=public["summary"],
        finding_count=public["finding_count"],
        findings=tuple(finding_from_json(finding) for finding in public["findings"]),
    )


def _epoch_s(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()
