"""The proof core: each stream follows the law that was asked for, to its moments and tails."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from probes.histogram import bucket_of, quantile_s
from tailrace.simulation.streams import (
    CountStreams,
    Effect,
    LatencyStreams,
    Law,
    RatioStreams,
    Streams,
    SumStreams,
    wobble_of,
)


def rows(streams: Streams, windows: int, effect: Effect | None = None) -> np.ndarray:
    """Return float64[windows, streams] of values."""
    return np.array([w.value for w in streams.windows(windows, effect or Effect())])


@pytest.mark.parametrize("mean", [0.01, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("dispersion", [4.0, 100.0, math.inf])
def test_counts_have_the_mean_and_the_variance_asked_for(mean: float, dispersion: float) -> None:
    values = rows(CountStreams(20_000, Law(mean=mean, dispersion=dispersion), seed=1), 50)
    variance = mean + mean**2 / dispersion
    assert values.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / values.size))
    assert values.var() == pytest.approx(variance, rel=0.03)


def test_counts_are_negative_binomial_into_the_tail() -> None:
    values = rows(CountStreams(50_000, Law(mean=5, dispersion=4), seed=2), 100)
    law = stats.nbinom(4, 4 / 9)
    for x in (0, 5, 20, 35):
        expected = law.sf(x) * values.size
        assert (values > x).sum() == pytest.approx(expected, abs=5 * math.sqrt(expected))


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.95])
def test_the_level_is_an_ar1_series_from_the_first_window_on(memory: float) -> None:
    law = Law(mean=1e6, wobble=0.2, memory=memory)
    level = np.log(rows(CountStreams(20_000, law, seed=3), 6))
    assert level.std(axis=1) == pytest.approx(np.full(6, 0.2), rel=0.03)
    for lag in (1, 5):
        seen = np.corrcoef(level[0], level[lag])[0, 1]
        assert seen == pytest.approx(memory**lag, abs=0.03)


def test_dispersion_can_be_all_autocorrelated() -> None:
    values = rows(CountStreams(40_000, Law(mean=50, wobble=wobble_of(4), memory=0.8), seed=4), 9)
    assert values.mean() == pytest.approx(50, rel=0.01)
    assert values.var() == pytest.approx(50 + 2500 / 4, rel=0.05)


def test_a_day_has_its_wave_where_its_phase_says() -> None:
    law = Law(mean=1000.0, daily=0.5, phase=np.array([0.0, 0.25]))
    values = rows(CountStreams(2, law, width=3600.0, begin=0.0), 24) * 3600
    assert values[6] == pytest.approx([1500, 1000], rel=0.1)
    assert values[18] == pytest.approx([500, 1000], rel=0.2)
    assert values[0] == pytest.approx([1000, 1500], rel=0.1)


def test_each_stream_may_have_its_own_law() -> None:
    law = Law(mean=np.array([1.0, 100.0] * 500), dispersion=np.array([math.inf, 4.0] * 500))
    values = rows(CountStreams(1000, law), 400)
    assert values[:, 0::2].var() == pytest.approx(1.0, rel=0.05)
    assert values[:, 1::2].var() == pytest.approx(2600.0, rel=0.05)


def test_failures_are_binomial_given_the_attempts() -> None:
    streams = RatioStreams(20_000, Law(mean=8, dispersion=10), share=0.05, seed=5)
    windows = list(streams.windows(50))
    attempts = np.concatenate([w.count for w in windows])
    failed = np.concatenate([w.value * w.count for w in windows])
    assert (attempts > 0).all()
    assert sum(len(w) for w in windows) < 50 * 20_000
    six = failed[attempts == 6]
    seen = np.bincount(np.rint(six).astype(int), minlength=4)[:4]
    expected = stats.binom(6, 0.05).pmf(range(4)) * len(six)
    assert seen == pytest.approx(expected, abs=5 * np.sqrt(expected.max()))


def test_clumps_bring_more_attempts_and_a_design_effect() -> None:
    law = Law(mean=1000)
    alone = RatioStreams(5000, law, share=0.05).draw()
    clumped = RatioStreams(5000, law, share=0.05, clump=5.0).draw()
    effect = (clumped.value * clumped.count).var() / (alone.value * alone.count).var()
    assert effect == pytest.approx(2 * 5 - 1, rel=0.15)  # a compound Poisson of geometric sizes
    assert (clumped.value * clumped.count).mean() == pytest.approx(50, rel=0.05)


def test_sums_are_of_events_and_their_sizes() -> None:
    values = rows(SumStreams(20_000, Law(mean=4), size=100.0, variation=2.0), 50)
    assert values.mean() == pytest.approx(400, rel=0.02)
    assert values.var() == pytest.approx(4 * 100**2 * (1 + 4), rel=0.05)
    assert (values == 0).mean() == pytest.approx(math.exp(-4), rel=0.05)


@pytest.mark.parametrize("mean", [0.5, 50.0])
def test_latencies_have_the_quantiles_asked_for(mean: float) -> None:
    streams = LatencyStreams(3000, Law(mean=mean), median_s=0.02, spread=0.7, seed=6)
    windows = list(streams.windows(20))
    total = sum(np.bincount(w.histograms.bucket, w.histograms.number, 976) for w in windows)
    bucket = np.flatnonzero(total)
    number = total[bucket]
    q = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
    expected = 0.02 * np.exp(0.7 * stats.norm.ppf(q))
    assert quantile_s(bucket, number, q) == pytest.approx(expected, rel=0.03)
    for w in windows:
        row, _, entries = w.histograms
        assert (np.diff(row) >= 0).all()
        assert np.bincount(row, entries, len(w)) == pytest.approx(w.count)
        first = row == 0
        median = quantile_s(w.histograms.bucket[first], entries[first], 0.5)
        assert w.value[0] == pytest.approx(float(median))


def test_buckets_are_those_of_the_kernel_within_each_row() -> None:
    window = LatencyStreams(1, Law(mean=1e5), median_s=1.0, spread=0.01).draw()
    assert set(window.histograms.bucket) <= set(range(*bucket_of([0.9e9, 1.12e9])))
    assert (np.diff(window.histograms.bucket) > 0).all()


def test_effects_are_of_the_size_asked_for() -> None:
    law = Law(mean=50.0)
    assert rows(CountStreams(2000, law), 20, Effect(rate=1.5)).mean() == pytest.approx(75, rel=0.02)
    assert not rows(CountStreams(2000, law), 20, Effect(rate=0.0)).any()
    failing = RatioStreams(2000, law, share=0.01).draw(Effect(share=0.3))
    assert failing.value.mean() == pytest.approx(0.3, rel=0.03)
    slow = LatencyStreams(2000, law, spread=0.2).draw(Effect(latency=3.0))
    assert slow.value.mean() == pytest.approx(0.006, rel=0.02)

    def quantiles(effect: Effect) -> np.ndarray:
        w = LatencyStreams(2000, law, spread=0.2).draw(effect)
        total = np.bincount(w.histograms.bucket, w.histograms.number)
        return quantile_s(np.arange(len(total)), total, [0.5, 0.85, 0.95])

    ratio = quantiles(Effect(tail=4.0, tail_share=0.1)) / quantiles(Effect())
    assert ratio == pytest.approx([1.0, 1.0, 4.0], rel=0.02)


def test_windows_share_what_does_not_change_and_repeat_by_seed() -> None:
    law = Law(mean=5, dispersion=20, wobble=0.1, memory=0.9)
    first, second = (list(CountStreams(100, law, seed=9, width=10.0).windows(5)) for _ in range(2))
    assert all((a.value == b.value).all() for a, b in zip(first, second, strict=True))
    assert (CountStreams(100, law, seed=10).draw().value * 10 != first[0].value * 10).any()
    for window in first:
        assert window.pairs is first[0].pairs
        assert window.signals is first[0].signals
        assert window.pair is first[0].pair
    assert [w.time - first[0].time for w in first] == [0, 10, 20, 30, 40]


@pytest.mark.parametrize(
    ("law", "what"),
    [({"mean": 0.0}, "mean"), ({"dispersion": 0.0}, "dispersion"), ({"memory": 1.0}, "memory"),
     ({"wobble": -1.0}, "wobble"), ({"daily": 1.0}, "daily")],
)  # fmt: skip
def test_an_impossible_law_is_refused(law: dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Law(**law)


def test_a_signal_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="rtt is no count, but a latency"):
        CountStreams(1, Law(), signal="rtt")
