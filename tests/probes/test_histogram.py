"""Buckets: bounds, quantiles, and the kernel's arithmetic against ours."""

import ctypes as ct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf import layout
from probes import histogram
from probes.module import import_bcc


@given(st.integers(0, 2**53 - 1))
def test_a_value_lies_within_its_bucket(value: int) -> None:
    bucket = histogram.bucket_of(value)
    low, high = histogram.lower_edge_s([bucket, bucket + 1]) * 1e9
    assert low <= value + 1e-6
    assert value < high + 1e-6
    assert 0 <= bucket < histogram.BUCKETS


@given(st.integers(32, 2**52))
def test_a_bucket_is_narrow(value: int) -> None:
    bucket = histogram.bucket_of(value)
    low, high = histogram.lower_edge_s([bucket, bucket + 1])
    assert (high - low) / low <= 1 / 16 + 1e-9


@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.99])
def test_quantiles_of_a_known_sample(q: float) -> None:
    sample = np.random.default_rng(1).lognormal(-5, 1, 200_000)
    buckets, numbers = np.unique(histogram.bucket_of(sample * 1e9), return_counts=True)
    assert histogram.quantile_s(buckets, numbers, q) == pytest.approx(
        np.quantile(sample, q), rel=0.01
    )


def test_quantiles_by_group_are_those_of_each_group() -> None:
    rng = np.random.default_rng(2)
    group = np.repeat([3, 5, 9], [400, 1, 70])
    bucket = histogram.bucket_of(rng.lognormal(14, 2, 471))
    order = np.lexsort((bucket, group))
    group, bucket = group[order], bucket[order]
    number = rng.integers(1, 9, 471)
    for q in (0.0, 0.5, 0.99, 1.0):
        groups, value, total = histogram.quantile_by_group_s(group, bucket, number, q)
        assert groups.tolist() == [3, 5, 9]
        for i, g in enumerate(groups):
            mine = group == g
            assert value[i] == pytest.approx(histogram.quantile_s(bucket[mine], number[mine], q))
            assert total[i] == number[mine].sum()


def test_an_empty_histogram_has_no_quantile() -> None:
    assert np.isnan(histogram.quantile_s([], [], 0.5))
    empty = np.empty(0, np.int64)
    assert len(histogram.quantile_by_group_s(empty, empty, empty, 0.5)[0]) == 0


class _TestRun(ct.Structure):
    """struct bpf_test_run_opts of libbpf 1.1."""

    _fields_ = (
        ("sz", ct.c_size_t),
        ("data_in", ct.c_void_p),
        ("data_out", ct.c_void_p),
        ("data_size_in", ct.c_uint32),
        ("data_size_out", ct.c_uint32),
        ("ctx_in", ct.c_void_p),
        ("ctx_out", ct.c_void_p),
        ("ctx_size_in", ct.c_uint32),
        ("ctx_size_out", ct.c_uint32),
        ("retval", ct.c_uint32),
        ("repeat", ct.c_int),
        ("duration", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("cpu", ct.c_uint32),
        ("batch_size", ct.c_uint32),
    )


@pytest.mark.kernel
def test_the_kernel_computes_the_same_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    bcc = import_bcc()
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(layout.HEADERS))
    source = b"""
    #include <linux/types.h>
    #include "bucket.h"
    int bucket(struct bpf_raw_tracepoint_args *ctx) { return bucket_of(ctx->args[0]); }
    """
    program = bcc.BPF(text=source, cflags=[f"-I{layout.HERE}"])
    fd = program.load_func(b"bucket", bcc.BPF.RAW_TRACEPOINT).fd
    libbpf = ct.CDLL("libbpf.so.1", use_errno=True)
    edges = [2**n + d for n in range(52) for d in (-1, 0, 1)]
    random = np.random.default_rng(3).integers(0, 2**50, 300).tolist()
    for value in [0, *edges, *random]:
        arguments = (ct.c_uint64 * 12)(value)
        run = _TestRun(sz=ct.sizeof(_TestRun), ctx_in=ct.addressof(arguments))
        run.ctx_size_in = ct.sizeof(arguments)
        assert libbpf.bpf_prog_test_run_opts(fd, ct.byref(run)) == 0
        assert run.retval == histogram.bucket_of(value), value
    program.cleanup()
