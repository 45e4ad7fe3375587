"""The kernel of random bits gives the reference's bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_kernels import avx2, check_kernel, host
from graphnn.backends.cpu.kernels.random import EMITTERS
from graphnn.ops.random import RandomBits

TARGETS = {"host": host, "avx2": avx2}
word = st.one_of(st.sampled_from([0, 1, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 200),
    st.one_of(st.sampled_from([0, 2**64 - 1, 2**63]), st.integers(0, 2**64 - 1)),
    st.tuples(*[word] * 4),
)
def test_random_bits(target, count, stream, words):
    op = RandomBits((count,), stream)
    check_kernel(EMITTERS[RandomBits], op, np.array(words, "uint32"), target=TARGETS[target]())


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100), st.one_of(st.integers(0, 70), st.integers(2**33, 2**33 + 3)))
def test_part_of_a_larger_draw(target, count, first):
    arrays = np.array([1, 2, 3, 4], "uint32"), np.array(first, "int64")
    check_kernel(EMITTERS[RandomBits], RandomBits((count,), 5), *arrays, target=TARGETS[target]())


@pytest.mark.parametrize("target", TARGETS)
def test_all_draws_share_one_kernel(target):
    """Count and stream are passed at run time."""
    seed = np.array([1, 2, 3, 4], "uint32")
    ops = RandomBits((3, 1000), 7), RandomBits((5,), 2**63 + 1)
    first, second = (check_kernel(EMITTERS[RandomBits], op, seed, target=TARGETS[target]()) for op in ops)
    assert first.ir == second.ir
