"""Whether detection keeps its promise here, kind by kind of signal: in words, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from detector.calibration import Calibration
from probes.window import Kind

_KINDS = {
    Kind.COUNT: "counts (requests, connections)",
    Kind.SUM: "bytes",
    Kind.RATIO: "shares (errors, resets, retransmits)",
    Kind.LATENCY: "latencies",
    Kind.GAUGE: "other signals",
    Kind.PRESENCE: "new and silent pairs",
}


def to_json(calibration: Iterable[Calibration]) -> list[dict[str, Any]]:
    """Return it as JSON values; an e-value that is not known is null."""
    return [
        {
            **each._asdict(),
            "kind": each.kind.value,
            "e_value": each.e_value if math.isfinite(each.e_value) else None,
        }
        for each in calibration
    ]


def from_json(data: Iterable[Mapping[str, Any]]) -> list[Calibration]:
    """Return what `to_json` was made of.

    Raises:
        KeyError, TypeError, ValueError: it was made of something else.
    """
    return [
        Calibration(
            kind=Kind(each["kind"]),
            streams=int(each["streams"]),
            stream_weeks=float(each["stream_weeks"]),
            expected=float(each["expected"]),
            realised=int(each["realised"]),
            e_value=math.nan if each["e_value"] is None else float(each["e_value"]),
            threshold="empirical" if each["threshold"] == "empirical" else "theory",
            raised_nats=float(each["raised_nats"]),
        )
        for each in data
    ]


def name(calibration: Calibration) -> str:
    """Return what the kind of signal is called, e.g. "latencies"."""
    return _KINDS[calibration.kind]


def text(calibration: Calibration) -> str:
    """Return whether a kind of signal honours the theory, in words first."""
    c = calibration
    if c.streams == 0 and c.realised == 0:
        return f"{name(c)}: none are judged yet"
    if c.threshold == "empirical":
        words = f"do not honour the theory here: thresholds are {c.raised_nats:.1f} nats higher"
    elif math.isnan(c.e_value):
        words = "run on the theory's thresholds; whether they honour it here is not known yet"
    else:
        words = "honour the theory here: thresholds are its own"
    e_value = (
        "" if math.isnan(c.e_value) else f", mean e-value {c.e_value:.2f} (at most 1 is right)"
    )
    return (
        f"{name(c)} {words}; {c.realised} alarms, real ones included, where {_few(c.expected)} "
        f"false ones were allowed so far{e_value}; {c.streams} streams, "
        f"{c.stream_weeks:.3g} stream-weeks"
    )


def _few(number: float) -> str:
    return f"{number:.0f}" if number >= 9.5 else f"{number:.2g}"
