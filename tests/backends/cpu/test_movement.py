"""Kernels that move elements: equal to the reference, bit for bit, whatever the shape, dtype and vector width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_kernels import avx2, check_kernel, host
from graphnn.backends.cpu.kernels.movement import EMITTERS
from graphnn.ops.creation import Fill, Iota, StopGradient
from graphnn.ops.shape import BroadcastTo, Concatenate, Flip, Pad, Reshape, Slice, Transpose

DTYPES = ("bool", "float16", "float32", "float64", "int8", "uint32")  # element sizes 1, 2, 4 and 8
TARGETS = {"host": host, "avx2": avx2}
both = pytest.mark.parametrize("target", TARGETS)
sizes = st.one_of(st.integers(0, 5), st.sampled_from([7, 8, 15, 16, 17, 31, 33, 64, 130]))
few = settings(max_examples=25, deadline=None)


@st.composite
def shapes(draw, low=0, high=4, limit=60_000):
    shape = tuple(draw(st.lists(sizes, min_size=low, max_size=high)))
    while np.prod(shape, dtype=int) > limit:
        shape = tuple(n // 2 for n in shape)
    return shape


def filled(shape, dtype, seed=0):
    """Random bytes: NaN of all kinds among them."""
    count = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    raw = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 256, count, "uint8")
    return raw.view(dtype).reshape(shape)


def check(op, *arrays, target):
    check_kernel(EMITTERS[type(op)], op, *arrays, target=TARGETS[target]())


@both
@few
@given(st.data())
def test_transpose(target, data):
    shape, dtype = data.draw(shapes()), data.draw(st.sampled_from(DTYPES))
    check(Transpose(tuple(data.draw(st.permutations(range(len(shape)))))), filled(shape, dtype), target=target)


@both
@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_of_matrices(target, dtype):
    for rows, columns in [(16, 16), (4, 64), (64, 4), (100, 37), (19, 130), (3, 40), (40, 3)]:
        check(Transpose((1, 0)), filled((rows, columns), dtype), target=target)


@both
@few
@given(st.data())
def test_slice(target, data):
    shape, dtype = data.draw(shapes()), data.draw(st.sampled_from(DTYPES))
    starts = tuple(data.draw(st.integers(0, n)) for n in shape)
    stops = tuple(data.draw(st.integers(start, n)) for start, n in zip(starts, shape, strict=True))
    steps = tuple(data.draw(st.integers(1, 3)) for _ in shape)
    check(Slice(starts, stops, steps), filled(shape, dtype), target=target)


@both
@few
@given(st.data())
def test_pad(target, data):
    shape, dtype = data.draw(shapes(high=3, limit=2000)), data.draw(st.sampled_from(DTYPES))
    low, high = (tuple(data.draw(st.sampled_from([0, 0, 1, 2, 20])) for _ in shape) for _ in range(2))
    interior = tuple(data.draw(st.sampled_from([0, 0, 0, 1, 2])) for _ in shape)
    value = data.draw(st.sampled_from([0.0, 1.0])) if dtype in ("bool", "uint32") else -1.0
    check(Pad(low, high, interior, value), filled(shape, dtype), target=target)


@both
@few
@given(st.data())
def test_concatenate(target, data):
    shape, dtype = data.draw(shapes(low=1, limit=10_000)), data.draw(st.sampled_from(DTYPES))
    axis, lengths = data.draw(st.integers(0, len(shape) - 1)), data.draw(st.lists(sizes, min_size=1, max_size=4))
    parts = [filled((*shape[:axis], n, *shape[axis + 1 :]), dtype, n) for n in lengths]
    check(Concatenate(axis), *parts, target=target)


@both
@few
@given(st.data())
def test_flip(target, data):
    shape, dtype = data.draw(shapes()), data.draw(st.sampled_from(DTYPES))
    axes = tuple(axis for axis in range(len(shape)) if data.draw(st.booleans()))
    check(Flip(axes), filled(shape, dtype), target=target)


@both
@few
@given(st.data())
def test_broadcast(target, data):
    wide, dtype = data.draw(shapes()), data.draw(st.sampled_from(DTYPES))
    shape = tuple(1 if data.draw(st.booleans()) else n for n in wide)
    check(BroadcastTo(wide), filled(shape[data.draw(st.integers(0, len(shape))) :], dtype), target=target)


@both
@few
@given(st.data())
def test_views_and_constants(target, data):
    shape, dtype = data.draw(shapes()), data.draw(st.sampled_from(DTYPES))
    check(StopGradient(), filled(shape, dtype), target=target)
    check(Reshape((int(np.prod(shape, dtype=int)),)), filled(shape, dtype), target=target)
    check(Fill(float(data.draw(st.integers(0, 1))), shape, dtype), target=target)
    if dtype not in ("bool", "int8"):
        check(Fill(3.0, shape, dtype), target=target)
        for axis in range(len(shape)):
            check(Iota(shape, axis, dtype), target=target)


@both
def test_iota_at_the_ends_of_dtypes(target):
    """What a dtype cannot hold is left to the reference; floats are rounded, to infinity in the end."""
    check(Iota((3, 2), 1, "bool"), target=target)
    check(Iota((128,), 0, "int8"), target=target)
    check(Iota((70_000,), 0, "float16"), target=target)
    for op in (Iota((3,), 0, "bool"), Iota((129,), 0, "int8")):
        assert EMITTERS[Iota](op, (), op.infer(), host()) is None


def test_equal_rows_share_their_code():
    """The number of rows is passed at run time."""

    def text(*shape):
        op, x = Transpose((0, 2, 1, 3)), filled(shape, "float32")
        return check_kernel(EMITTERS[Transpose], op, x).ir

    assert text(2, 10, 4, 64) == text(7, 10, 4, 64) != text(2, 10, 4, 32)
    pad = Pad((0, 1, 2), (0, 1, 0), (0, 0, 0))
    padded = [check_kernel(EMITTERS[Pad], pad, filled((n, 3, 5), "float32")).ir for n in (2, 9)]
    assert padded[0] == padded[1]
    flat = [check_kernel(EMITTERS[Fill], Fill(value, (n,))).ir for n, value in [(1024, 1.0), (2048, -2.5)]]
    assert flat[0] == flat[1]
