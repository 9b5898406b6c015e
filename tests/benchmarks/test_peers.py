"""The rivals are what they are called: each finds a gross change, and has its known property."""

from __future__ import annotations

import numpy as np
import pytest
from river.drift import PageHinkley as RiverPageHinkley
from river.time_series import HoltWinters as RiverHoltWinters

from benchmarks.peers import PEERS, PoissonFocus, Restarting, Sampling
from benchmarks.peers.baseline import Seasonal
from benchmarks.peers.charts import Cusum, Ewma, PageHinkley
from benchmarks.peers.focus import GaussianFocus
from benchmarks.peers.forecast import ALPHA, BETA, GAMMA, HoltWinters
from benchmarks.peers.netdata import Netdata
from benchmarks.peers.splunk import Splunk, episodes
from benchmarks.peers.spot import Spot


def sampling(streams: int, season: int = 0, history: int = 720) -> Sampling:
    return Sampling(streams=streams, spacing_s=10.0, season=season, history=history)


def scores(peer, values: np.ndarray) -> np.ndarray:
    """Return float64[windows, streams]."""
    return np.array([peer.update(row) for row in values])


@pytest.mark.parametrize("name", PEERS)
def test_a_gross_change_scores_above_a_thousand_quiet_windows(name: str) -> None:
    values = np.random.default_rng(3).normal(size=(1000, 20))
    values[-40:] += 8.0
    got = scores(PEERS[name](sampling(20)), values)
    assert np.isfinite(got).all()
    quiet, changed = got[720:-40].max(axis=0), got[-40:].max(axis=0)
    assert (changed > quiet).all()


@pytest.mark.parametrize("name", PEERS)
def test_a_stream_is_judged_by_itself_alone(name: str) -> None:
    values = np.random.default_rng(4).normal(size=(900, 3))
    together = scores(PEERS[name](sampling(3)), values)
    alone = scores(PEERS[name](sampling(1)), values[:, 1:2])
    np.testing.assert_allclose(together[:, 1:2], alone, rtol=1e-6, atol=1e-6)


def test_cusum_has_the_run_length_that_is_published() -> None:
    # k = 0.5, h = 5, two-sided: 465 (Montgomery, Introduction to Statistical Quality Control)
    rng, peer = np.random.default_rng(5), Cusum(sampling(4000))
    first = np.zeros(4000)
    for n in range(1, 6001):
        hit = (peer.update(rng.normal(size=4000)) >= 5.0) & (first == 0)
        first[hit] = n
    assert (first > 0).all()
    assert first.mean() == pytest.approx(465, rel=0.06)


def test_ewma_has_the_run_length_that_is_published() -> None:
    # weight 0.2, 2.962 deviations: 500 (Lucas and Saccucci 1990)
    rng, peer = np.random.default_rng(6), Ewma(sampling(4000))
    for _ in range(50):
        peer.update(np.zeros(4000))  # past the wider start, as in the table
    peer.mean[:] = 0.0
    first = np.zeros(4000)
    for n in range(1, 6001):
        hit = (peer.update(rng.normal(size=4000)) >= 2.962) & (first == 0)
        first[hit] = n
    assert first[first > 0].mean() == pytest.approx(500, rel=0.06)


def test_page_hinkley_alarms_when_rivers_does() -> None:
    values = np.random.default_rng(7).normal(size=(600, 8))
    values[300:, :4] += np.array([1.0, -1.0, 3.0, 0.5])
    got = scores(PageHinkley(sampling(8)), values)
    for stream in range(8):
        river = RiverPageHinkley(threshold=25.0)
        at = next((n for n, x in enumerate(values[:, stream]) if _says(river, x)), None)
        ours = np.flatnonzero(got[:, stream] > 25.0)
        assert (int(ours[0]) if len(ours) else None) == at


def _says(detector: RiverPageHinkley, x: float) -> bool:
    detector.update(x)
    return detector.drift_detected


@pytest.mark.parametrize("season", [0, 24])
def test_holt_winters_forecasts_what_rivers_does(season: int) -> None:
    rng = np.random.default_rng(8)
    values = 50.0 + 10.0 * np.sin(np.arange(300) / 24 * 2 * np.pi) + rng.normal(size=300)
    ours = HoltWinters(sampling(1, season))
    # without a season river takes no `gamma`
    extra = {"gamma": GAMMA, "seasonality": season} if season else {}
    river = RiverHoltWinters(alpha=ALPHA, beta=BETA, **extra)
    for n, value in enumerate(values):
        if n >= max(2, season):
            assert ours.forecast()[0] == pytest.approx(river.forecast(1)[0])
        ours.update(np.array([value]))
        river.learn_one(value)


def by_force(values: np.ndarray, ratio) -> np.ndarray:
    """Return the best ratio over all onsets, at each time; values float64[n]."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    best = []
    for now in range(1, len(total)):
        windows = now - np.arange(now)
        best.append(ratio(windows, total[now] - total[:now]).max())
    return np.array(best)


def test_gaussian_focus_is_the_likelihood_ratio_of_all_onsets() -> None:
    rng = np.random.default_rng(9)
    values = rng.normal(size=(400, 6)) + np.where(np.arange(400)[:, None] > 300, 0.7, 0.0)
    got = scores(GaussianFocus(sampling(6)), values)
    for stream in range(6):
        expected = by_force(values[:, stream], lambda n, s: 0.5 * s * s / n)
        np.testing.assert_allclose(got[:, stream], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mean", [0.05, 1.0, 40.0])
def test_poisson_focus_is_the_likelihood_ratio_of_all_onsets(mean: float) -> None:
    rng = np.random.default_rng(10)
    rate = np.where(np.arange(400)[:, None] > 300, [1.6, 0.3, 1.0], 1.0)
    values = rng.poisson(mean * rate).astype(float)
    got = scores(PoissonFocus(sampling(3), np.full(3, mean)), values)

    def ratio(n: np.ndarray, s: np.ndarray) -> np.ndarray:
        return np.where(s > 0, s * np.log(np.maximum(s, 1e-9) / (n * mean)), 0.0) - (s - n * mean)

    for stream in range(3):
        expected = by_force(values[:, stream], ratio)
        np.testing.assert_allclose(got[:, stream], expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", [name for name, make in PEERS.items() if make.restarts])
def test_a_running_sum_starts_afresh_after_an_alarm(name: str) -> None:
    values = np.random.default_rng(16).normal(size=(900, 5))
    values[400:410] += 60.0
    latched, fresh = (
        scores(peer, values)
        for peer in (PEERS[name](sampling(5)), Restarting(PEERS[name], sampling(5)))
    )
    assert (latched[450:] > 20.0).all()
    assert (fresh[400:410].max(axis=0) > 200.0).all()
    # Page-Hinkley takes the return for a change of its own
    assert (fresh[700:] < 20.0).all()


def test_bocpd_dates_the_change() -> None:
    rng = np.random.default_rng(11)
    values = rng.normal(size=(700, 50)) + np.where(np.arange(700)[:, None] >= 500, 2.0, 0.0)
    peer = PEERS["BOCPD"](sampling(50))
    scores(peer, values)
    likeliest = peer.age[np.arange(50), peer.weight.argmax(axis=1)]
    assert np.median(np.abs(likeliest - 200)) <= 2


@pytest.mark.parametrize("law", ["normal", "exponential", "t"])
def test_spots_p_values_are_about_true_in_the_tail(law: str) -> None:
    rng = np.random.default_rng(12)
    draw = {
        "normal": lambda: rng.normal(size=(10_000, 100)),
        "exponential": lambda: rng.exponential(size=(10_000, 100)),
        "t": lambda: rng.standard_t(6, size=(10_000, 100)),
    }[law]
    got = scores(Spot(sampling(100)), draw())[6000:]
    realised = (got > -np.log(1e-3)).mean() / 1e-3
    assert 0.7 < realised < 1.4


def test_splunks_rule_fires_once_and_clears_below_four() -> None:
    values = np.random.default_rng(13).normal(100.0, 1.0, size=(700, 1))
    values[500:530] += 20.0
    peer = Splunk(sampling(1))
    got = scores(peer, values)[:, 0]
    assert episodes(got) == 1
    assert episodes(np.array([5.5, 4.5, 5.5, 3.9, 5.1])) == 2
    # by hand: ten minutes (60 windows) against the hour before them (360)
    hour, last = values[79:439, 0], values[439:499, 0]
    assert got[498] == pytest.approx(abs(last.mean() - hour.mean()) / hour.std())


def test_netdatas_score_is_1_for_the_oddest_window_of_its_training() -> None:
    values = np.random.default_rng(14).normal(size=(720, 30))
    peer = Netdata(sampling(30))
    got = scores(peer, values)
    assert len(peer.least) == 3  # trained at 360, 540 and 720
    assert (got[:360] == 0.0).all()
    # one in a hundred by each model, fewer by all
    assert (got[360:] > 1.0).mean() < 0.01


def test_the_daily_wave_is_taken_away() -> None:
    rng = np.random.default_rng(15)
    day = 288
    wave = 100.0 + 40.0 * np.sin(np.arange(day * 6) / day * 2 * np.pi)
    values = wave[:, None] + rng.normal(size=(day * 6, 10))
    seasonal = Seasonal(Sampling(10, 300.0, day, day * 6))
    z = np.array([seasonal.update(row, n % day) for n, row in enumerate(values)])[day * 4 :]
    assert np.abs(z).max() < 8.0
    assert 0.5 < z.std() < 1.6
