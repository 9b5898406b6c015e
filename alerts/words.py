"""How findings are said in words: one wording for notifications and for the report.

In: a `Finding`. Out: plain text, for a person; nothing here is escaped for any format.
"""

from __future__ import annotations

import datetime as dt
import math
import unicodedata
from collections.abc import Sequence

from detector.finding import Finding
from probes.window import EVERY, UNITS, Pair

SUBJECTS = {
    "connections": "new connections",
    "requests": "requests",
    "waits": "answers that are waited for on purpose",
    "bytes_sent": "bytes sent",
    "bytes_received": "bytes received",
    "connect_errors": "failed connections",
    "resets": "reset connections",
    "retransmits": "retransmissions",
    "stalls": "connections held up by a reader that does not read",
    "drops": "dropped datagrams and connections",
    "dns_errors": "failed DNS queries",
    "connect_latency": "connect latency",
    "dns_latency": "DNS latency",
    "request_latency": "request latency",
    "rtt": "round-trip time",
}
"""What each signal is called in a sentence; any other signal is called by its name."""

CAUSES = {
    "refused": "the server refused them",
    "timed_out": "they timed out without an answer",
    "unreachable": "the server could not be reached",
    "reset": "they were reset while connecting",
    "aborted": "the client gave up waiting",
    "no_port": "the client had no local port left",
    "by_client": "the client reset them",
    "by_server": "the server reset them",
    "by_client_before_data": "the client reset them before any data",
    "by_server_before_data": "the server reset them before any data",
    "timeout": "the retransmission timer ran out",
    "buffer": "the receiver's buffer was full",
    "accept_queue": "the server did not accept them in time",
    "syn": "too many others were half open",
    "servfail": "the server could not find out (SERVFAIL)",
    "nxdomain": "the names do not exist (NXDOMAIN)",
    "other": "the server answered with some other error",
}

SIDES = {
    "client": "at the client",
    "network": "on the network between them",
    "server": "at the server",
}

_COUNTED = {"requests": "req/s", "connections": "conn/s"}
_LONGEST_NAME = 120


def clean(name: str) -> str:
    """Return a name from outside without control characters, shortened when absurdly long."""
    kept = "".join(c for c in name if unicodedata.category(c)[0] != "C")
    return kept if len(kept) <= _LONGEST_NAME else kept[: _LONGEST_NAME - 1] + "…"


def pair(of: Pair) -> str:
    """Return a service pair, e.g. "web -> api:8080"; the transport only when it is not TCP.

    A roll-up is "every client of api:8080", or "checkout to all its servers".
    """
    transport = "" if of.transport == "tcp" else f"/{clean(of.transport)}"
    if of.client == EVERY:
        return f"every client of {clean(of.server)}:{of.port}{transport}"
    if of.server == EVERY:
        over = f" over {clean(of.transport)}" if transport else ""
        return f"{clean(of.client)} to all its servers{over}"
    return f"{clean(of.client)} -> {clean(of.server)}:{of.port}{transport}"


def moment(epoch_s: float) -> str:
    """Return a time for a person, e.g. "2026-01-02 03:04:05 UTC"."""
    return dt.datetime.fromtimestamp(round(epoch_s), tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """Return a span of minutes to days, e.g. "45 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def number(value: float) -> str:
    """Return a number as a person reads it: 0.05, 2.1, 20.4, 340, 12,300."""
    if not math.isfinite(value):
        return "unknown"
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if 0 < size < 0.095:
        return f"{value:.2g}"
    return f"{value:.1f}"


def _scaled(value: float, steps: Sequence[tuple[float, str]]) -> str:
    # 0.9995: what would be rounded up to 1000 of one unit is 1.0 of the next
    for factor, unit in steps[:-1]:
        if abs(value) >= 0.9995 * factor:
            return f"{number(value / factor)} {unit}"
    factor, unit = steps[-1]
    return f"{number(value / factor)} {unit}"


def quantity(value: float, unit: str, *, signal: str = "") -> str:
    """Return a value with its unit: 2.1 ms, 340 req/s, 1.2 MB/s, 5.0 %."""
    if unit == "s":
        return _scaled(
            value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if value else ((1e-3, "ms"),)
        )
    if unit == "B/s":
        return _scaled(value, ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")))
    if unit == "ratio":
        return f"{number(value * 100)} %"
    if unit == "1/s":
        return f"{number(value)} {_COUNTED.get(signal, '/s')}".replace(" /s", "/s")
    return f"{number(value)} {clean(unit)}".rstrip()


def value(finding: Finding, amount: float | None) -> str:
    """Return `before` or `after` of a finding with its unit; "nothing" for None."""
    if amount is None:
        return "nothing"
    return quantity(amount, finding.unit or UNITS.get(finding.signal, ""), signal=finding.signal)


def subject(signal: str) -> str:
    """Return what a signal is called in a sentence."""
    return SUBJECTS.get(signal, clean(signal))


def factor(finding: Finding) -> str:
    """Return how large the change is, e.g. "9.7x" or "-96 %"; "" when that is not defined."""
    ratio = finding.ratio
    if ratio is None or not math.isfinite(ratio) or ratio < 0:
        return ""
    return f"{number(ratio)}x" if ratio >= 1 else f"-{100 * (1 - ratio):.0f} %"


def what(finding: Finding) -> str:
    """Return what changed, e.g. "request latency of web -> api:8080 rose from 2.1 ms to …"."""
    where = pair(finding.pair)
    if finding.direction == "new":
        return f"{where} is a new service pair"
    if finding.direction == "gone":
        was = f" (was {value(finding, finding.before)})" if finding.before else ""
        return f"{where} went silent{was}"
    verb = "rose" if finding.direction == "up" else "fell"
    text = (
        f"{subject(finding.signal)} of {where} {verb} "
        f"from {value(finding, finding.before)} to {value(finding, finding.after)}"
    )
    return f"{text} ({factor(finding)})" if factor(finding) else text


def headline(finding: Finding) -> str:
    """Return the change in the fewest words, e.g. "request latency up 9.7x: web -> api:8080"."""
    where = pair(finding.pair)
    if finding.direction == "new":
        return f"new service pair: {where}"
    if finding.direction == "gone":
        return f"silent: {where}"
    # A share that was next to nothing makes a ratio nobody can picture: 5.0 % says it
    if finding.unit == "ratio" and finding.after is not None:
        size = f"to {value(finding, finding.after)}"
    else:
        size = factor(finding).lstrip("-")
    return f"{subject(finding.signal)} {finding.direction} {size}".rstrip() + f": {where}"


def certainty(significance: float) -> str:
    """Return how sure, in words and as a number, e.g. "very sure (1 in 10^8 by chance)"."""
    if math.isnan(significance):
        return "unknown"
    words = next((words for least, words in _CERTAINTY if significance >= least), "weak evidence")
    if significance >= 300:
        return f"{words} (less than 1 in 10^300 by chance)"
    if significance >= 4:
        return f"{words} (1 in 10^{math.floor(significance)} by chance)"
    return f"{words} (1 in {10 ** max(0.0, significance):,.0f} by chance)"


_CERTAINTY = ((12.0, "practically certain"), (6.0, "very sure"), (3.0, "fairly sure"))


def cause(finding: Finding) -> str:
    """Return what the data say about why; "" when they say nothing."""
    if finding.signal == "stalls" and finding.cause in ("by_client", "by_server"):
        return f"the {finding.cause.removeprefix('by_')} does not read what it is sent"
    return CAUSES.get(finding.cause, clean(finding.cause))


def side(finding: Finding) -> str:
    """Return where the fault lies; "" when the data say nothing."""
    return SIDES.get(finding.side, "")


def ending(finding: Finding) -> str:
    """Return how a finding ended; "" while it is firing."""
    if finding.ended is None:
        return ""
    lasted = duration(finding.ended - finding.onset)
    if finding.state == "adopted":
        return f"new normal since {moment(finding.onset)} (adopted after {lasted})"
    if finding.state == "resolved":
        return f"back to normal since {moment(finding.ended)} (lasted {lasted})"
    return ""
