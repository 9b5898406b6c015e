"""Our detector behind river's interfaces, to be run in river's pipelines and evaluations.

Needs river when imported, which takes a second; nothing else here imports it.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Final, Literal, get_args

import numpy as np
from river import base

from detector.engine import Detector
from detector.finding import Finding
from detector.settings import DetectorSettings
from probes.window import Pair, Window

Measure = Literal["count", "sum", "ratio", "gauge"]
"""What a number is: events per update, an amount per update, a share of trials, any other."""

# A ratio without causes; a sum and a count that stand for one direction and for one kind of event
_SIGNAL: Final[dict[str, str]] = {
    "count": "requests",
    "sum": "bytes_sent",
    "ratio": "retransmits",
    "gauge": "x",
}
_PAIR: Final = Pair("river", "stream", 0)
_BEGIN: Final = 1_700_000_000.0


class TailraceDrift(base.DriftDetector):
    """Tailrace's detector for one stream of numbers, as a drift detector of river.

    Every update is a window of `window_s` seconds. Drift is detected in the window in which a
    finding begins; the detector goes on by itself, and says nothing more of that change until it
    is over (back to its baseline, or the new normal after ten minutes of windows).

    Args:
        measure: what the numbers are. Of ratios, `update` takes the trials as well.
        false_alerts_per_week: how many detections without a change are acceptable.
        window_s: seconds between updates, > 0; only the budget depends on it.
        warmup_s: shortest history before drift may be detected.

    Raises:
        ValueError: no such measure, or a length that is not positive.

    Examples:
        >>> from detector.river_compat import TailraceDrift
        >>> drift = TailraceDrift("count", window_s=10)
        >>> for i, x in enumerate([50, 52, 49, 51] * 50 + [100, 104, 98, 102] * 10):
        ...     drift.update(x)
        ...     if drift.drift_detected:
        ...         print(drift.finding.direction, i >= 200)
        up True
    """

    def __init__(
        self,
        measure: str = "gauge",
        false_alerts_per_week: float = 1.0,
        window_s: float = 10.0,
        warmup_s: float = 45.0,
    ) -> None:
        super().__init__()
        if measure not in get_args(Measure):
            raise ValueError(f"measure must be one of {get_args(Measure)}, not {measure!r}")
        self.measure = measure
        self.false_alerts_per_week = false_alerts_per_week
        self.window_s = window_s
        self.warmup_s = warmup_s
        self._clock = _Clock(false_alerts_per_week, window_s, warmup_s)
        self.n_detections = 0
        self.finding: Finding | None = None

    def update(self, x: float, n: float = math.nan) -> None:
        """Take the next number.

        Args:
            x: events, an amount, a share in [0, 1] or any number, as `measure` says.
            n: trials that a ratio is a share of; 1 when not given.
        """
        rate = self.measure in ("count", "sum")
        value = float(x) / self.window_s if rate else float(x)
        trials = 1.0 if self.measure == "ratio" and math.isnan(n) else float(n)
        found = self._clock.update({_SIGNAL[self.measure]: value}, trials)
        begun = [f for f in found if f.state == "firing"]
        self._drift_detected = bool(begun)
        if begun:
            self.n_detections += 1
            self.finding = begun[0]

    @classmethod
    def _unit_test_params(cls) -> Any:
        yield from ({"measure": measure} for measure in get_args(Measure))


class TailraceAnomaly(base.AnomalyDetector):
    """Tailrace's scores for rows of numbers, as an anomaly detector of river.

    Every feature is a gauge with its own level, scale, tail and time of day; the score of a row
    is that of its oddest feature, in [0, 1]. A feature may be missing, and a new one may come; one
    that is no number is left out. `score_one` does not learn, and so costs a copy of the state.

    Args:
        window_s: seconds between rows, > 0; the time of day depends on it.
        warmup_s: shortest history before a feature is scored.

    Raises:
        ValueError: a length that is not positive.

    Examples:
        >>> from detector.river_compat import TailraceAnomaly
        >>> model = TailraceAnomaly()
        >>> for i in range(300):
        ...     model.learn_one({"load": 1.0 + 0.01 * (i % 7), "queue": 5.0 + i % 3})
        >>> model.score_one({"load": 1.02, "queue": 5}) < model.score_one({"load": 9, "queue": 5})
        True
    """

    def __init__(self, window_s: float = 10.0, warmup_s: float = 45.0) -> None:
        self.window_s = window_s
        self.warmup_s = warmup_s
        self._clock = _Clock(1.0, window_s, warmup_s)

    def learn_one(self, x: dict[Any, Any]) -> None:
        """Take a row."""
        self._clock.update(_numbers(x))

    def score_one(self, x: dict[Any, Any]) -> float:
        """Return how odd a row would be next, in [0, 1]."""
        later = copy.deepcopy(self._clock)
        later.update(_numbers(x))
        return later.score()


class _Clock:
    """A detector with one pair, whose windows come `window_s` seconds apart."""

    def __init__(self, false_alerts_per_week: float, window_s: float, warmup_s: float) -> None:
        if not (0 < window_s < math.inf and false_alerts_per_week > 0):
            raise ValueError("window_s and false_alerts_per_week must be positive")
        self._settings = DetectorSettings(
            false_alerts_per_week=false_alerts_per_week, warmup_s=warmup_s
        )
        self._window_s, self._ticks = window_s, 0
        self._detector = Detector(self._settings)

    def update(self, values: dict[str, float], trials: float = math.nan) -> list[Finding]:
        """Take the next window; return findings of its signals."""
        signals = tuple(sorted(values))
        found = self._detector.update(
            Window(
                time=_BEGIN + self._ticks * self._window_s,
                width=self._window_s,
                nominal=self._window_s,
                lost=0,
                pairs=(_PAIR,),
                signals=signals,
                pair=np.zeros(len(signals), np.int32),
                signal=np.arange(len(signals), dtype=np.int16),
                value=np.array([values[name] for name in signals], np.float64),
                count=np.full(len(signals), trials),
            )
        )
        self._ticks += 1
        return [f for f in found if f.signal in values]

    def score(self) -> float:
        """Return the highest score of the last window."""
        return float(self._detector.scores().max(initial=0.0))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_detector": self._detector.to_bytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._detector = Detector.from_bytes(state["_detector"], self._settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Clock:
        other = _Clock.__new__(_Clock)
        other.__dict__.update(self.__dict__)
        other._detector = copy.deepcopy(self._detector, memo)
        return other


def _numbers(x: dict[Any, Any]) -> dict[str, float]:
    """Return the features that are numbers, under names that are no signals of ours."""
    return {
        f"feature {name}": float(value)
        for name, value in x.items()
        if isinstance(value, int | float | np.number | np.bool_)
    }
