"""Our detector under river's interfaces, in river's own pipelines and under river's own checks."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import river
from river import checks, compose, drift, linear_model, metrics, preprocessing
from river.checks import common
from river.datasets import synth

from detector.river_compat import TailraceAnomaly, TailraceDrift

CHANGES = [  # measure, before, after: drawn by a generator, with trials for ratios
    ("count", lambda rng: (rng.poisson(50),), lambda rng: (rng.poisson(120),)),
    ("count", lambda rng: (rng.poisson(50),), lambda rng: (rng.poisson(10),)),
    ("sum", lambda rng: (rng.gamma(50, 600.0),), lambda rng: (rng.gamma(50, 1800.0),)),
    ("ratio", lambda rng: (rng.binomial(200, 0.01) / 200, 200), lambda rng: (0.2, 200)),
    ("gauge", lambda rng: (rng.normal(3, 0.1),), lambda rng: (rng.normal(6, 0.1),)),
]
Draw = Callable[[np.random.Generator], tuple[float, ...]]


class Rows:
    """Rows with labels: 2 % have some of their features far off; what river's checks run over."""

    def __init__(self, rows: int, seed: int = 5) -> None:
        self.rows, self.seed = rows, seed

    def __iter__(self) -> Iterator[tuple[dict[str, float], bool]]:
        rng = np.random.default_rng(self.seed)
        for i in range(self.rows):
            odd = i > 60 and rng.random() < 0.02
            x = rng.normal(0.0, 1.0, 6) + np.arange(6)
            if odd:
                x[rng.integers(6)] += 12.0
            yield {f"x{k}": float(v) for k, v in enumerate(x)}, bool(odd)


def checks_of_anomaly() -> list[Any]:
    def datasets(_: object, scale: int = 1) -> Iterator[Rows]:
        yield Rows(60 * scale)

    with pytest.MonkeyPatch.context() as patch:
        # river's own rows are fetched from the network
        patch.setattr(checks, "_yield_datasets", datasets)
        found = list(checks.yield_checks(TailraceAnomaly()))
    # Needs scikit-learn; `test_odd_rows_rank_above_others` asks the same
    return [check for check in found if check.__name__ != "check_roc_auc"]


@pytest.mark.parametrize("check", checks_of_anomaly(), ids=lambda check: check.__name__)
def test_an_anomaly_detector_by_rivers_checks(check: Callable[[Any], None]) -> None:
    check(TailraceAnomaly())


@pytest.mark.parametrize("measure", ["count", "sum", "ratio", "gauge"])
@pytest.mark.parametrize(
    "check",
    [
        common.check_repr,
        common.check_str,
        common.check_clone_same_class,
        common.check_clone_is_idempotent,
        common.check_init_has_default_params_for_tests,
        common.check_init_default_params_are_not_mutable,
        common.check_doc,
        common.check_clone_changes_memory_addresses,
        common.check_mutate_can_be_idempotent,
        common.check_pickling_supports_roundtrip,
        common.check_repr_roundtrips_clone,
        common.check_clone_with_new_params_applies,
        common.check_get_params_matches_signature,
    ],
    ids=lambda check: check.__name__,
)
def test_a_drift_detector_by_rivers_checks(check: Callable[[Any], None], measure: str) -> None:
    check(TailraceDrift(measure))


@pytest.mark.parametrize(("measure", "before", "after"), CHANGES)
def test_it_detects_drift_once_and_soon(measure: str, before: Draw, after: Draw) -> None:
    rng = np.random.default_rng(1)
    detector = TailraceDrift(measure)
    found = []
    for i in range(330):
        detector.update(*(before if i < 300 else after)(rng))
        if detector.drift_detected:
            found.append(i)
    assert len(found) == 1
    assert 300 <= found[0] <= 320
    assert detector.n_detections == 1
    assert detector.finding is not None
    assert (detector.finding.state, detector.finding.pair.client) == ("firing", "river")


def test_a_pickle_continues_as_if_never_stopped() -> None:
    rng = np.random.default_rng(2)
    numbers = [*rng.poisson(50, 200), *rng.poisson(120, 20)]
    whole, broken = TailraceDrift("count"), TailraceDrift("count")
    for number in numbers:
        whole.update(number)
        broken = pickle.loads(pickle.dumps(broken))
        broken.update(number)
        assert broken.drift_detected == whole.drift_detected
    assert whole.n_detections == broken.n_detections == 1
    assert pickle.dumps(whole) == pickle.dumps(broken)
    assert pickle.dumps(copy.deepcopy(whole)) == pickle.dumps(whole)
    assert whole.clone().n_detections == 0


def test_odd_rows_rank_above_others() -> None:
    model, scores, odd = TailraceAnomaly(), [], []
    for x, is_odd in Rows(600):
        scores.append(model.score_one(x))
        model.learn_one(x)
        odd.append(is_odd)
    s, y = np.array(scores), np.array(odd)
    assert y.sum() >= 5
    above = (s[y][:, None] > s[~y]).mean() + 0.5 * (s[y][:, None] == s[~y]).mean()
    assert above > 0.95
    assert ((s >= 0) & (s <= 1)).all()


def test_scoring_does_not_learn() -> None:
    model = TailraceAnomaly()
    for x, _ in Rows(80):
        model.learn_one(x)
    before = pickle.dumps(model)
    assert model.score_one({"x0": 1e6}) > 0.9
    assert pickle.dumps(model) == before


def test_what_is_no_number_is_left_out() -> None:
    model = TailraceAnomaly()
    model.learn_one({"requests": 3, "name": "web", 7: True, "none": None})
    assert model.score_one({}) == 0.0
    assert model.score_one({"requests": float("nan")}) == 0.0


def test_in_a_pipeline() -> None:
    """Scaled and selected by river, scored by us."""
    model = compose.Select("x0", "x1") | preprocessing.StandardScaler() | TailraceAnomaly()
    for x, _ in Rows(200):
        model.score_one(x)
        model.learn_one(x)
    assert model.score_one({"x0": 90.0, "x1": 1.0}) > model.score_one({"x0": 0.0, "x1": 1.0})


def test_beside_adwin_in_a_classifier_that_starts_anew_on_drift() -> None:
    """river's own use of drift detectors: errors of a classifier whose concept changes."""

    def stream() -> Iterator[tuple[dict[int, float], bool]]:
        first = synth.SEA(variant=0, seed=1).take(800)
        for x, y in first:
            yield x, y
        for x, y in synth.SEA(variant=0, seed=2).take(800):
            yield x, not y

    accuracy, detected = {}, {}
    for name, detector in (
        ("none", drift.NoDrift()),
        ("adwin", drift.ADWIN()),
        ("tailrace", TailraceDrift("ratio")),
    ):
        model = drift.DriftRetrainingClassifier(
            model=preprocessing.StandardScaler() | linear_model.LogisticRegression(),
            drift_detector=detector,
            train_in_background=False,
        )
        metric, when = metrics.Accuracy(), []
        for i, (x, y) in enumerate(stream()):
            metric.update(y, model.predict_one(x))
            model.learn_one(x, y)
            if model.drift_detector.drift_detected:
                when.append(i)
        accuracy[name], detected[name] = metric.get(), when
    assert [i for i in detected["tailrace"] if i < 800] == []
    assert detected["adwin"]
    assert 800 <= detected["tailrace"][0] <= 900
    assert accuracy["tailrace"] > accuracy["none"] + 0.02
    assert accuracy["tailrace"] > accuracy["adwin"] - 0.02


@pytest.mark.parametrize(
    "wrong", [{"measure": "latency"}, {"window_s": 0.0}, {"false_alerts_per_week": -1.0}]
)
def test_arguments_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        TailraceDrift(**wrong)


def test_the_example_of_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    exec(compile(example, "engines.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "requests went up"
    assert said[1].startswith("Accuracy: ")
    assert said[2:] == ["True"]


def test_river_is_what_it_was_written_for() -> None:
    assert issubclass(TailraceDrift, river.base.DriftDetector)
    assert issubclass(TailraceAnomaly, river.base.AnomalyDetector)
