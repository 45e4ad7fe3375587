"""Kernels that read and add at indices: equal to the reference, sums included; wrong indices are reported."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cpu_kernels import avx2, check_kernel, host, run_kernel
from graphnn.backends.cpu.kernels.indexing import EMITTERS
from graphnn.ops.indexing import CumulativeSum, Gather, GatherAlong, OneHot, ScatterAdd, ScatterAddAlong
from graphnn.ops.op import spec_of
from graphnn.ops.reduction import ArgMax

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
TARGETS = {"host": host, "avx2": avx2}
both = pytest.mark.parametrize("target", TARGETS)
sizes = st.one_of(st.integers(0, 4), st.sampled_from([7, 8, 9, 16, 17, 33]))
shapes = st.lists(sizes, min_size=1, max_size=3).map(tuple)
numbers = st.sampled_from((*FLOATS, *INTEGERS))
few = settings(max_examples=25, deadline=None)


def drawn(rng, shape, dtype):
    """Numbers of very different size, so that the order of a sum shows in its bits; integers run over."""
    if dtype in FLOATS:
        return (rng.normal(size=shape) * 2.0 ** rng.integers(-6, 6, shape)).astype(dtype)
    return rng.integers(0, 2 if dtype == "bool" else 120, shape).astype(dtype)


def indices(data, rng, shape, size):
    shape = shape if size else (0,)  # there is nothing to point at
    return rng.integers(0, max(size, 1), shape).astype(data.draw(st.sampled_from(INTEGERS)))


def generator(data):
    return np.random.default_rng(data.draw(st.integers(0, 1000)))


def check(op, *arrays, target):
    check_kernel(EMITTERS[type(op)], op, *arrays, target=TARGETS[target]())


@both
@few
@given(st.data())
def test_gather_and_scatter(target, data):
    rng, shape, dtype = generator(data), data.draw(shapes), data.draw(numbers)
    axis = data.draw(st.integers(0, len(shape) - 1))
    positions = indices(data, rng, data.draw(st.lists(st.integers(0, 5), max_size=2)), shape[axis])
    check(Gather(axis), drawn(rng, shape, dtype), positions, target=target)
    updates = drawn(rng, (*shape[:axis], *positions.shape, *shape[axis + 1 :]), dtype)
    check(ScatterAdd(axis, shape[axis]), updates, positions, target=target)


@both
@few
@given(st.data())
def test_gather_and_scatter_along(target, data):
    rng, shape, dtype = generator(data), data.draw(shapes), data.draw(numbers)
    axis, count = data.draw(st.integers(0, len(shape) - 1)), data.draw(st.integers(0, 9))
    along = (*shape[:axis], count if shape[axis] else 0, *shape[axis + 1 :])
    positions = rng.integers(0, max(shape[axis], 1), along).astype(data.draw(st.sampled_from(INTEGERS)))
    check(GatherAlong(axis), drawn(rng, shape, dtype), positions, target=target)
    check(ScatterAddAlong(axis, shape[axis]), drawn(rng, along, dtype), positions, target=target)


@both
@few
@given(st.data())
def test_one_hot(target, data):
    rng, depth = generator(data), data.draw(st.integers(1, 20))
    positions = indices(data, rng, data.draw(shapes), depth)
    check(OneHot(depth, data.draw(st.sampled_from((*FLOATS, "int8", "bool")))), positions, target=target)


@both
@few
@given(st.data())
def test_cumulative_sum(target, data):
    rng, shape, dtype = generator(data), data.draw(shapes), data.draw(numbers)
    axis, reverse, exclusive = data.draw(st.integers(0, len(shape) - 1)), *data.draw(st.tuples(*[st.booleans()] * 2))
    check(CumulativeSum(axis, reverse, exclusive), drawn(rng, shape, dtype), target=target)


@both
@few
@given(st.data())
def test_argmax(target, data):
    rng, shape = generator(data), tuple(n + 1 for n in data.draw(shapes))
    dtype = data.draw(st.sampled_from((*FLOATS, *INTEGERS, "bool")))
    x = rng.integers(-3, 3, shape).astype(dtype) if dtype in FLOATS else drawn(rng, shape, dtype)
    if dtype in FLOATS:
        x[rng.random(shape) < data.draw(st.sampled_from([0.0, 0.1, 1.0]))] = np.nan
        x[rng.random(shape) < 0.1] = -np.inf
    check(ArgMax(data.draw(st.integers(0, len(shape) - 1))), x, target=target)


@both
@few
@given(st.data())
def test_argmax_of_rows(target, data):
    """Rows of some vectors and a rest, full of ties."""
    rng, dtype = generator(data), data.draw(st.sampled_from((*FLOATS, "int8", "uint32", "int64")))
    shape = 5, data.draw(st.integers(20, 150))
    x = rng.integers(0, data.draw(st.integers(1, 50)), shape).astype(dtype)
    if dtype in FLOATS:
        x[rng.random(shape) < data.draw(st.sampled_from([0.0, 0.02]))] = np.nan
    check(ArgMax(1), x, target=target)


WRONG = [
    (Gather(0), np.ones((3, 5), "float32")),
    (ScatterAdd(0, 3), np.ones((4, 5), "float32")),
    (ScatterAdd(0, 3), np.ones((4, 5), "float16")),
    (GatherAlong(0), np.ones(3, "float32")),
    (ScatterAddAlong(0, 3), np.ones(4, "float32")),
    (OneHot(3), None),
]


@both
@given(st.sampled_from(WRONG), st.sampled_from([3, -1, 100, -128]), st.integers(0, 3), st.sampled_from(INTEGERS))
@example(WRONG[0], 2**63 - 1, 0, "int64")
@example(WRONG[0], 2**63, 0, "uint64")
@settings(max_examples=40, deadline=None)
def test_wrong_indices_are_reported(target, case, index, place, dtype):
    op, x = case
    if index < 0 and dtype.startswith("u"):
        index += 256
    positions = np.array([0, 1, 2, 0], dtype)
    positions[place] = index
    arrays = [positions] if x is None else [x, positions]
    specs = tuple(map(spec_of, arrays))
    outs = op.infer(*specs)
    kernel = EMITTERS[type(op)](op, specs, outs, TARGETS[target]())
    assert run_kernel(kernel, arrays, [np.empty(y.shape, y.dtype) for y in outs], TARGETS[target]()) != 0


@both
def test_indices_into_nothing_are_reported(target):
    arrays = [np.empty((0, 2), "float32"), np.array([0])]
    specs = tuple(map(spec_of, arrays))
    kernel = EMITTERS[Gather](Gather(0), specs, Gather(0).infer(*specs), TARGETS[target]())
    assert run_kernel(kernel, arrays, [np.empty((1, 2), "float32")], TARGETS[target]()) != 0
