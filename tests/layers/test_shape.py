"""Flatten, Reshape, Transpose, Concatenate, Pad, Slice, Zeros."""

import numpy as np
import pytest

from graphnn.errors import DimensionError, OptionError, ShapeError
from graphnn.graph.layer import Input
from graphnn.layers import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Zeros
from peers import graph_of, normal, run

CASES = [
    (Flatten(), (2, 3, 4, 5), lambda x: x.reshape(2, 60)),
    (Flatten(), (2, 3), lambda x: x),
    (Flatten("last"), (2, 3, 4, 5), lambda x: x.reshape(24, 5)),
    (Flatten(-1), (2, 3, 4), lambda x: x.reshape(1, 24)),
    (Reshape((0, 0, 2, 3)), (4, 5, 6), lambda x: x.reshape(4, 5, 2, 3)),
    (Reshape((-1, 3)), (4, 5, 6), lambda x: x.reshape(40, 3)),
    (Reshape((0, -1, 2)), (3, 5, 4), lambda x: x.reshape(3, 10, 2)),
    (Transpose((0, 2, 1)), (2, 3, 4), lambda x: x.transpose(0, 2, 1)),
    (Transpose((-1, 0, 1)), (2, 3, 4), lambda x: x.transpose(2, 0, 1)),
    (Pad(((0, 0), (1, 2), (0, 3))), (2, 3, 4), lambda x: np.pad(x, ((0, 0), (1, 2), (0, 3)))),
    (Pad(((0, 1), (0, 0)), -2.0), (2, 3), lambda x: np.pad(x, ((0, 1), (0, 0)), constant_values=-2.0)),
    (Slice(1, 1), (2, 5, 3), lambda x: x[:, 1:]),
    (Slice(1, 1, -1, 2), (2, 6, 3), lambda x: x[:, 1:-1:2]),
    (Slice(-1, -2), (2, 5, 3), lambda x: x[..., -2:]),
    (Zeros(), (2, 3), np.zeros_like),
    (Concatenate(), (2, 3, 4), lambda x: x),
]


@pytest.mark.parametrize(("layer", "shape", "expected"), CASES, ids=lambda value: getattr(value, "kind", None))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_gradient(layer, shape, expected, dtype):
    """Elements move; the gradient is the transpose of that linear map, which is read off by moving their numbers."""
    x = normal(*shape, dtype=dtype)
    y = expected(x)
    seed = normal(*y.shape, dtype=dtype, seed=1)
    outcome = run(graph_of(layer, x), {"x": x}, {}, seeds={"y": seed}, dtype=dtype)
    np.testing.assert_array_equal(outcome.outputs["y"], y)
    assert outcome.outputs["y"].dtype == outcome.gradients["x"].dtype == dtype
    np.testing.assert_array_equal(outcome.gradients["x"], moved_back(expected, x, seed))


def moved_back(expected, x, seed):
    """Each element of the seed at the place of x that its element of y came from."""
    places = expected(np.arange(1.0, x.size + 1).reshape(x.shape))
    gradient = np.zeros(x.size + 1, x.dtype)
    came_from_x = (places > 0) & (places == places.astype(int))
    np.add.at(gradient, places[came_from_x].astype(int), seed[came_from_x])
    return gradient[1:].reshape(x.shape)


def test_concatenate_joins_and_splits():
    x, y = normal(2, 3, 4), normal(2, 3, 5)
    outcome = run(graph_of(Concatenate(-1), x, y), {"x_0": x, "x_1": y}, {}, seeds={"y": normal(2, 3, 9, seed=7)})
    np.testing.assert_array_equal(outcome.outputs["y"], np.concatenate([x, y], -1))
    both = np.concatenate([outcome.gradients["x_0"], outcome.gradients["x_1"]], -1)
    np.testing.assert_array_equal(both, normal(2, 3, 9, seed=7))


def test_named_sizes_go_through():
    x = Input(("batch", "time", 6))
    assert str(Flatten()(x).spec) == "float32[batch, 6*time]"
    assert str(Flatten("last")(x).spec) == "float32[batch*time, 6]"
    assert str(Reshape((0, 0, 2, -1))(x).spec) == "float32[batch, time, 2, 3]"
    assert str(Reshape((0, -1, 3))(x).spec) == "float32[batch, 2*time, 3]"
    assert str(Slice(1, 1, -1)(x).spec) == "float32[batch, time - 2, 6]"
    assert str(Concatenate(1)(x, x).spec) == "float32[batch, 2*time, 6]"


@pytest.mark.parametrize(
    ("layer", "shape", "error", "text"),
    [
        (Flatten("middle"), (2, 3), OptionError, '"first", "last" or -1'),
        (Flatten(), (), ShapeError, "rank 1 or more"),
        (Reshape((2, -1, -1)), (2, 6), OptionError, "at most one -1"),
        (Reshape((2, 4.0)), (2, 4), OptionError, "not a shape"),
        (Reshape((0, 0, 0)), (2, 6), ShapeError, "0 keeps an axis"),
        (Reshape((0, 4, -1)), (2, 6), ShapeError, "do not divide"),
        (Reshape((0, 4)), (2, 6), ShapeError, "number of elements"),
        (Reshape((0, 4, -1)), ("batch", 6), DimensionError, "do not divide"),
        (Transpose((0, 2)), (2, 3), OptionError, "out of range"),
        (Transpose((0, 0)), (2, 3), OptionError, "not an order"),
        (Pad(((1, 1),)), (2, 3), OptionError, "2 pairs"),
        (Pad(((1, 1), (0, -1))), (2, 3), OptionError, "negative"),
        (Slice(2), (2, 3), OptionError, "out of range"),
        (Slice(1, 0, 4), (2, 3), ShapeError, "outside"),
        (Slice(1, -4), (2, 3), ShapeError, "outside"),
        (Slice(1, 2, 1), (2, 3), ShapeError, "outside"),
        (Slice(1, step=0), (2, 3), OptionError, "1 or more"),
        (Concatenate(2), (2, 3), OptionError, "out of range"),
    ],
)
def test_misfits_are_refused_at_declaration(layer, shape, error, text):
    with pytest.raises(error, match=text) as caught:
        layer(Input(shape, name="x"))
    assert layer.default_name in caught.value.where


def test_joined_shapes_must_agree_elsewhere():
    with pytest.raises(ShapeError, match="equal but for axis 2"):
        Concatenate()(Input(("batch", "time", 3)), Input(("batch", "time + 1", 3)))
