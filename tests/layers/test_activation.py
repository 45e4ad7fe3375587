"""Activations, Softmax, LogSoftmax, and activations by name."""

import re

import numpy as np
import pytest

from graphnn import Model
from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.layers import GELU, Linear, LogSoftmax, Softmax
from graphnn.layers.activation import Activation, activation
from peers import compare, graph_of, normal

NAMES = sorted(kind.__name__ for kind in Activation.__subclasses__())
WITH_ARGUMENTS = [
    "LeakyReLU(alpha=0.1)",
    "ELU(alpha=2.0)",
    "Affine(slope=2.0, intercept=-1.0)",
    "GELU(approximate=False)",
]


def torch_of(name):
    import torch
    from torch.nn import functional

    return {
        "Affine": lambda x: x * 1.0,
        "Affine(slope=2.0, intercept=-1.0)": lambda x: 2 * x - 1,
        "ELU": functional.elu,
        "ELU(alpha=2.0)": lambda x: functional.elu(x, 2.0),
        "Exponential": torch.exp,
        "GELU": lambda x: functional.gelu(x, approximate="tanh"),
        "GELU(approximate=False)": functional.gelu,
        "HardSigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
        "Identity": lambda x: x * 1.0,
        "LeakyReLU": lambda x: functional.leaky_relu(x, 0.3),
        "LeakyReLU(alpha=0.1)": lambda x: functional.leaky_relu(x, 0.1),
        "ReLU": torch.relu,
        "SELU": torch.selu,
        "Sigmoid": torch.sigmoid,
        "SoftPlus": functional.softplus,
        "Swish": functional.silu,
        "Tanh": torch.tanh,
    }[name]


@pytest.mark.peers
@pytest.mark.parametrize("name", [*NAMES, *WITH_ARGUMENTS])
def test_activations_equal_torch(name):
    """B12, B18: in one dimension more, near the kinks and where exp is large."""
    twin = torch_of(name)
    x = np.concatenate([normal(2, 3, 40) * 3, np.linspace(-20.0, 20.0, 6)[None, :, None].reshape(2, 3, 1)], axis=2)
    compare(graph_of(activation(name), x), lambda i, p: twin(i["x"]), {"x": x})


@pytest.mark.peers
@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("layer", [Softmax, LogSoftmax])
def test_softmax_equals_torch_along_any_axis(layer, axis):
    """B7: of four axes too."""
    x = normal(2, 3, 4, 5) * 30
    twin = {Softmax: "softmax", LogSoftmax: "log_softmax"}[layer]
    compare(graph_of(layer(axis), x), lambda i, p: getattr(i["x"], twin)(axis), {"x": x})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", [*(name for name in NAMES if name != "Exponential"), "GELU(approximate=False)"])
def test_large_inputs_have_finite_values_and_slopes_of_the_models_dtype(name, dtype):
    """A33, B18: also where the square of the input overflows."""
    largest = float(np.finfo(dtype).max) / 4
    x = np.array([[-largest, -largest / 100, -300.0, -20.0, 0.0, 20.0, 300.0, largest / 100, largest]])
    model = Model(graph_of(activation(name), np.zeros_like(x)), dtype=dtype)
    y = model.forward(x)
    slope = model.backward(np.ones_like(y))
    assert y.dtype == slope.dtype == dtype
    assert np.isfinite(y).all()
    assert np.isfinite(slope).all()
    linear = name not in ("Sigmoid", "Tanh", "HardSigmoid")
    assert (y[0, -1] >= 0.9 * largest) if linear else (y[0, -1] == 1)


def test_gelu_keeps_its_tails_where_it_leaves_the_formula():
    x = np.array([[-17.0, -16.5, -16.0, -15.5, 15.5, 16.0, 16.5, 17.0]])
    model = Model(graph_of(GELU(), x), dtype="float64")
    np.testing.assert_allclose(model.forward(x), np.maximum(x, 0), atol=1e-12)
    np.testing.assert_allclose(model.backward(np.ones_like(x)), x > 0, atol=1e-12)


def test_a_row_of_only_minus_infinity_gives_zeros():
    x = np.array([[-np.inf, -np.inf], [0.0, -np.inf]])
    model = Model(graph_of(Softmax(), x), dtype="float64")
    assert model.forward(x).tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert model.backward(np.ones((2, 2))).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("text", [*NAMES, *WITH_ARGUMENTS])
def test_names_come_back_from_a_graph_file(text):
    """B12: by name, in any case, and as a layer."""
    x = Input(("batch", 3), name="x")
    for act_fn in (text, activation(text)):
        graph = Graph(x, Linear(2, act_fn=act_fn)(x))
        again = activation(Graph.from_json(graph.to_json()).nodes[0].layer.act_fn)
        assert (again.kind, again.hyperparameters) == (activation(text).kind, activation(text).hyperparameters)
    kind = re.match(r"\w+", text)[0]
    assert activation(kind.lower()).kind == activation(kind.upper()).kind == kind


@pytest.mark.parametrize(
    "text", ["soft", "", "relu(1)", "elu(beta=1)", "elu(alpha=__import__('os'))", "relu)", 3, np.tanh]
)
def test_unknown_activations_are_refused(text):
    """A19."""
    with pytest.raises(OptionError, match="activation"):
        activation(text)
