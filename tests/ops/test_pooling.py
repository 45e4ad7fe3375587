"""Pooling against PyTorch, means, named sizes and refusals; loops are in cases_convolution.py."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from graphnn.errors import OptionError, ShapeError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.dimension import Dimension
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Tensor
from graphnn.ops.pooling import MaxPool, MaxPoolGradient, SumPool, SumPoolGradient, average_pool, max_pool
from ops.helpers import call, check_gradient, gradients, trace

ONE = [((k,), (s,), (d,), ((low, high),)) for k, s, d, (low, high) in
       itertools.product([1, 2, 3], [1, 2, 3], [1, 2], [(0, 0), (1, 1), (0, 1)])
       if max(low, high) < d * (k - 1) + 1]  # fmt: skip
TWO = [(k, s, d, p) for k, s, d, p in
       itertools.product([(2, 2), (3, 2)], [(1, 1), (2, 3)], [(1, 1), (2, 1)],
                         [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (1, 0))])]  # fmt: skip
SHAPES = {1: (2, 9, 3), 2: (2, 7, 8, 3)}


@pytest.fixture(scope="module")
def peer():
    """PyTorch's pooling on channels-last NumPy arrays: the value, and its gradient for a cotangent made of it."""
    import torch
    from torch.nn import functional

    def both(x, padding, fill, run):
        tx = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
        y = run(functional.pad(tx, [width for pair in reversed(padding) for width in pair], value=fill))
        (dx,) = torch.autograd.grad(y, tx, torch.cos(y.detach()))
        return [np.moveaxis(z.detach().numpy(), 1, -1) for z in (y, dx)]

    def largest(x, window, strides, dilation, padding):
        run = (functional.max_pool1d, functional.max_pool2d)[len(window) - 1]
        return both(x, padding, -np.inf, lambda t: run(t, window, strides, dilation=dilation))

    def mean(x, window, strides, padding):
        run = (functional.avg_pool1d, functional.avg_pool2d)[len(window) - 1]
        return both(x, padding, 0.0, lambda t: run(t, window, strides))

    def mean_of_real(x, window, strides, pads):
        run = (functional.avg_pool1d, functional.avg_pool2d)[len(window) - 1]
        return both(x, [(0, 0)] * len(window), 0.0, lambda t: run(t, window, strides, pads, count_include_pad=False))

    return SimpleNamespace(largest=largest, mean=mean, mean_of_real=mean_of_real)


def assert_same(function, x, theirs):
    y = call(function, x)
    np.testing.assert_allclose(y, theirs[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(gradients(function, x, cotangent=np.cos(y))[0], theirs[1], rtol=0, atol=1e-12)


@pytest.mark.peers
@pytest.mark.parametrize("dimensions", [ONE, TWO], ids=["1d", "2d"])
def test_max_pool_is_that_of_pytorch_also_where_elements_are_equal(dimensions, peer):
    rng = np.random.default_rng(0)
    for window, strides, dilation, padding in dimensions:
        x = rng.integers(-2, 2, SHAPES[len(window)]).astype("float64")
        op = MaxPool(window, strides, padding, dilation)
        assert_same(op, x, peer.largest(x, window, strides, dilation, padding))


@pytest.mark.peers
@pytest.mark.parametrize("dimensions", [ONE, TWO], ids=["1d", "2d"])
def test_average_pool_is_that_of_pytorch(dimensions, peer):
    rng = np.random.default_rng(0)
    for window, strides, dilation, padding in dimensions:
        if set(dilation) != {1}:
            continue
        x = rng.normal(size=SHAPES[len(window)])
        options = (window, strides, padding)
        assert_same(lambda x, o=options: average_pool(x, *o), x, peer.mean(x, *options))
        if all(low == high for low, high in padding):
            theirs = peer.mean_of_real(x, window, strides, [low for low, _ in padding])
            assert_same(lambda x, o=options: average_pool(x, *o, count_padding=False), x, theirs)


@pytest.mark.parametrize("padding", [((0, 2),), ((2, 0),), ((1, 2),)])
def test_average_without_the_padding_keeps_constants(padding):
    pool = lambda x: average_pool(x, (3,), (2,), padding, count_padding=False)  # noqa: E731
    x = np.full((2, 5, 3), 7.0)
    np.testing.assert_allclose(call(pool, x), 7.0, rtol=1e-15)
    check_gradient(trace(pool, [x]), [x])


def test_max_pool_of_nan_is_nan_and_of_minus_infinity_is_that():
    x = np.array([1.0, np.nan, 2.0, -np.inf, -np.inf, -np.inf]).reshape(1, 6, 1)
    y = call(lambda x: max_pool(x, (2,), (1,), ((1, 0),)), x)
    np.testing.assert_array_equal(y.ravel(), [1.0, np.nan, np.nan, 2.0, -np.inf, -np.inf])


@pytest.mark.parametrize("op", [MaxPool, SumPool])
def test_named_sizes_bind_to_the_sizes_of_integers(op):
    names, sizes = (Dimension.named("batch"), Dimension.named("time")), {"batch": 2, "time": 9}
    for window, strides, dilation, padding in ONE:
        pool = op(window, strides, padding, dilation)
        x = TensorSpec((*names, 3))
        (y,) = pool.infer(x)
        assert y.bind(sizes) == pool.infer(x.bind(sizes))[0]
        assert MaxPoolGradient(window, strides, padding, dilation).infer(x, y) == (x,)
        assert SumPoolGradient(window, strides, padding, dilation, spatial=names[1:]).infer(y) == (x,)


def test_average_pool_takes_named_sizes():
    builder, names = ProgramBuilder(), (Dimension.named("batch"), Dimension.named("time"))
    x = Tensor(builder, builder.input("x", TensorSpec((*names, 3))))
    for count_padding in (True, False):
        pool = lambda x, c=count_padding: average_pool(x, (3,), (2,), ((1, 1),), c)  # noqa: E731
        assert pool(x).spec.bind({"batch": 2, "time": 9}).shape == call(pool, np.zeros((2, 9, 3))).shape


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (((2,), (0,), ((0, 0),), (1,)), OptionError),
        (((2,), (1,), ((0, 2),), (1,)), OptionError),
        (((2,), (1,), ((2, 0),), (1,)), OptionError),
        (((2, 2), (1,), ((0, 0),), (1,)), ShapeError),
        (((7,), (1,), ((0, 0),), (1,)), ShapeError),
        (((0,), (1,), ((0, 0),), (1,)), ShapeError),
    ],
)
def test_wrong_windows_are_refused(options, error):
    with pytest.raises(error):
        MaxPool(*options).infer(TensorSpec((1, 5, 2)))
