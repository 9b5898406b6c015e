"""river's models as judges of one stream each; river is loaded only here, and only when asked."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from detector.engines import ANY_RIVER, KNOWN, Spec
from detector.standard import CLIP

SEED: Final = 1
"""For every model that has a seed: the same windows give the same findings."""
USUAL_Z: Final = 3.0
"""Deviations that score one half where a model itself gives no score."""
SCORES: Final = 256
LEAST_SCORES: Final = 100
RARE: Final = 0.99
RUN: Final = 5
"""An anomaly model alarms after so many scores in a row above the rare quantile of the last
`SCORES`: whatever the scores mean, that is one chance in 10^10 while they are exchangeable."""


class Verdict(NamedTuple):
    """What one window was to a model: whether it ends in an alarm, and how odd it is (1: half)."""

    alarm: bool
    strength: float


class Judge(Protocol):
    """One stream's model. What it does depends on the values that it has taken, and no more."""

    def update(self, z: float) -> Verdict:
        """Take the next deviation, within +-`CLIP`."""


class DriftJudge:
    """A `river.base.DriftDetector`."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def update(self, z: float) -> Verdict:
        """Take the next deviation."""
        self._model.update(z)
        return Verdict(bool(self._model.drift_detected), abs(z) / USUAL_Z)


class AnomalyJudge:
    """A `river.base.AnomalyDetector` over a deviation and its step, each within [0, 1].

    A `SupervisedAnomalyDetector` gets the deviation itself as its target.
    """

    def __init__(self, model: Any, *, supervised: bool) -> None:
        from river import stats  # noqa: PLC0415

        self._model, self._supervised = model, supervised
        self._rare = stats.RollingQuantile(RARE, SCORES)
        self._run: list[float] = []
        self._seen, self._last = 0, 0.0

    def update(self, z: float) -> Verdict:
        """Take the next deviation."""
        features = {"z": 0.5 + z / (2 * CLIP), "step": 0.5 + (z - self._last) / (4 * CLIP)}
        given = ({}, z) if self._supervised else (features,)
        score = float(self._model.score_one(*given))
        self._model.learn_one(*given)
        self._last = z
        limit = self._rare.get() if self._seen >= LEAST_SCORES else None
        odd = limit is not None and score > limit
        self._run.append(score)
        if not odd:  # a run does not raise the quantile that it must exceed
            for each in self._run:
                self._rare.update(each)
            self._run.clear()
        self._seen += 1
        return Verdict(len(self._run) >= RUN, abs(z) / USUAL_Z if odd else 0.0)


class ForecastJudge:
    """Holt-Winters' forecast of the next window against `k` deviations of its own errors.

    Learns errors clipped to three deviations, so that a fault does not become the forecast at
    once. `run` windows in a row on one side are an alarm.
    """

    WARM: Final = 30
    LEAST: Final = 0.3
    """Deviation of errors, in the stream's own scales, below which none is believed."""
    FADE: Final = 0.05
    TO_SD: Final = 1.2533
    """Standard deviation over mean absolute error of a normal."""
    LEVEL: Final = 2.0
    """Where the forecast begins, for a baseline that is 0."""

    def __init__(self, model: Any, *, k: float, run: int) -> None:
        from river import stats  # noqa: PLC0415

        self._model, self._k, self._most = model, k, run
        # river begins with the trend of two values, and an additive season with quotients; these
        # begin it at the baseline, with no trend and a flat season: 1 + 1/1 with one, or 2
        first = max(2, model.seasonality)
        for _ in range(first):
            model.learn_one(1.0 if model.seasonality else self.LEVEL)
        self._warm = self.WARM + model.seasonality
        self._error: Any = stats.EWMean(fading_factor=self.FADE)
        self._seen, self._run = 0, 0

    def update(self, z: float) -> Verdict:
        """Take the next deviation."""
        self._seen += 1
        forecast = self._model.forecast(1)[0] - self.LEVEL
        error = z - min(max(forecast, -2 * CLIP), 2 * CLIP)
        spread = max(self.TO_SD * self._error.get(), self.LEAST)
        warm = self._seen > self._warm
        reach = 3.0 * spread if warm else 2 * CLIP
        bounded = min(max(error, -reach), reach)
        self._model.learn_one(self.LEVEL + z - error + bounded)
        self._error.update(abs(bounded))
        side = (error > 0) - (error < 0)
        beyond = warm and abs(error) > self._k * spread
        same_side = self._run == 0 or (self._run > 0) == (side > 0)
        self._run = (self._run + side if same_side else side) if beyond else 0
        return Verdict(abs(self._run) >= self._most, abs(error) / (self._k * spread))


def factory(spec: Spec) -> Callable[[], Judge]:
    """Return what makes a judge of a fresh stream.

    Raises:
        ValueError: there is no such class, it is of no use here, or it refuses its options.
    """
    make = _forecaster(spec) if spec.name == "river-holt-winters" else _of_class(spec)
    try:
        make()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{spec.name} does not take its options: {error}") from error
    return make


def history_of(spec: Spec, least: int) -> int:
    """Return how many windows a model must be rebuilt from: two seasons, or `least`."""
    season = spec.options.get("seasonality")
    return max(least, 2 * season) if isinstance(season, int) else least


def _forecaster(spec: Spec) -> Callable[[], Judge]:
    from river.time_series import HoltWinters  # noqa: PLC0415

    options: dict[str, Any] = {"alpha": 0.1, "beta": 0.01, **spec.options}
    k, run = float(options.pop("k", 6.0)), int(options.pop("run", 2))
    if not (k > 0 and run >= 1):
        raise ValueError(f"{spec.name} needs k > 0 and run >= 1")
    if options.get("multiplicative"):
        raise ValueError(f"{spec.name} forecasts deviations: its options cannot be multiplicative")
    if options.get("seasonality"):
        options.setdefault("gamma", 0.3)
    make: Any = HoltWinters
    return lambda: ForecastJudge(make(**options), k=k, run=run)


def _of_class(spec: Spec) -> Callable[[], Judge]:
    from river import base, drift  # noqa: PLC0415

    # In units of each stream's own deviation: river's defaults are for errors within [0, 1]
    known: dict[str, tuple[Any, dict[str, Any]]] = {
        "river-adwin": (drift.ADWIN, {"delta": 1e-8, "clock": 1}),
        "river-page-hinkley": (drift.PageHinkley, {"delta": 1.0, "threshold": 30.0}),
    }
    model, options = known.get(spec.name) or (_find(spec.name.removeprefix(ANY_RIVER)), {})
    options = {**options, **spec.options}
    if "seed" not in options and "seed" in inspect.signature(model).parameters:
        options["seed"] = SEED
    if issubclass(model, base.DriftDetector):
        return lambda: DriftJudge(model(**options))
    if issubclass(model, base.AnomalyDetector | base.SupervisedAnomalyDetector):
        supervised = issubclass(model, base.SupervisedAnomalyDetector)
        return lambda: AnomalyJudge(model(**options), supervised=supervised)
    raise ValueError(
        f"{spec.name} is neither a river.base.DriftDetector nor a river.base.AnomalyDetector, "
        "which take a number per window"
    )


def _find(path: str) -> Any:
    """Return the class at a dotted path below river, or else anywhere."""
    module, _, name = path.rpartition(".")
    for place in (f"river.{module}", module):
        try:
            found = getattr(importlib.import_module(place), name, None)
        except ImportError as error:
            if error.name and (place == error.name or place.startswith(f"{error.name}.")):
                continue
            raise ValueError(f"cannot import {place}: {error}") from error
        if inspect.isclass(found):
            return found
    raise ValueError(f"no class {path!r}, in river or elsewhere; known models: {', '.join(KNOWN)}")
