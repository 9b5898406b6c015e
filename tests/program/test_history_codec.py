"""How the history keeps numbers: within what it promises, and packed without loss."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from probes.histogram import bucket_of, quantile_s
from probes.window import Histograms, Kind, Pair, Window
from tailrace.history import codes
from tailrace.history.codes import COLUMNS, Rows
from tailrace.history.gather import added, rows_of, sums_of
from tailrace.history.merge import coarser, merged
from tailrace.history.pack import PackError, pack_chunks, pack_piece, unpack_chunk, unpack_piece

PAIR = Pair("web", "api", 8080)
STEPS = 360
ones = arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(1e-9, 1e15))
signed = arrays.arrays(np.float64, 20, elements=st.floats(-1e15, 1e15))


@given(ones)
def test_a_value_is_kept_within_one_percent(value):
    assert codes.decode(codes.encode(value)) == pytest.approx(value, rel=0.0101)
    assert (codes.decode(codes.encode(-value)) == -codes.decode(codes.encode(value))).all()


@given(signed)
def test_codes_are_in_the_order_of_their_values(value):
    value = np.sort(value)
    assert (np.diff(codes.encode(value)) >= 0).all()


def test_zero_and_what_is_nearly_zero_are_zero_and_nothing_overflows():
    kept = codes.decode(codes.encode(np.array([0.0, 1e-12, -1e-300, 1e300, -1e300])))
    assert kept[:3].tolist() == [0.0, 0.0, 0.0]
    assert kept[3] > 1e200
    assert kept[4] < -1e200


@given(signed, st.data())
def test_extremes_are_kept_within_three_percent_and_around_the_mean(mean, data):
    below, above = (
        data.draw(arrays.arrays(np.float64, 20, elements=st.floats(0, 1e15))) for _ in "ab"
    )
    least, most = mean - below, mean + above
    found = codes.decode_rates(codes.encode_rates(np.full(20, 60.0), mean, least, most))
    for kept, true, error in zip(
        found[1:], (mean, least, most), (0.0101, 0.0305, 0.0305), strict=True
    ):
        # on the logarithmic scale what is within a nanounit of zero may change its sign
        assert kept == pytest.approx(true, rel=error, abs=2.1e-9)


def test_the_least_is_zero_only_when_it_was():
    mean = np.array([3.0, 5.0, 0.0])
    least = np.array([0.0, 1.0, 0.0])
    _, _, kept, _ = codes.decode_rates(codes.encode_rates(np.ones(3), mean, least, mean * 2))
    assert kept[0] == 0.0
    assert kept[1] == pytest.approx(1.0, rel=0.03)
    assert kept[2] == 0.0


@given(arrays.arrays(np.int64, 20, elements=st.integers(1, 39)), st.data())
def test_small_whole_numbers_of_a_ratio_come_back_exactly(of, data):
    hits = np.array([data.draw(st.integers(0, each)) for each in of.tolist()])
    kept_of, kept_hits = codes.decode_ratios(codes.encode_ratios(of * 1.0, hits * 1.0))
    assert kept_of.tolist() == of.tolist()
    assert kept_hits.tolist() == hits.tolist()


# Packing


@st.composite
def some_rows(draw, most_pairs=3):
    """Rows of some pairs and signals at some steps of a chunk, sorted, with any codes."""
    keys = draw(
        st.sets(
            st.tuples(
                st.integers(0, most_pairs - 1), st.integers(0, 999), st.integers(0, STEPS - 1)
            ),
            min_size=1,
            max_size=40,
        )
    )
    table = draw(
        arrays.arrays(
            np.int16,
            (len(keys), COLUMNS),
            elements=st.one_of(st.integers(-3, 3), st.integers(-32_768, 32_767)),
        )
    )
    pair, signal, step = np.array(sorted(keys)).T
    return Rows(
        (pair + 70_000).astype(np.int32),
        signal.astype(np.int16),
        step.astype(np.int64) * 10 + 1_760_000_400,
        table,
    )


def same_rows(one, two):
    for a, b in zip(one, two, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@given(some_rows())
def test_a_piece_is_read_back_exactly(rows):
    same_rows(unpack_piece(pack_piece(rows)), rows)


@given(some_rows())
def test_chunks_are_read_back_exactly(rows):
    about = {"start": 1_760_000_400, "step": 10, "steps": STEPS}
    packed = list(pack_chunks(rows, **about))
    assert [pair for pair, _ in packed] == np.unique(rows.pair).tolist()
    same_rows(
        codes.concatenated([unpack_chunk(data, pair=pair, **about) for pair, data in packed]), rows
    )
    pair, data = packed[0]
    signal = int(rows.signal[0])
    same_rows(
        unpack_chunk(data, pair=pair, signal=signal, **about),
        rows.take((rows.pair == pair) & (rows.signal == signal)),
    )


def test_a_chunk_of_all_steps_that_hardly_change_is_small():
    rng = np.random.default_rng(1)
    table = np.zeros((STEPS, COLUMNS), np.int16)
    table[:, 0], table[:, 1] = 1200, 1500 + rng.integers(-2, 3, STEPS)
    rows = Rows(
        np.zeros(STEPS, np.int32),
        np.zeros(STEPS, np.int16),
        np.arange(STEPS, dtype=np.int64),
        table,
    )
    [(_, data)] = pack_chunks(rows, start=0, step=1, steps=STEPS)
    assert len(data) < STEPS / 2


@given(some_rows(), st.data())
def test_what_is_damaged_is_refused_or_read_as_rows(rows, data):
    [(pair, packed), *_] = pack_chunks(rows, start=1_760_000_400, step=10, steps=STEPS)
    body = bytearray(zlib.decompress(packed))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    for bad in (zlib.compress(bytes(body)), bytes(body), packed[:-3]):
        for read in (
            lambda data: unpack_chunk(data, pair=pair, start=0, step=10, steps=STEPS),
            unpack_piece,
        ):
            try:
                found = read(bad)
            except PackError:
                continue
            assert len({len(column) for column in found}) == 1


# Merging


def latency_window(time, buckets, number):
    return Window(
        time=time, width=1.0, nominal=1.0, lost=0, pairs=(PAIR,), signals=("request_latency",),
        pair=np.zeros(1, np.int32), signal=np.zeros(1, np.int16), value=np.array([0.001]),
        count=np.array([float(number.sum())]),
        histograms=Histograms(np.zeros(len(buckets), np.int32), buckets.astype(np.int16), number),
    )  # fmt: skip


def drawn(rng, middle_s, many):
    found = bucket_of((middle_s * 1e9 * np.exp(0.5 * rng.standard_normal(many))).astype(np.int64))
    return np.unique(found, return_counts=True)


def together(every):
    buckets, number = (np.concatenate(column) for column in zip(*every, strict=True))
    total = np.bincount(buckets, number)
    return quantile_s(np.flatnonzero(total), total[total > 0], [0.5, 0.9, 0.99])


def test_quantiles_of_merged_steps_are_those_of_all_samples():
    """A tenth of the minutes are slow: means of quantiles would be far off."""
    rng = np.random.default_rng(5)
    rows, every = [], []
    for minute in range(100):
        buckets, number = drawn(rng, 0.5 if minute % 10 == 0 else 0.01, 300)
        every.append((buckets, number))
        sums = sums_of(
            latency_window(minute * 60.0, buckets, number), np.zeros(1, int), np.zeros(1, int)
        )
        rows.append(rows_of(sums, minute * 60))
    stored = codes.concatenated(rows)
    found = merged(Kind.LATENCY, np.zeros(100, np.int64), stored.codes, 1)
    true = together(every)
    assert found["count"][0] == pytest.approx(30_000, rel=0.01)
    assert found["p50"][0] == pytest.approx(true[0], rel=0.05)
    assert true[1] / 2 < found["p90"][0] < true[1] * 2  # right at the gap between slow and fast
    assert found["p99"][0] == pytest.approx(true[2], rel=0.08)
    again = coarser(Kind.LATENCY, np.repeat(np.arange(10), 10), stored.codes, 10)
    twice = merged(Kind.LATENCY, np.zeros(10, np.int64), again, 1)
    assert twice["p50"][0] == pytest.approx(true[0], rel=0.07)
    assert twice["p99"][0] == pytest.approx(true[2], rel=0.12)


def test_a_step_is_made_of_whole_histograms():
    """What is under way is exact: the quantiles of ten windows are those of their samples."""
    rng = np.random.default_rng(6)
    parts, every = [], []
    for second in range(10):
        buckets, number = drawn(rng, 0.001 * (1 + second), 50)
        every.append((buckets, number))
        window = latency_window(float(second), buckets, number)
        parts.append(sums_of(window, np.zeros(1, int), np.zeros(1, int)))
    rows = rows_of(added(parts), 0)
    found = merged(Kind.LATENCY, np.zeros(1, np.int64), rows.codes, 1)
    true = together(every)
    for name, value in zip(("p50", "p90", "p99"), true, strict=True):
        assert found[name][0] == pytest.approx(value, rel=0.021)
    assert found["count"][0] == pytest.approx(500, rel=0.0101)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.1, 60)), min_size=1, max_size=20))
def test_means_are_weighted_by_time(parts):
    mean, seconds = (np.array(column) for column in zip(*parts, strict=True))
    table = codes.encode_rates(seconds, mean, mean, mean)
    found = merged(Kind.COUNT, np.zeros(len(parts), np.int64), table, 1)
    assert found["mean"][0] == pytest.approx(
        (mean * seconds).sum() / seconds.sum(), rel=0.031, abs=1e-8
    )
    assert found["min"][0] == pytest.approx(mean.min(), rel=0.0101, abs=1e-8)
    assert found["max"][0] == pytest.approx(mean.max(), rel=0.0101, abs=1e-8)
    assert found["min"][0] <= found["mean"][0] <= found["max"][0]


def test_ratios_are_pooled_with_their_denominators():
    table = codes.encode_ratios(np.array([1000.0, 2.0, 0.0]), np.array([1.0, 2.0, 0.0]))
    found = merged(Kind.RATIO, np.array([0, 0, 1]), table, 3)
    assert found["share"][0] == pytest.approx(3 / 1002, rel=0.02)
    assert found["of"][0] == pytest.approx(1002, rel=0.0101)
    assert np.isnan(found["share"][1:]).all()
    assert np.isnan(found["of"][1:]).all()
