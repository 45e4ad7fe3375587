"""check_gradients: passes where gradients are right, and names exactly the node whose gradient is wrong."""

from dataclasses import dataclass

import numpy as np
import pytest

from graphnn import layers
from graphnn.errors import GradientError
from graphnn.gradient_check import check_gradients
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input, Layer
from graphnn.layers.numeric import NumericLayer
from graphnn.model import Model
from graphnn.ops import exp, log, sqrt
from graphnn.ops.convolution import Convolution
from graphnn.ops.elementwise import Sigmoid, Tanh
from graphnn.ops.op import Op
from graphnn.ops.reduction import Max
from module_cases import SMALL, bytes_of, net

CASES = {str(case): case for case in SMALL}
X = np.random.default_rng(0).normal(size=(4, 3))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_modules_pass(case, training):
    model = Model(case.graph)
    before = [bytes_of(store) for store in (model.parameters, model.states, model.gradients)], model.step
    report = check_gradients(model, **case.arrays(), training=training)
    assert [node.path for node in report.nodes] == [leaf.path for leaf in flatten(case.graph).leaves]
    assert max(node.error for node in report.nodes) < 1e-8
    assert any(node.error > 0 for node in report.nodes)
    assert ([bytes_of(store) for store in (model.parameters, model.states, model.gradients)], model.step) == before
    assert all(node.path in str(report) for node in report.nodes)


@dataclass(frozen=True, eq=False)
class Scaled(NumericLayer):
    """y = 2 x, with a gradient that is `factor` times too large."""

    factor: float = 1.0

    def output_spec(self, *specs):
        return specs[0]

    def forward(self, xp, x):
        return 2 * x

    def backward(self, xp, inputs, outputs, cotangents):
        return 2 * self.factor * cotangents[0]


def chain(factors):
    x = Input(("batch", 3), name="x")
    h = x
    for index, factor in enumerate(factors):
        h = layers.Tanh(name=f"act_{index}")(layers.Linear(3, name=f"fc_{index}")(h))
        h = Scaled(factor, name=f"scaled_{index}")(h)
    return Model(Graph(x, h))


@pytest.mark.parametrize("wrong", [(), (0,), (1,), (2,), (0, 2)])
@pytest.mark.parametrize("error", [2.0, 1.001, -1.0, 0.0])
def test_exactly_the_corrupted_layers_are_named(wrong, error):
    model = chain([error if index in wrong else 1.0 for index in range(3)])
    if not wrong:
        check_gradients(model, X)
        return
    with pytest.raises(GradientError, match="disagree") as caught:
        check_gradients(model, X)
    assert caught.value.where == ", ".join(f"scaled_{index}" for index in wrong)
    assert "by its gradient" in caught.value.got


def corrupt(monkeypatch, op: type[Op], factor=1.01):
    """All gradients that the op's rule gives are multiplied by a number a little above 1."""
    vjp = op.vjp

    def wrong(self, inputs, outputs, cotangents):
        return tuple(None if dx is None else dx * factor for dx in vjp(self, inputs, outputs, cotangents))

    monkeypatch.setattr(op, "vjp", wrong)


@pytest.mark.parametrize(
    ("name", "op", "nodes"),
    [
        ("wavenet", Tanh, "m/tanh"),
        ("wavenet", Sigmoid, "m/sigm"),
        ("wavenet", Convolution, "m/conv_dilation, m/conv_1x1"),
        ("identity", Convolution, "m/conv1, m/conv2"),
        ("conv", Convolution, "m/conv1, m/conv2, m/conv_skip"),
        ("lstm", Tanh, "m/cell_fwd, m/cell_bwd"),
    ],
)
def test_exactly_the_nodes_that_use_a_corrupted_op_are_named(monkeypatch, name, op, nodes):
    case = CASES[name]
    corrupt(monkeypatch, op)
    with pytest.raises(GradientError) as caught:
        check_gradients(Model(case.graph), **case.arrays())
    assert caught.value.where == nodes


@dataclass(frozen=True, eq=False)
class Formula(Layer):
    """A layer that is a function of tensors."""

    function: object = None

    def lower(self, scope, x):
        return self.function(x)


def of(function, *before):
    x = Input(("batch", 8), name="x")
    h = x
    for layer in before:
        h = layer(h)
    return Model(Graph(x, Formula(function, name="f")(h)))


EDGES = {
    "ReLU at 0": (of(lambda x: x, layers.ReLU()), np.zeros((2, 8))),
    "a maximum of equal numbers": (of(lambda x: x.max(1)), np.ones((2, 8))),
    "pooling of what a ReLU has made 0": (of(lambda x: x.max(1), layers.ReLU()), -np.ones((2, 8))),
    "large numbers": (of(lambda x: x * x), np.full((2, 8), 1e6)),
    "small numbers": (of(lambda x: x * x), np.full((2, 8), 1e-6)),
    "a pole nearby": (of(lambda x: log(x)), np.full((2, 8), 1e-5)),
    "a steep root": (of(lambda x: sqrt(x)), np.full((2, 8), 1e-5)),
    "a steep exponential": (of(lambda x: exp(x * 30.0)), np.ones((2, 8))),
    "a difference of large numbers": (of(lambda x: (x + 1000.0) - 1000.0), np.ones((2, 8))),
    "no example": (of(lambda x: x * x), np.ones((0, 8))),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_kinks_and_extremes_are_no_faults(name):
    model, x = EDGES[name]
    check_gradients(model, x)


@pytest.mark.parametrize("name", ["a maximum of equal numbers", "small numbers", "a pole nearby", "large numbers"])
def test_faults_are_found_at_kinks_and_extremes_too(name, monkeypatch):
    model, x = EDGES[name]
    for op in (Max, Op.registry["multiply"], Op.registry["log"]):
        corrupt(monkeypatch, op, 1.1)
    with pytest.raises(GradientError) as caught:
        check_gradients(model, x)
    assert caught.value.where == "f"


def test_frozen_nodes_are_checked_as_they_run():
    """A frozen batch norm uses its running statistics while training; dropout drops nothing."""
    model = Model(net())
    model.freeze("encoder")
    check_gradients(model, X, training=True)
    counts = {node.path: node.inputs for node in check_gradients(model, X, np.ones((4, 5))).nodes}
    assert counts["encoder/norm"] == 3  # x, scaler, intercept
    assert counts["head"] == 3


def test_a_missing_optional_input_of_integers_is_zeros():
    x, ids = Input(("batch", 3), name="x"), Input(("batch",), name="ids", dtype="int32", optional=True)
    model = Model(Graph([x, ids], layers.Embedding(3, 2, name="e")(ids) + x))
    check_gradients(model, X)
    inner_x, inner_ids = Input(("n", 3), name="x"), Input(("n",), name="ids", dtype="int32", optional=True)
    inner = Graph([inner_x, inner_ids], layers.Embedding(3, 2, name="e")(inner_ids) + inner_x, name="inner")
    outer = Input(("batch", 3), name="x")
    check_gradients(Model(Graph(outer, inner(outer))), X)


def test_nan_is_a_fault():
    with pytest.raises(GradientError) as caught:
        check_gradients(of(lambda x: log(x)), -np.ones((1, 8)))
    assert caught.value.where == "f"


def test_inputs_are_left_alone():
    x = X.copy()
    check_gradients(chain([1.0]), x)
    np.testing.assert_array_equal(x, X)
