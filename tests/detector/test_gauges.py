"""Gauges: what they should read, what surprises, and the threshold that experience sets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from detector import parts, state
from detector.engine import Detector
from detector.finding import Finding
from detector.peaks import LOW, MOST, PRIOR_WEEKS, WEEK_S, Peaks
from detector.settings import DetectorSettings
from probes.window import Pair, Window

MINUTE, DAY = 60.0, 1440
BEGIN = 1_699_920_000.0
"""A midnight, UTC."""


def windows(values: np.ndarray, begin: float = BEGIN) -> list[Window]:
    """Return one window per row of float[n, streams], a minute apart."""
    many = values.shape[1]
    pairs = tuple(Pair(f"c{i}", "kpi", 0) for i in range(many))
    return [
        Window(
            time=begin + i * MINUTE,
            width=float("nan"),
            nominal=float("nan"),
            lost=0,
            pairs=pairs,
            signals=("depth",),
            pair=np.arange(many, dtype=np.int32),
            signal=np.zeros(many, np.int16),
            value=row,
            count=np.full(many, np.nan),
        )
        for i, row in enumerate(values)
    ]


def noise(days: float, streams: int, seed: int) -> np.ndarray:
    """Return a daily wave with autocorrelated noise of sd 3, float[n, streams]."""
    rng = np.random.default_rng(seed)
    many = int(days * DAY)
    day = 100 + 30 * np.sin(2 * np.pi * np.arange(many) / DAY)
    drift = np.zeros((many, streams))
    for i in range(1, many):
        drift[i] = 0.9 * drift[i - 1] + rng.normal(0, 1, streams)
    return day[:, None] + drift + rng.normal(0, 2, (many, streams))


def told(detector: Detector, of: list[Window]) -> list[Finding]:
    return [f for window in of for f in detector.update(window)]


def scores(of: list[Window]) -> np.ndarray:
    detector = Detector()
    out = []
    for window in of:
        detector.update(window)
        out.append(detector.scores())
    return np.array(out)


def test_one_lasting_change_is_one_finding_and_is_adopted() -> None:
    values = noise(5, 1, 0)
    values[6000:] += 80.0
    found = told(Detector(), windows(values))
    assert [(f.direction, f.state) for f in found] == [("up", "firing"), ("up", "adopted")]
    assert found[0].detected <= BEGIN + 6003 * MINUTE
    assert found[1].ended is not None
    assert found[1].ended <= BEGIN + (6000 + 75) * MINUTE
    assert found[1].after == pytest.approx(values[6000:6060].mean(), rel=0.1)


def test_a_dip_is_found_and_resolved() -> None:
    values = noise(5, 1, 1)
    values[6300:6310] -= 80.0
    found = told(Detector(), windows(values))
    assert [(f.direction, f.state) for f in found] == [("down", "firing"), ("down", "resolved")]
    assert found[0].before == pytest.approx(values[6280:6300].mean(), rel=0.1)
    assert found[0].onset == pytest.approx(BEGIN + 6300 * MINUTE, abs=2 * MINUTE)


def test_the_knob_holds_on_noise() -> None:
    """Thirty streams for six days: about what was asked at most, of what is noise alone."""
    detector = Detector(DetectorSettings(false_alerts_per_week=5.0))
    found = told(detector, windows(noise(6, 30, 2)))
    assert sum(f.state == "firing" for f in found) <= 10


def test_a_spiky_stream_must_spike_higher() -> None:
    """The same spike, once on a calm stream and once on one that has them often."""
    values = noise(6, 2, 3)
    rng = np.random.default_rng(4)
    values[rng.integers(0, 5 * DAY, 24), 1] += 40.0
    values[-100] += 40.0
    last = scores(windows(values))[-100]
    assert last[0] > last[1]
    assert last[0] > 0.5


def test_a_value_that_mostly_stands_still_surprises_by_its_moves_alone() -> None:
    """One in a hundred windows moves by about one: another such is not news, ten is."""
    rng = np.random.default_rng(5)
    values = np.zeros((6 * DAY, 1))
    at = rng.integers(0, 5 * DAY, 70)
    values[at, 0] = rng.uniform(0.5, 1.5, len(at))
    values[-800], values[-400] = 1.0, 30.0
    got = scores(windows(values))[:, 0]
    assert got[-400] == got[DAY:].max()
    assert got[-800] < 0.5 < got[-400]


def test_the_shape_of_the_day_is_no_news() -> None:
    """Twice the level every night at three, for an hour; the fifth night it does not come."""
    rng = np.random.default_rng(6)
    values = 100 + rng.normal(0, 2, (7 * DAY, 1))
    for day in range(7):
        if day != 5:
            values[day * DAY + 180 : day * DAY + 240] += 20.0
    got = scores(windows(values))[:, 0]
    usual = got[6 * DAY + 180]
    missed = got[5 * DAY + 180]
    assert missed > usual
    assert missed == got[5 * DAY : 5 * DAY + 240].max()


def test_after_a_long_gap_the_first_window_is_not_judged() -> None:
    values = noise(3, 1, 7)
    values[2 * DAY :] += 100.0
    before, after = values[: 2 * DAY], values[2 * DAY :]
    detector = Detector()
    found = told(detector, windows(before))
    found += told(detector, windows(after, BEGIN + (2 * DAY + 600) * MINUTE))
    assert found == []


@pytest.mark.parametrize("cut", [1, 99, 2 * DAY, 2 * DAY + 3, 2 * DAY + 30])
def test_a_restored_detector_goes_on_alike(cut: int) -> None:
    values = noise(2.2, 3, 8)
    values[2 * DAY : 2 * DAY + 10, 1] += 90.0
    of = windows(values)
    whole, first = Detector(), Detector()
    expected = told(whole, of)
    begun = told(first, of[:cut])
    second = Detector.from_bytes(first.to_bytes())
    assert begun + told(second, of[cut:]) == expected
    assert second.to_bytes() == whole.to_bytes()
    assert [f.state for f in expected] == ["firing", "resolved"]


def test_a_state_without_the_peaks_is_refused() -> None:
    detector = Detector()
    told(detector, windows(noise(0.1, 1, 9)))
    meta, arrays = state.unpack(detector.to_bytes())
    arrays = {k: a for k, a in arrays.items() if "peaks" not in k}
    with pytest.raises(ValueError, match="peaks"):
        Detector.from_bytes(state.pack(meta, arrays))


def experienced(rate: float, excess: float, weeks: int, streams: int, seed: int) -> Peaks:
    peaks, rng = Peaks(), np.random.default_rng(seed)
    for week in range(weeks):
        number = rng.poisson(rate * streams)
        peaks.add(week * WEEK_S, streams * WEEK_S, LOW + rng.exponential(excess, number))
    return peaks


@pytest.mark.parametrize("per_week", [2.0, 0.25, 0.01, 0.001])
@pytest.mark.parametrize(("rate", "excess"), [(3.0, 0.4), (30.0, 0.6)])
def test_the_threshold_gives_what_was_asked(rate: float, excess: float, per_week: float) -> None:
    peaks = experienced(rate, excess, 4, 500, 0)
    level = float(peaks.threshold(np.array([per_week]))[0])
    gives = rate * stats.expon(scale=excess).sf(level - LOW)
    # Beyond what was seen it errs on the side of silence
    assert gives < 1.25 * per_week
    assert gives > 0.3 * per_week or per_week < 0.01


@pytest.mark.parametrize("per_week", [1.0, 0.5])
def test_real_changes_do_not_hide_each_other(per_week: float) -> None:
    peaks, rng = experienced(8.0, 0.5, 4, 500, 0), np.random.default_rng(1)
    real = 4.5 + rng.exponential(0.5, 4 * 500 * 2)
    peaks.add(0.0, 0.0, real)
    level = float(peaks.threshold(np.array([per_week]))[0])
    assert (real > level).mean() > 0.99
    noise = 8.0 * stats.expon(scale=0.5).sf(level - LOW)
    assert noise < per_week


def test_whatever_the_peaks_are_so_many_pass_at_most() -> None:
    rng = np.random.default_rng(0)
    peaks, excess = Peaks(), rng.pareto(1.1, 20_000)  # a tail that no exponential has
    peaks.add(0.0, 1000 * WEEK_S, LOW + excess)
    for per_week in (0.5, 0.1):
        level = float(peaks.threshold(np.array([per_week]))[0])
        assert (LOW + excess > level).sum() / 1000 < 1.05 * MOST * per_week


def test_experience_is_forgotten_after_five_weeks() -> None:
    peaks = experienced(100.0, 2.0, 1, 50, 0)
    high = float(peaks.threshold(np.array([1.0]))[0])
    for week in range(1, 6):
        peaks.add(week * WEEK_S, 50 * WEEK_S, np.zeros(0))
    low = float(peaks.threshold(np.array([1.0]))[0])
    assert low < high - 3
    assert low >= LOW


def test_without_experience_the_prior_stands_in() -> None:
    levels = Peaks().threshold(np.array([1.0, 0.1, 0.01]))
    assert (np.diff(levels) > 0).all()
    few = experienced(1.0, 0.5, 1, 1, 0)
    assert few.rates()[0] == pytest.approx(Peaks().rates()[0], rel=1.5 / PRIOR_WEEKS + 0.2)


def test_streams_do_not_depend_on_how_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    values = noise(1, 40, 3)
    values[900:930, ::7] += 80.0
    values[1100:, 3::11] += 60.0
    # some windows lack some streams
    cut = [
        dataclasses.replace(
            window,
            pair=window.pair[rows],
            signal=window.signal[rows],
            value=window.value[rows],
            count=window.count[rows],
        )
        for i, window in enumerate(windows(values))
        for rows in [np.flatnonzero(np.arange(40) % 5 != i % 9)]
    ]
    budget = DetectorSettings(false_alerts_per_week=2000.0)

    def run() -> tuple[list[Finding], list[list[float]]]:
        detector, found, scored = Detector(budget), [], []
        for window in cut:
            found += detector.update(window)
            scored.append(detector.scores().tolist())
        return found, scored

    whole = run()
    assert len({f.pair for f in whole[0]}) >= 6
    monkeypatch.setattr(parts, "CHUNK", 8)  # not the thousands that fit a cache
    assert run() == whole
