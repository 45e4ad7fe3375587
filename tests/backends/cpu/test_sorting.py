"""Kernels that order: values and indices of the reference, ties, NaN and signed zeros included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_kernels import avx2, check_kernel, host
from graphnn.backends.cpu.kernels.sorting import EMITTERS
from graphnn.ops.sorting import Sort, TopK

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
TARGETS = {"host": host, "avx2": avx2}
both = pytest.mark.parametrize("target", TARGETS)
sizes = st.one_of(st.integers(0, 5), st.sampled_from([8, 15, 16, 17, 100]))


def drawn(rng, shape, dtype):
    """Ties, the ends of the range of the dtype, and special floats."""
    if dtype in FLOATS:
        few = np.array([0.0, -0.0, 1.5, -1.5, np.nan, -np.nan, np.inf, -np.inf, np.finfo(dtype).tiny, 0.25], dtype)
        return np.where(rng.random(shape) < 0.5, rng.choice(few, shape), rng.normal(size=shape)).astype(dtype)
    ends = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1, 5, 6], dtype)
    return rng.choice(ends, shape)


@both
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_sort_and_top_k(target, data):
    shape = tuple(data.draw(st.lists(sizes, min_size=1, max_size=3)))
    axis, dtype = data.draw(st.integers(0, len(shape) - 1)), data.draw(st.sampled_from((*FLOATS, *INTEGERS)))
    x = drawn(np.random.default_rng(data.draw(st.integers(0, 1000))), shape, dtype)
    op = Sort(axis, data.draw(st.booleans()))
    check_kernel(EMITTERS[Sort], op, x, target=TARGETS[target]())
    if shape[axis]:
        top = TopK(data.draw(st.integers(1, shape[axis])), axis)
        check_kernel(EMITTERS[TopK], top, x, target=TARGETS[target]())


@both
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_long_lines(target, dtype):
    x = (np.random.default_rng(0).normal(size=(2, 5000)) * 100).astype(dtype)
    check_kernel(EMITTERS[Sort], Sort(1), x, target=TARGETS[target]())
