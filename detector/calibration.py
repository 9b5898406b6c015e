"""What the detector says of itself: whether its promise holds, and what has changed at all."""

from __future__ import annotations

from typing import Literal, NamedTuple

from detector.finding import Direction
from probes.window import Kind, Pair


class Calibration(NamedTuple):
    """Whether the streams of one kind honour the theory behind their threshold.

    Attributes:
        kind: the kind of signal.
        streams: how many streams of it are judged.
        stream_weeks: how much has been judged, in stream-weeks.
        expected: false alarms that the budget has allowed them so far.
        realised: alarms that they gave so far, real changes included.
        e_value: mean e-value of their quiet windows of late; at most 1 while the null is true,
            NaN before any was judged.
        threshold: "theory" while the theorem's threshold holds; "empirical" when the kind has
            shown that it needs a higher one.
        raised_nats: by how much it is higher.
    """

    kind: Kind
    streams: int
    stream_weeks: float
    expected: float
    realised: int
    e_value: float
    threshold: Literal["theory", "empirical"]
    raised_nats: float


class Change(NamedTuple):
    """A stream in the feed of changes: significant at a false discovery rate, not worth a page.

    Attributes:
        pair: the service pair.
        signal: the signal that changed.
        direction: "up" or "down".
        onset: when the run of evidence began, epoch seconds.
        nats: evidence so far.
        before: baseline, in the signal's unit.
        after: level since the onset.
    """

    pair: Pair
    signal: str
    direction: Direction
    onset: float
    nats: float
    before: float
    after: float
