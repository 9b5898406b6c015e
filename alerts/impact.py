"""What an incident means to users: severity and impact, from shares of requests.

In: its findings, each with the traffic of its pair. Out: a severity and a sentence. How sure the
detector is plays no part: what is certain may be harmless.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from alerts import words
from alerts.severity import Severity, worst
from detector.finding import Finding

FAILING: Final = 0.05
"""Failures are critical from this share of a pair's requests: one in twenty is felt by users."""
NEAR_ZERO: Final = 0.1
"""Traffic is nearly gone when a tenth or less is left."""
HALVED: Final = 0.5
SLOWER: Final = 2.0
"""Latency is worth a warning when it doubled."""
MUCH_SLOWER, FELT_S = 5.0, 1.0
"""And critical when it is five times as high, and a second or more: users leave."""
MATTERS: Final = 0.01
"""A pair with less of its server's traffic is a small part of it ..."""
LASTING_S: Final = 60.0
"""... whose failure is critical only if it goes on for a minute and is nearly total."""
TOTAL: Final = 0.5

_FAILURES: Final = frozenset({"connect_errors", "resets", "dns_errors", "drops"})
_LATENCIES: Final = frozenset({"connect_latency", "request_latency", "dns_latency"})
"""Of the round-trip time users feel nothing but what makes requests slow."""
_USED: Final = frozenset({"connections", "requests"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """A finding, and whose traffic it is about.

    Attributes:
        finding: it.
        rate: traffic of its pair when it was found, per second.
        share: that traffic as a share of its server's, in [0, 1].
    """

    finding: Finding
    rate: float
    share: float


def failing_share(finding: Finding) -> float:
    """Return which share of a pair's requests fail or do not come, in [0, 1]."""
    if finding.direction == "gone":
        return 1.0
    if finding.signal in _FAILURES and finding.direction == "up":
        return min(max(finding.after or 0.0, 0.0), 1.0)
    if finding.signal in _USED and finding.direction == "down" and finding.ratio is not None:
        return 1.0 - min(max(finding.ratio, 0.0), 1.0)
    return 0.0


def slow_share(finding: Finding) -> float:
    """Return which share of a pair's requests take at least twice as long, in [0, 1]."""
    slower = finding.ratio is not None and finding.ratio >= SLOWER
    if finding.signal not in _LATENCIES or finding.direction != "up" or not slower:
        return 0.0
    quantile = finding.evidence.get("quantile", 0.5)
    return 1.0 - quantile if isinstance(quantile, float) else 0.5


def severity(symptom: Symptom, *, lasted_s: float = 0.0) -> Severity:
    """Return what one symptom means to users.

    critical: 5 % or more of a pair's requests fail, it is silent, nine tenths of its requests are
    gone, or it takes five times as long and a second at least. A pair that is a hundredth of its
    server's traffic, or less, counts as critical once half of it has failed for a minute.
    warning: less than that, latency that doubled, retransmissions, traffic that halved.
    info: anything else, such as a new pair, more traffic or better latency.
    """
    graded = _grade(symptom.finding)
    if graded != "critical" or symptom.share >= MATTERS:
        return graded
    lasting = lasted_s >= LASTING_S and failing_share(symptom.finding) >= TOTAL
    return "critical" if lasting else "warning"


def _grade(finding: Finding) -> Severity:
    if finding.direction == "gone":
        return "critical"
    if finding.direction == "up":
        return _grade_up(finding)
    if finding.direction == "down" and finding.signal in _USED and finding.ratio is not None:
        if finding.ratio <= NEAR_ZERO:
            return "critical"
        return "warning" if finding.ratio <= HALVED else "info"
    return "info"


def _grade_up(finding: Finding) -> Severity:
    if finding.signal in _FAILURES:
        return "critical" if failing_share(finding) >= FAILING else "warning"
    if finding.signal == "retransmits":
        return "warning"
    if finding.signal not in _LATENCIES or finding.ratio is None:
        return "info"
    if finding.ratio >= MUCH_SLOWER and (finding.after or 0.0) >= FELT_S:
        return "critical"
    return "warning" if finding.ratio >= SLOWER else "info"


def is_hard(finding: Finding) -> bool:
    """Return whether a finding is a hard failure: needs no second look to be believed."""
    return failing_share(finding) >= FAILING and _grade(finding) == "critical"


def overall(symptoms: Iterable[Symptom], *, lasted_s: float) -> Severity:
    """Return the severity of all together: that of the worst."""
    return worst(severity(symptom, lasted_s=lasted_s) for symptom in symptoms)


def text(symptoms: Collection[Symptom]) -> str:
    """Return whose requests fail or are slow, and what share of them; "" if none are.

    Of each the pair is named of which the most requests are hurt.
    """
    parts = []
    for share_of in (failing_share, slow_share):
        hurt = [s for s in symptoms if share_of(s.finding) > 0.0]
        if not hurt:
            continue
        worst_hit = max(
            hurt, key=lambda s: (share_of(s.finding) * max(s.rate, 1e-9), s.share, s.finding.id)
        )
        said = _sentence(worst_hit, share_of(worst_hit.finding), slow=share_of is slow_share)
        others = len({s.finding.pair for s in hurt} - {worst_hit.finding.pair})
        pairs = "pair" if others == 1 else "pairs"
        parts.append(f"{said}; others of {others} more {pairs} too" if others else said)
    return ". ".join(parts)


def _sentence(symptom: Symptom, share: float, *, slow: bool) -> str:
    finding = symptom.finding
    much = f"{100.0 * share:.3g} %"
    where = f"of the requests of {words.pair(finding.pair)}"
    if slow:
        said = f"{much} or more {where} take {words.factor(finding)} as long"
    elif finding.direction == "gone" or finding.signal in _USED:
        said = f"{much} {where} are missing"
    else:
        said = f"{much} {where} fail"
    if symptom.share >= 0.995:
        return said
    server = words.clean(finding.pair.server)
    return f"{said} ({100.0 * symptom.share:.3g} % of what {server} is asked)"
