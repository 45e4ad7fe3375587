"""Reductions and matrix products for all shapes, ties, and the functions made of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from graphnn.ops.linalg import matmul
from graphnn.ops.reduction import ArgMax, Max, Min, Sum, argmax, log_softmax, mean, softmax, squared_norm
from ops.case import Case, normal, spaced
from ops.cases_reduction import einsum, reduce
from ops.helpers import call, check_gradient, check_transpose, check_value, gradients, program_of, trace

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@given(data=st.data(), shape=SHAPES)
def test_sum_over_all_axes_of_all_shapes(data, shape):
    axes = tuple(axis for axis in range(len(shape)) if data.draw(st.booleans()))
    rest = tuple(n for axis, n in enumerate(shape) if axis not in axes)
    case = Case(Sum(axes), [normal(*shape)], reduce(sum, axes) if 0 not in shape else lambda x: np.zeros(rest))
    check_value(case, case.make())
    check_transpose(program_of(case.op, case.make()), case.make())


@pytest.mark.parametrize(("op", "function"), [(Max, max), (Min, min)])
@given(data=st.data(), shape=SHAPES.filter(lambda shape: 0 not in shape))
def test_extrema_over_all_axes_of_all_shapes(op, function, data, shape):
    axes = tuple(axis for axis in range(len(shape)) if data.draw(st.booleans()))
    case = Case(op(axes), [spaced(*shape)], reduce(function, axes))
    check_value(case, case.make())
    check_gradient(program_of(case.op, case.make()), case.make())


@given(data=st.data(), shape=SHAPES.filter(lambda shape: shape and 0 not in shape))
def test_argmax_names_the_first_largest(data, shape):
    axis = data.draw(st.integers(0, len(shape) - 1))
    x = np.array(data.draw(st.lists(st.integers(0, 2), min_size=math.prod(shape), max_size=math.prod(shape))))
    case = Case(ArgMax(axis), [], reduce(lambda row: row.index(max(row)), (axis,)))
    check_value(case, [x.reshape(shape)])


@pytest.mark.parametrize("op", [Max, Min])
def test_ties_share_the_gradient_equally(op):
    x = np.array([[1.0, 1.0, 1.0], [2.0, 3.0, 3.0]])
    reached = x == (x.max(1, keepdims=True) if op is Max else x.min(1, keepdims=True))
    (dx,) = gradients(op((1,)), x, cotangent=6.0)
    np.testing.assert_allclose(dx, 6.0 * reached / reached.sum(1, keepdims=True))


@given(shapes=mutually_broadcastable_shapes(signature="(i,k),(k,j)->(i,j)", max_dims=2, max_side=3, min_side=0))
def test_matrix_product_of_all_shapes(shapes):
    case = Case(matmul, [normal(*shape) for shape in shapes.input_shapes], einsum)
    check_value(case, case.make())
    check_gradient(program_of(case.op, case.make()), case.make())


def test_kept_axes_have_size_one():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(call(lambda x: x.sum(-1, keep=True), x), [[3.0], [12.0]])
    np.testing.assert_array_equal(call(lambda x: x.max((0, -1), keep=True), x), [[5.0]])
    np.testing.assert_array_equal(call(lambda x: argmax(x, -2).cast("float64"), x), [1, 1, 1])


@pytest.mark.parametrize("axes", [None, 0, -1, (0, 1), (2, 0)])
def test_mean_is_the_sum_over_the_count(axes):
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    np.testing.assert_allclose(call(lambda x: mean(x, axes), x), np.mean(x, axes), rtol=1e-14)
    np.testing.assert_allclose(call(squared_norm, x), np.vdot(x, x), rtol=1e-14)


def test_softmax_and_its_logarithm():
    x = np.random.default_rng(0).normal(size=(3, 4))
    expected = [[math.exp(a) / math.fsum(map(math.exp, row)) for a in row] for row in x]
    np.testing.assert_allclose(call(softmax, x), expected, rtol=1e-13)
    np.testing.assert_allclose(call(log_softmax, x), np.log(expected), rtol=1e-13)
    np.testing.assert_allclose(call(lambda x: softmax(x, 0), x.T), np.transpose(expected), rtol=1e-13)
    for function in (softmax, log_softmax):
        check_gradient(trace(function, [x]), [x])


def test_softmax_of_large_and_infinite_numbers():
    x = np.array([[1e4, -1e4, 1e4], [-math.inf, 0.0, -math.inf], [-math.inf] * 3])
    np.testing.assert_array_equal(call(softmax, x), [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(call(log_softmax, x[:2])[0], [-math.log(2), -2e4 - math.log(2), -math.log(2)])
    (dx,) = gradients(softmax, x, cotangent=[1.0, 2.0, 3.0])
    np.testing.assert_allclose(dx, [[-0.5, 0, 0.5], [0, 0, 0], [0, 0, 0]])
