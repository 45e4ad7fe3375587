"""Kernels of pooling equal the reference: ties, NaN, infinities, padding and overlapping windows included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_kernels import avx2, check_kernel, host, run_kernel
from graphnn.backends.cpu.kernels.pooling import EMITTERS
from graphnn.ops.op import spec_of
from graphnn.ops.pooling import MaxPool, MaxPoolGradient, MaxPoolSelect, SumPool, SumPoolGradient

TARGETS = {"host": host, "avx2": avx2}
both = pytest.mark.parametrize("target", TARGETS)


def drawn(rng, shape, dtype):
    """Few different numbers, so that there are ties, with NaN and infinities now and then."""
    x = (rng.integers(-3, 4, shape) / 3).astype(dtype)
    for special in (np.nan, np.inf, -np.inf):
        x[rng.random(shape) < rng.choice([0.0, 0.1])] = special
    return x


def check_all(options, spatial, channels, batch, dtype, rng, target):
    """All five ops; the terms of a sum are of very different size, so that its order shows."""
    target = TARGETS[target]()
    forward, backward = MaxPool(*options), SumPoolGradient(*options, spatial=spatial)
    x = drawn(rng, (batch, *spatial, channels), dtype)
    v = (rng.normal(size=x.shape) * 2.0 ** rng.integers(-5, 5, x.shape)).astype(dtype)
    check_kernel(EMITTERS[MaxPool], forward, x, target=target)
    check_kernel(EMITTERS[SumPool], SumPool(*options), v, target=target)
    check_kernel(EMITTERS[MaxPoolSelect], MaxPoolSelect(*options), x, v, target=target)
    dy = rng.normal(size=forward.reference(np, x).shape).astype(dtype)
    check_kernel(EMITTERS[MaxPoolGradient], MaxPoolGradient(*options), x, dy, target=target)
    check_kernel(EMITTERS[SumPoolGradient], backward, dy, target=target)


@both
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_pooling(target, data):
    window, strides, padding, dilation, spatial = [], [], [], [], []
    for _ in range(data.draw(st.integers(1, 2))):
        window.append(data.draw(st.integers(1, 4)))
        strides.append(data.draw(st.integers(1, 3)))
        dilation.append(data.draw(st.sampled_from([1, 1, 2])))
        span = (window[-1] - 1) * dilation[-1] + 1
        padding.append(tuple(data.draw(st.integers(0, span - 1)) for _ in range(2)))
        spatial.append(max(span - sum(padding[-1]), 0) + data.draw(st.integers(0, 6)))
    options = (tuple(window), tuple(strides), tuple(padding), tuple(dilation))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    channels, batch = data.draw(st.sampled_from([0, 1, 2, 3, 16, 19, 39])), data.draw(st.integers(0, 2))
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64"]))
    check_all(options, tuple(spatial), channels, batch, dtype, rng, target)


@both
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("window", [(2, 2), (3, 3), (5, 7)])
def test_windows_side_by_side(target, dtype, window):
    """Windows that cover all elements once: dx is not filled before; those of 35 elements are walked by a loop."""
    options = (window, window, ((0, 0), (0, 0)), (1, 1))
    spatial = tuple(2 * n for n in window)
    check_all(options, spatial, 24, 2, dtype, np.random.default_rng(0), target)


@both
def test_padding_alone(target):
    """Windows that see no element at all."""
    options = ((2,), (1,), ((1, 1),), (3,))
    check_all(options, (3,), 5, 1, "float32", np.random.default_rng(0), target)
    check_all(((2,), (1,), ((1, 1),), (1,)), (0,), 5, 1, "float32", np.random.default_rng(0), target)


@both
def test_three_spatial_axes(target):
    options = ((2, 1, 3), (1, 2, 2), ((1, 0), (0, 0), (1, 1)), (1, 1, 1))
    check_all(options, (3, 4, 5), 9, 2, "float32", np.random.default_rng(0), target)


@both
@pytest.mark.parametrize("stride", [2, 1])
def test_sums_have_the_bits_of_the_reference(target, stride):
    """Signs of zeros included: a sum starts at +0."""
    options = ((2,), (stride,), ((0, 1),), (1,))
    dy = np.random.default_rng(0).choice(np.array([0.0, -0.0, 1.0, -1.0], "float32"), (2, 16 // stride, 19))
    for op, x in [(SumPool(*options), dy), (SumPoolGradient(*options, spatial=(16,)), dy)]:
        (spec,) = op.infer(spec_of(x))
        kernel = EMITTERS[type(op)](op, (spec_of(x),), (spec,), TARGETS[target]())
        y = np.empty(spec.shape, spec.dtype)
        assert run_kernel(kernel, [x], [y], TARGETS[target]()) == 0
        assert y.tobytes() == op.reference(np, x).tobytes()
