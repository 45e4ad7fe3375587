"""Layers that join tensors, and the operators that stand for them."""

import numpy as np
import pytest

from graphnn import Model
from graphnn.errors import GraphError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.layers import Add, Average, Divide, MatMul, Multiply, Subtract
from peers import compare, normal

SEVERAL = {
    Add: lambda a: a[0] + a[1] + a[2],
    Multiply: lambda a: a[0] * a[1] * a[2],
    Average: lambda a: (a[0] + a[1] + a[2]) / 3,
}
OPERATORS = {
    "x + y": lambda x, y: x + y,
    "x - y": lambda x, y: x - y,
    "x * y": lambda x, y: x * y,
    "x / y": lambda x, y: x / y,
    "precedence": lambda x, y: x + x * y,
    "numbers": lambda x, y: (2 - x) * 3 + 1 / y - y / 4 + (x - 0.5) + 1.5 * -y,
    "numbers of NumPy": lambda x, y: np.float64(2) * x - np.int64(3) + y * np.float32(0.5),
}


def joined(function, *arrays):
    inputs = [Input(("batch", *a.shape[1:]), name=name) for a, name in zip(arrays, "xyz", strict=False)]
    return Graph(inputs, function(*inputs))


@pytest.mark.peers
@pytest.mark.parametrize("kind", SEVERAL)
def test_joins_of_several_tensors_equal_torch(kind):
    arrays = dict(zip("xyz", (normal(2, 3, seed=n) for n in range(3)), strict=True))
    graph = joined(kind(act_fn="tanh"), *arrays.values())
    compare(graph, lambda i, p: SEVERAL[kind]([i["x"], i["y"], i["z"]]).tanh(), arrays)


@pytest.mark.peers
@pytest.mark.parametrize("text", OPERATORS)
def test_operators_equal_torch(text):
    arrays = {"x": normal(2, 3), "y": normal(2, 3, seed=1)}
    compare(joined(OPERATORS[text], *arrays.values()), lambda i, p: OPERATORS[text](i["x"], i["y"]), arrays)


@pytest.mark.peers
@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 4, 5)), ((2, 3, 3, 4), (2, 3, 4, 1))])
def test_products_of_matrices_equal_torch(shapes):
    arrays = dict(zip("xy", map(lambda s: normal(*s), shapes), strict=True))
    compare(joined(MatMul(), *arrays.values()), lambda i, p: i["x"] @ i["y"], arrays)
    compare(joined(lambda x, y: x @ y, *arrays.values()), lambda i, p: i["x"] @ i["y"], arrays)


@pytest.mark.parametrize("kind", [Add, Multiply, Average, Subtract, Divide])
def test_nothing_is_broadcast(kind):
    """A10: one channel beside four is a mistake."""
    x, y = Input(("batch", 4), name="x"), Input(("batch", 1), name="y")
    with pytest.raises(ShapeError, match="equal shape"):
        kind()(x, y)


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        (("batch", 5, 8), "bring the last axis of all to 4, for example with Linear"),
        (("batch", 6, 4), r"make axis 1 equal: pad and stride"),
        (("other", 6, 8), r"make axis 0, 1, 2 equal"),
        (("batch", 20), "as many axes, for example with Reshape"),
    ],
)
def test_unequal_shapes_come_with_advice(shape, advice):
    x, other = Input(("batch", 5, 4), name="x"), Input(shape, name="other")
    with pytest.raises(ShapeError, match=f"fix: .*{advice}"):
        Add(name="join")(x, other)


def test_sums_of_integers_stay_integers_and_kinds_are_not_mixed():
    """A33."""
    x, y = Input(("batch",), name="x", dtype="int64"), Input(("batch",), name="y")
    assert Model(Graph(x, x + x)).forward(np.array([1, 2])).dtype == "int64"
    with pytest.raises(TypeError, match="add"):
        Add()(x, y)


@pytest.mark.parametrize("other", [np.ones(4), "1", None])
def test_arrays_are_no_operands(other):
    x = Input(("batch", 4), name="x")
    for function in (lambda: x + other, lambda: x * other, lambda: x / other):
        with pytest.raises(GraphError, match="a symbolic tensor or a number"):
            function()
