"""Gradients at the edges of the domain, and the operators of Tensor."""

import numpy as np
import pytest

from graphnn.autodiff import append_gradients
from graphnn.errors import DTypeError
from graphnn.ops.arithmetic import maximum, minimum, power
from graphnn.ops.elementwise import absolute, where
from ops.helpers import call, gradients, trace


@pytest.mark.parametrize("op", [maximum, minimum], ids=["maximum", "minimum"])
def test_a_tie_shares_the_gradient_equally(op):
    np.testing.assert_array_equal(gradients(op, [1.0, 2.0], [1.0, 2.0]), [[0.5, 0.5], [0.5, 0.5]])


def test_where_takes_nothing_of_the_other_side():
    a, b = np.array([1.0, np.nan, 3.0]), np.array([np.nan, 5.0, np.inf])
    np.testing.assert_array_equal(call(lambda c, a, b: where(c, a, b), a < 4.0, a, b), [1.0, 5.0, 3.0])
    np.testing.assert_array_equal(gradients(lambda a, b: where(a > 2.0, a, b), a, b), [[0, 0, 1], [1, 1, 0]])


def test_absolute_has_gradient_zero_at_zero():
    np.testing.assert_array_equal(gradients(absolute, [-2.0, 0.0, 3.0]), [[-1, 0, 1]])


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_all_derivatives_of_whole_powers_are_finite_at_zero(exponent):
    value = np.poly1d([1.0] + [0.0] * exponent)
    function = lambda x: x ** float(exponent)  # noqa: E731
    for _ in range(4):
        np.testing.assert_allclose(call(function, [-2.0, 0.0, 3.0]), value([-2.0, 0.0, 3.0]), atol=1e-12)
        function, value = derivative(function), value.deriv()


def derivative(function):
    """The function of x whose value is the gradient of `function`, by building its gradient into the same program."""

    def gradient(x):
        y = function(x)
        found = append_gradients(x.builder, {y.value: y.fill(1.0, y.shape)}, [x.value])
        return found.get(x.value, x.fill(0.0, x.shape))

    return gradient


def test_the_exponent_has_gradient_zero_where_the_base_is_not_positive():
    _, db = gradients(power, [-2.0, 0.0, np.e], [2.0, 2.0, 2.0])
    np.testing.assert_allclose(db, [0, 0, np.e**2])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_python_numbers_take_the_dtype_of_the_tensor(dtype):
    x = np.array([1.0, 2.0, 4.0], dtype)
    y = call(lambda x: (2 - ((1.0 + x) * 3 / 2 - 1) ** 2.0 - -x) * 0.5 + 1 / x, x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, (2 - ((1.0 + x) * 3 / 2 - 1) ** 2.0 + x) * 0.5 + 1 / x, rtol=1e-3)


def test_a_fraction_does_not_fit_integers():
    with pytest.raises(DTypeError, match="fraction"):
        trace(lambda x: x + 0.5, [np.arange(3)])


def test_relations_and_logic_of_tensors():
    x, y = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])
    relations = [lambda x, y: x < y, lambda x, y: x <= y, lambda x, y: x > y, lambda x, y: ~(x >= y)]
    relations += [lambda x, y: (x <= y) & (x >= y), lambda x, y: (x < y) | (x > y)]
    expected = [[1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 0, 1]]
    for relation, values in zip(relations, expected, strict=True):
        np.testing.assert_array_equal(call(lambda x, y, r=relation: r(x, y).cast("float64"), x, y), values)


def test_a_tensor_has_no_truth_value_and_no_iterator():
    with pytest.raises(DTypeError, match="truth"):
        trace(lambda x: x if x > 0.0 else -x, [np.ones(2)])
    with pytest.raises(DTypeError, match="iterated"):
        trace(lambda x: next(iter(x)), [np.ones(2)])
