"""The contract between detector and alerts: one significant change of one signal of one pair."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from detector.sides import Side
from probes.window import Pair

SCHEMA = "tailrace.finding/1"

Direction = Literal["up", "down", "new", "gone"]
State = Literal["firing", "resolved", "adopted"]


def rfc3339(epoch_s: float) -> str:
    """Return a time as RFC 3339 UTC with milliseconds, e.g. 2026-01-02T03:04:05.678Z."""
    # Rounded first: isoformat truncates, and 0.1 must not become .099
    moment = dt.datetime.fromtimestamp(round(epoch_s * 1000) / 1000, tz=dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def finding_id(pair: Pair, signal: str, direction: str, onset: float) -> str:
    """Return the stable id of a finding: the same change has the same id, wherever it is found."""
    text = "\0".join((*map(str, pair), signal, direction, rfc3339(onset)))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One change. The detector returns it when found ("firing") and again when it ends.

    Attributes:
        id: stable over its life and over replays.
        pair: the service pair that changed.
        signal: a name of `probes.window.SIGNALS`, or a gauge's own.
        direction: "up", "down", or for presence "new" (new_pair), "gone" (silent_pair).
        onset: when the change began as far as the windows tell, epoch seconds.
        detected: end of the window that made it significant, epoch seconds.
        before: baseline value; None when there is none (new_pair).
        after: value since the onset; None when there is none (silent_pair has 0.0).
        ratio: after / before; None when not defined.
        unit: unit of before and after ("" for none).
        significance: -log10 of the bound on the chance that this much evidence arises without a
            change (8.0: one in 10^8).
        cause: what the data say about why, e.g. "refused"; "" when they say nothing.
        state: "firing", "resolved" (back to its baseline) or "adopted" (the new normal).
        side: where the fault lies: "client", "server" or "network"; "" when the data say nothing.
        ended: end of the window in which it was resolved or adopted; None while firing.
        evidence: what `tailrace explain` shows, in order; not part of the JSON finding.
    """

    id: str
    pair: Pair
    signal: str
    direction: Direction
    onset: float
    detected: float
    before: float | None
    after: float | None
    ratio: float | None
    unit: str
    significance: float
    cause: str
    state: State
    side: Side = ""
    ended: float | None = None
    evidence: Mapping[str, float | str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the public form, as `docs/formats.md` specifies it."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "client": self.pair.client,
            "server": self.pair.server,
            "port": self.pair.port,
            "transport": self.pair.transport,
            "signal": self.signal,
            "direction": self.direction,
            "onset": rfc3339(self.onset),
            "detected": rfc3339(self.detected),
            "before": self.before,
            "after": self.after,
            "ratio": self.ratio,
            "unit": self.unit,
            "significance": self.significance,
            "cause": self.cause,
            "side": self.side,
            "state": self.state,
            "ended": None if self.ended is None else rfc3339(self.ended),
        }
